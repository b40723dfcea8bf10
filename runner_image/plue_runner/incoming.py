"""Reads the gateway's frames; a plan that we cannot read, whole or a stage of it, is still one.

A newer server may plan steps that this runner does not know. The run must then end with a message
that says so, rather than wait for an answer that never comes.
"""

import json
from dataclasses import dataclass

from pydantic import ValidationError

from plue.wire.events import Reason
from plue.wire.frames import Extend, FromGateway, from_gateway
from plue.wire.stages import Extension, Trouble
from plue_runner.faults import Fault, short

__all__ = ["Incoming", "parsed_frame"]

_NO_PLAN = {"workflow": "", "revision": "", "end": {}}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A frame; with ``problem``, its assignment has an empty plan in the place of its own."""

    frame: FromGateway
    problem: Fault | None = None


def parsed_frame(message: str) -> Incoming:
    """Return the frame. Raises pydantic.ValidationError when it cannot be understood."""
    try:
        return Incoming(from_gateway(message))
    except ValidationError as error:
        frame = _without_steps(message, error)
        if frame is not None:
            return Incoming(frame)
        frame = _without_plan(message)
        if frame is None:
            raise
        return Incoming(frame, _problem(error))


def _without_steps(message: str, error: ValidationError) -> FromGateway | None:
    """Return a stage that plans nothing and says why, in the place of one that we cannot read."""
    problem = _problem(error)
    try:
        raw = json.loads(message)
        trouble = Trouble(reason=problem.reason, message=str(problem))
        extension = Extension(stage=raw["extension"]["stage"], trouble=trouble)
        return Extend(run=raw["run"], attempt=raw["attempt"], extension=extension)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _without_plan(message: str) -> FromGateway | None:
    try:
        raw = json.loads(message)
        raw["assignment"]["plan"] = _NO_PLAN
        return from_gateway(json.dumps(raw))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _problem(error: ValidationError) -> Fault:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    given = f", not {first['input']!r}" if isinstance(first["input"], str | int | float) else ""
    return Fault(
        Reason.UNSUPPORTED,
        short(f"this runner cannot execute the plan: {place}: {first['msg']}{given}"),
        remedy="use a runner of the server's version",
    )
