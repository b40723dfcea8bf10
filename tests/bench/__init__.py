"""Measurements against the goals: `make bench`, or `python -m bench --help`."""
