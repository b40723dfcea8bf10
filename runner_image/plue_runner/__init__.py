"""The runner: executes exactly one attempt of one run, reports all that happens, and is gone.

It imports only ``plue.wire``, ``plue.errors`` and ``plue.marks``. Everything that a step needs is
imported before the claim, so that an assignment starts its first step within a few milliseconds.
"""
