"""Plans for people: what would run, where it waits, and how two plans differ. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from plue.cli.groups import Heading, arranged
from plue.cli.text import safe
from plue.domain.growth import Answer, shown_ref
from plue.wire.plan import HIDDEN_KINDS, Plan, Step

__all__ = ["difference_lines", "plan_lines"]


def plan_lines(plan: Plan, why: Mapping[str, Sequence[Answer]]) -> list[str]:
    """Return the plan's steps, why those are there that depend on values, and where it waits."""
    lines = [f"{plan.workflow}: {len(plan.steps)} steps, revision {plan.revision[:12]}"]
    for depth, step in arranged(plan.steps):
        if isinstance(step, Heading):
            lines.append(f"{'  ' * (depth + 1)}{step[0]}  ({step[1]} steps)")
            continue
        indent = "  " * (1 + max(depth, len(step.branch) // 2))
        after = f"  after {', '.join(step.needs)}" if step.needs else ""
        lines.append(f"{indent}{step.name}{after}")
        if step.action.kind not in HIDDEN_KINDS:
            lines.append(f"{indent}    {_shown(step)}")
        if step.name in why:
            lines.append(f"{indent}    because {'; '.join(a.text for a in why[step.name])}")
    lines += [f"  fails: {''.join(map(_part, failure.reason))}" for failure in plan.fails]
    return [safe(line) for line in (*lines, *_waits(plan))]


def _waits(plan: Plan) -> Iterator[str]:
    if plan.end is not None:
        return
    yield "  … more once these values are known:"
    for one in plan.awaits:
        place = "" if one.site is None else f"  {one.site.file}:{one.site.line}"
        yield f"    {shown_ref(one)}{place}"
    yield f"  go on with --assume, such as --assume {_example(plan)}"


def _example(plan: Plan) -> str:
    first = plan.awaits[0]
    value = {"ok": "false", "exit_code": "1", "state": "failed"}.get(first.field, "TEXT")
    key = shown_ref(first)
    words = f"{key}={value}"
    return words if words.isascii() and " " not in words and "#" not in words else f"'{words}'"


def difference_lines(before: Plan, after: Plan) -> list[str]:
    """Return what *after* adds, drops and changes; one line when the plans are the same."""
    old = {step.name: step for step in before.steps}
    new = {step.name: step for step in after.steps}
    lines = []
    for name, step in new.items():
        if name not in old:
            lines += [f"+ {name}", f"+     {_shown(step)}"]
        elif parts := _changed(old[name], step):
            lines.append(f"~ {name}: {', '.join(parts)}")
            if "action" in parts and _shown(old[name]) != _shown(step):
                lines += [f"-     {_shown(old[name])}", f"+     {_shown(step)}"]
    lines += [f"- {name}" for name in old if name not in new]
    if [n for n in new if n in old] != [n for n in old if n in new]:
        lines.append("~ the steps come in another order")
    if before.fails != after.fails:
        lines.append("~ how it fails")
    if before.end is not None and after.end is not None and before.end != after.end:
        lines.append("~ the outputs")
    asked = [shown_ref(one) for one in after.awaits]
    if after.end is None:
        lines.append("  the new plan waits for " + ", ".join(dict.fromkeys(asked)))
    return [safe(line) for line in lines] or ["the plans are the same"]


def _changed(before: Step, after: Step) -> list[str]:
    names = [name for name in Step.model_fields if name != "site"]
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def _shown(step: Step) -> str:
    shown = step.action.shown.strip().split("\n")
    return f"{shown[0]}{' …' if len(shown) > 1 else ''}"


def _part(part: object) -> str:
    for name in ("text", "data"):
        if (value := getattr(part, name, None)) is not None:
            return str(value)
    return f"<{getattr(part, 'ref', '?')}.{getattr(part, 'field', '?')}>"
