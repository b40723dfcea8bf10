"""`plue explain`: what a diagnostic's code means, with a wrong and a right example."""

import json
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from plue.errors import NotFoundError

if TYPE_CHECKING:
    from plue.authoring.codes import Explanation

__all__ = ["explain"]


def explain(
    code: Annotated[str | None, typer.Argument(help="Such as PLU012; all codes without.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Explain the code of an error, or list all codes.

    Examples:
      plue explain PLU012

      plue explain

    """
    from plue.authoring.codes import EXPLANATIONS, explanation_of

    if code is None:
        known = list(EXPLANATIONS.values())
        if as_json:
            print(json.dumps([_json(one) for one in known], indent=2))
        else:
            print("\n".join(f"{one.code}  {one.title}" for one in known))
        return
    explanation = explanation_of(code)
    if explanation is None:
        from plue.cli.workflows import similar

        raise NotFoundError(
            f"there is no code {code}", remedy=similar(code.upper(), [*EXPLANATIONS])
        )
    print(json.dumps(_json(explanation), indent=2) if as_json else _text(explanation))


def _json(explanation: "Explanation") -> dict[str, str]:
    from plue.authoring.code_examples import examples

    found = {
        "code": str(explanation.code),
        "title": explanation.title,
        "text": explanation.text,
    }
    example = examples().get(explanation.code)
    if example is not None:
        found |= {"wrong": example.wrong.shown(), "right": example.right.shown()}
    return found


def _text(explanation: "Explanation") -> str:
    found = _json(explanation)
    parts = [f"{found['code']}: {found['title']}", textwrap.fill(found["text"], 88)]
    for half in ("wrong", "right"):
        if half in found:
            parts += [f"{half.title()}:", textwrap.indent(found[half], "    ")]
    return "\n\n".join(parts)
