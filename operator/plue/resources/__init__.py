"""What users write: the custom resources, declared once; ``crds/`` is generated from here.

Nothing in this package does I/O. The shapes outlive releases: fields are added, never renamed.
"""
