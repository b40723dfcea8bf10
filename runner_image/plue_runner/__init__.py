"""The runner: executes exactly one attempt of one run, reports all that happens, and is gone.

It imports only ``plue.wire`` and ``plue.errors``. Everything that a step needs is imported before
the claim, so that an assignment starts its first step within a few milliseconds.
"""
