"""Prompts' templates: Jinja2 with a fence, rendered where the values are known.

The runner renders when a step starts; the evaluator renders previews. Both call this one package,
which knows neither: text and JSON go in, text or a :class:`TemplateFault` comes out. Importing
``plue.templating.rendering`` imports Jinja2, which takes 0.15 s: it is imported where it is used.
"""
