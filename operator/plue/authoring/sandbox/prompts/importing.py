"""``from plue.prompts import CodeReview``: the prompts that a statement wants, or why not."""

from plue.authoring.codes import Code
from plue.authoring.sandbox.guards import Facade
from plue.authoring.sandbox.problems import Problem, did_you_mean
from plue.authoring.sandbox.prompts.calls import PromptCallable
from plue.authoring.sandbox.prompts.library import Library, Prompt

__all__ = ["prompts_facade"]


def prompts_facade(library: Library, wanted: tuple[str, ...]) -> Facade:
    """Return what the statement takes names from. Raises Problem for the first that is not good."""
    found = {name: _good(library, name) for name in wanted}
    return Facade("plue.prompts", {name: PromptCallable(prompt) for name, prompt in found.items()})


def _good(library: Library, name: str) -> Prompt:
    prompt = library.find(name)
    if prompt is None or prompt.import_name != name:
        known = library.names
        near = f" — did you mean `{prompt.import_name}`?" if prompt else did_you_mean(name, known)
        remedy = "there are: " + ", ".join(sorted(known))
        raise Problem(
            Code.UNKNOWN_PROMPT,
            f"there is no prompt `{name}`{near}",
            remedy=remedy if known else "add .plue/prompts/NAME.prompt.md",
        )
    if prompt.problems:
        place = prompt.problems[0].place
        raise Problem(
            Code.PROMPT_BROKEN,
            f"prompt `{name}` has errors",
            remedy=f"correct {prompt.file}; they are told at their own places",
            related=(place.file, place.line) if place else (prompt.file, 1),
        )
    return prompt
