"""What crosses a process border: plans, events and the frames between runner and gateway.

Declared once, validated by pydantic on both sides. Changing a field's meaning is a new protocol
number; adding an optional one is not.
"""

from plue.wire.events import EventType, Reason, RunnerEvent, RunState, StepState
from plue.wire.plan import (
    HIDDEN_KINDS,
    Action,
    Data,
    End,
    Fail,
    Failure,
    Git,
    GitBase,
    Glob,
    HashFiles,
    Lit,
    Part,
    Plan,
    Read,
    Ref,
    RefField,
    Shell,
    Site,
    Step,
    Text,
    When,
    Write,
)

__all__ = [
    "HIDDEN_KINDS",
    "Action",
    "Data",
    "End",
    "EventType",
    "Fail",
    "Failure",
    "Git",
    "GitBase",
    "Glob",
    "HashFiles",
    "Lit",
    "Part",
    "Plan",
    "Read",
    "Reason",
    "Ref",
    "RefField",
    "RunState",
    "RunnerEvent",
    "Shell",
    "Site",
    "Step",
    "StepState",
    "Text",
    "When",
    "Write",
]
