"""From a prompt's files and its values to the text that a model is given."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from jinja2 import TemplateNotFound, TemplateSyntaxError, UndefinedError
from jinja2.environment import Template
from jinja2.exceptions import SecurityError

from plue.templating.environment import Fence
from plue.templating.faults import FaultKind, TemplateFault
from plue.templating.sources import SourceText

__all__ = ["OUTPUT_SCHEMA", "render", "schema_text"]

OUTPUT_SCHEMA: Final = "output_schema"
"""The name under which a template finds the JSON Schema of its output, as text."""


def schema_text(schema: Mapping[str, Any]) -> str:
    """Return a schema as a model reads it best: one field a line."""
    return json.dumps(schema, indent=2, ensure_ascii=False)


def render(
    template: str,
    sources: Mapping[str, SourceText],
    values: Mapping[str, Any],
    *,
    output_schema: Mapping[str, Any] | None = None,
) -> str:
    """Return the text of *template*, a key of *sources*, with *values*: plain JSON by input.

    Empty lines at its beginning and end are cut. Raises TemplateFault with file and line.
    """
    fence = Fence(sources)
    known = dict(values)
    if output_schema is not None:
        known[OUTPUT_SCHEMA] = schema_text(output_schema)
    try:
        return _rendered(fence, template, known)
    except Exception as error:  # noqa: BLE001 - whatever a template raises has a place in it
        raise _fault(error, template, sources) from None


def _rendered(fence: Fence, template: str, values: Mapping[str, Any]) -> str:
    whole = fence.get_template(template)
    size, pieces = 0, []
    for piece in whole.root_render_func(whole.new_context(dict(values))):
        size += len(piece)
        fence.budget.rendered(size)
        pieces.append(piece)
    return "".join(pieces).strip("\n")


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


def _fault(error: Exception, template: str, sources: Mapping[str, SourceText]) -> TemplateFault:
    """Return *error* as a fault with the innermost place in a template."""
    fault = error if isinstance(error, TemplateFault) else _translated(error)
    if not fault.line:
        fault.file, fault.line = _place(error, template, sources)
    return fault


def _translated(error: Exception) -> TemplateFault:  # noqa: PLR0911 - a table of errors
    match error:
        case UndefinedError():
            remedy = "declare it in inputs, or correct its spelling"
            if "field" in str(error):
                remedy = "correct its spelling, or test it first: {% if thing.field is defined %}"
            return TemplateFault(FaultKind.UNDEFINED, str(error), remedy=remedy)
        case TemplateNotFound():
            name = str(error.name)
            return TemplateFault(FaultKind.FILE, f"there is no file {name}", word=name)
        case TemplateSyntaxError():
            return TemplateFault(FaultKind.SYNTAX, error.message or "it is not a template")
        case SecurityError():
            return TemplateFault(FaultKind.FORBIDDEN, str(error), remedy="write it another way")
        case RecursionError():
            return TemplateFault(
                FaultKind.LIMIT,
                "macros or values are nested without end",
                remedy="look for a macro that calls itself without a condition",
            )
        case MemoryError():
            return TemplateFault(
                FaultKind.LIMIT, "rendering needs too much memory", remedy="pass less text"
            )
        case _:
            said = str(error) or type(error).__name__
            return TemplateFault(
                FaultKind.VALUE, said[:500], remedy="look at the types of the values"
            )


def _place(error: Exception, template: str, sources: Mapping[str, SourceText]) -> tuple[str, int]:
    if isinstance(error, TemplateSyntaxError):
        file = error.name or template
        return file, _in_file(sources, file, error.lineno)
    file, line = template, 1
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        found = traceback.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(found, Template) and found.name is not None:
            file, line = found.name, found.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return file, _in_file(sources, file, line)


def _in_file(sources: Mapping[str, SourceText], file: str, line: int) -> int:
    source = sources.get(file)
    return line if source is None else line + source.line - 1
