"""What crosses a process border: plans, events and the frames between runner and gateway.

Declared once, validated by pydantic on both sides. Changing a field's meaning is a new protocol
number; adding an optional one is not.
"""

from plue.wire.events import EventType, Reason, RunnerEvent, RunState, StepState
from plue.wire.plan import (
    Data,
    End,
    Fail,
    Lit,
    Part,
    Plan,
    Ref,
    RefField,
    Shell,
    Site,
    Step,
    Text,
    When,
)

__all__ = [
    "Data",
    "End",
    "EventType",
    "Fail",
    "Lit",
    "Part",
    "Plan",
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
]
