"""From the evaluator's JSON to what the rest of Plue reads: plans, descriptions, diagnostics."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from plue.authoring.codes import EXPLANATIONS, Code
from plue.authoring.results import Diagnostic, Planned, Trigger, WorkflowInfo, read_as
from plue.domain.growth import answer_of
from plue.errors import InternalError, UnavailableError
from plue.wire.plan import Plan, Text

__all__ = ["diagnostic_of", "digest_of", "ended", "info_of", "parsed_answer", "planned_of"]

_TEXTS: Final = TypeAdapter(dict[str, Text])
_ENDS: Final = {
    "timeout": (Code.TIMEOUT, "look for a loop that does not end; work belongs into steps"),
    "memory": (Code.MEMORY, "work on large data belongs into steps"),
    "too_large": (Code.RESULT_TOO_LARGE, "pass large texts through files of the workspace"),
    "forbidden": (Code.FORBIDDEN_CALL, "files, network and processes belong into steps"),
    "crashed": (Code.CRASHED, "look for very deep nesting or very large values"),
}


def digest_of(plan: Plan) -> str:
    """Return the SHA-256 of the JSON of everything in *plan* but its digest.

    Fields come in the order of their models, names in that in which the code gave them: the same
    code gives the same bytes. Sorting them would cost more than making the plan.
    """
    return hashlib.sha256(to_json(plan, exclude={"digest"})).hexdigest()


def ended(reason: str, path: str, line: int, wall: float) -> Diagnostic:
    """Return the diagnostic of an evaluation that ended without an answer, and why."""
    code, remedy = _ENDS.get(reason, _ENDS["crashed"])
    message = EXPLANATIONS[code].title[0].lower() + EXPLANATIONS[code].title[1:]
    if reason == "timeout":
        message = f"the evaluation took longer than {wall:g} seconds"
    return Diagnostic(str(code), message, path, line, remedy=remedy)


def parsed_answer(body: bytes) -> dict[str, Any]:
    """Return what a child answered. Raises InternalError when it is a fault of ours."""
    try:
        found = from_json(body)
    except ValueError as error:
        raise InternalError("the evaluator gave an answer that is not JSON") from error
    if not isinstance(found, dict) or "diagnostics" not in found:
        said = found.get("crash") if isinstance(found, dict) else None
        raise InternalError(f"the evaluator failed: {said or 'its answer is not an object'}")
    return found


def diagnostic_of(item: Mapping[str, Any]) -> Diagnostic:
    """Return a diagnostic as the evaluator wrote it."""
    related = item.get("related")
    return read_as(
        Diagnostic,
        {**item, "related": (str(related[0]), int(related[1])) if related else None},
    )


def info_of(item: Mapping[str, Any]) -> WorkflowInfo:
    """Return what a workflow declares."""
    return read_as(
        WorkflowInfo,
        {
            **item,
            "triggers": [Trigger(t["kind"], t["options"]) for t in item["triggers"]],
            "env": _TEXTS.validate_python(item["env"]),
        },
    )


def planned_of(answer: Mapping[str, Any]) -> Planned:
    """Return a stage of a plan. Raises InternalError when it is not valid.

    A field of it that is not known here is something that we would not do. So it is not left out
    but waited for, until who reads it is as new as who wrote it: raises UnavailableError. Since a
    plan holds no field at its default, plans that use nothing new do not wait.
    """
    plan = None
    if answer["plan"] is not None:
        try:
            plan = Plan.model_validate(answer["plan"])
        except ValidationError as error:
            unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
            if unknown:
                field = ".".join(str(part) for part in unknown[0])
                raise UnavailableError(
                    f"the evaluator is of a newer version: its plan has {field}",
                    remedy="bring this server to the evaluator's version; the chart's upgrade does",
                ) from error
            raise InternalError(f"the evaluator made a plan that is not valid: {error}") from error
        plan = plan.model_copy(update={"digest": digest_of(plan)})
    return Planned(
        plan=plan,
        info=info_of(answer["info"]) if answer["info"] else None,
        inputs=answer["inputs"],
        diagnostics=[diagnostic_of(item) for item in answer["diagnostics"]],
        printed=answer["printed"],
        why={name: [answer_of(one) for one in found] for name, found in answer["why"].items()},
    )
