"""Prompts as documents: ``.plue/prompts/*.prompt.md`` and what workflows import of them.

Nothing here is imported before a request has prompts: PyYAML and Jinja2 take 0.2 s together.
"""
