"""Postgres behind a narrow port: nobody outside this package knows the driver or writes SQL.

Statements stand in ``sql/*.sql``, each with a name and a sentence; ``migrations`` holds numbered
scripts. One writer per column group: runs.py (submission), queue.py (claims), events.py (the
hot path), lifecycle.py (ends, cancels, retention), runners.py.
"""
