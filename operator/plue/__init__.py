"""Plue: a self-hosted workflow engine for teams whose work is half code, half agents.

What a workflow file imports from here (``from plue import workflow, push``) exists only inside
the evaluator's sandbox; ``plue/__init__.pyi`` describes those names to an editor.
"""

__version__ = "0.1.0"
