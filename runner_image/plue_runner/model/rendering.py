"""What the model is given: a prompt's inputs, resolved and checked, and its text."""

from collections.abc import Mapping

from pydantic import JsonValue

from plue.schemas import filled, options_of, problems
from plue.templating.faults import FaultKind, TemplateFault
from plue.wire.events import Reason
from plue.wire.plan import Prompt, Ref
from plue_runner.faults import Fault
from plue_runner.values import Values

__all__ = ["inputs_of", "rendered_prompt"]


def inputs_of(prompt: Prompt, values: Values) -> dict[str, JsonValue]:
    """Return the prompt's inputs as plain JSON, defaults filled in, checked by their schema.

    Raises Fault: MissingValue for what is absent or null and may not be, InvalidInput for what
    does not fit.
    """
    fields = prompt.inputs_schema.get("properties")
    schemas = fields if isinstance(fields, dict) else {}
    found: dict[str, JsonValue] = {}
    for name, given in prompt.inputs.items():
        value = values.json(given)
        schema = schemas.get(name)
        optional = isinstance(schema, dict) and options_of(schema)[1]
        if value is None and isinstance(given, Ref) and not optional:
            raise values.missing(given)
        found[name] = value
    problem = next(problems(prompt.inputs_schema, found, prompt.prompt), None)
    if problem is not None:
        raise Fault(
            Reason.INVALID_INPUT,
            problem,
            remedy=f"pass what the inputs of {prompt.template} declare",
        )
    whole = filled(prompt.inputs_schema, found, nulls=True)
    return whole if isinstance(whole, dict) else found


def rendered_prompt(
    prompt: Prompt, values: Mapping[str, JsonValue], schema: Mapping[str, JsonValue] | None
) -> str:
    """Return the text that the model is given. Raises Fault (PromptFailed) with file and line."""
    from plue.templating.rendering import render

    try:
        return render(prompt.template, prompt.sources, values, output_schema=schema)
    except TemplateFault as fault:
        limit = fault.kind is FaultKind.LIMIT
        raise Fault(
            Reason.VALUE_TOO_LARGE
            if limit and "characters" in fault.message
            else Reason.PROMPT_FAILED,
            f"{fault.file}:{fault.line}: {fault.message}",
            remedy=fault.remedy,
        ) from None
