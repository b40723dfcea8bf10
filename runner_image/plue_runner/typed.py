"""A step's standard output as the typed JSON that ``output=schema(...)`` declares."""

from collections.abc import Mapping

from pydantic import JsonValue
from pydantic_core import from_json

from plue.schemas import filled, problems
from plue.wire.events import Reason
from plue_runner.faults import Fault

__all__ = ["parsed"]


def parsed(text: str, schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return *text*, a JSON object, as the schema wants it. Raises Fault (InvalidOutput)."""
    try:
        value: JsonValue = from_json(text)
    except ValueError as error:
        raise Fault(
            Reason.INVALID_OUTPUT,
            f"standard output is not JSON: {error}",
            remedy="print one JSON object and nothing else; send messages to standard error",
        ) from error
    problem = next(problems(schema, value, "output"), None)
    if problem is not None:
        raise Fault(Reason.INVALID_OUTPUT, f"standard output does not fit its schema: {problem}")
    if not isinstance(value, dict):
        raise Fault(Reason.INVALID_OUTPUT, "standard output is JSON, but not an object")
    whole = filled(schema, value)
    return whole if isinstance(whole, dict) else value
