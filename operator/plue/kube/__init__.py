"""Kubernetes: the operator that turns resources into runs, and pods into runners.

Handlers of kopf only fill caches and wake passes; see ``operator``. Nothing else of Plue imports
this package or kopf.
"""
