"""What the evaluator answers about prompts: all of them, and the text of one."""

from itertools import islice
from typing import TYPE_CHECKING, Any

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import SOURCES, Place, Problem, did_you_mean
from plue.authoring.sandbox.prompts.bodies import place_in
from plue.authoring.sandbox.prompts.importing import prompts_facade
from plue.authoring.sandbox.prompts.library import Library, Prompt
from plue.schemas import filled, parse_text, problems
from plue.templating.faults import FaultKind, TemplateFault
from plue.templating.rendering import render

if TYPE_CHECKING:
    from plue.authoring.sandbox.evaluation import Job

__all__ = ["parsed", "prompts_facade", "rendered", "warm_up"]

Json = dict[str, Any]
_CODES = {
    FaultKind.SYNTAX: Code.TEMPLATE_SYNTAX,
    FaultKind.UNDEFINED: Code.TEMPLATE_NAME,
    FaultKind.FORBIDDEN: Code.TEMPLATE_FORBIDDEN,
    FaultKind.FILE: Code.TEMPLATE_FILE,
    FaultKind.LIMIT: Code.TEMPLATE_LIMIT,
    FaultKind.VALUE: Code.TEMPLATE_VALUE,
}


_WARM = """---
inputs:
  x: string?
---
{% if x %}{{ x | upper }}{% endif %}{% for i in [1] %}{{ i ~ "a" }}{% endfor %}
"""


def warm_up() -> None:
    """Have everything loaded and compiled that parsing and rendering use, codecs included."""
    library = Library({".plue/prompts/warm.prompt.md": _WARM})
    for prompt in library.all():
        sources = {file: document.source for file, document in prompt.documents.items()}
        render(prompt.file, sources, {"x": "é"})
    SOURCES.clear()


def parsed(job: "Job") -> Json:
    """Describe every prompt of the request; all errors of all files at once."""
    library = job.library
    only = job.request.get("only")
    found = [prompt for prompt in library.all() if only in (None, prompt.file)]
    for prompt in found:
        # What is wrong in a shared file is told once, not with every prompt that includes it.
        job.add(_new(job, prompt.problems))
        job.add(_new(job, prompt.warnings), "warning")
    if only is None:
        job.add(library.workshop.problems())
    job.add([p for p in library.duplicates() if p.place and only in (None, p.place.file)])
    return {"prompts": [prompt.info() for prompt in found], "diagnostics": job.diagnostics}


def _new(job: "Job", found: Any) -> list[Problem]:
    told = {(d["code"], d["file"], d["line"], d["column"]) for d in job.diagnostics}
    return [
        problem
        for problem in found
        if problem.place is None
        or (str(problem.code), problem.place.file, problem.place.line, problem.place.column)
        not in told
    ]


def rendered(job: "Job") -> Json:
    """Render one prompt with the request's inputs, as a runner would."""
    request, library = job.request, job.library
    answer: Json = {"text": None, "prompt": None, "inputs": {}, "diagnostics": job.diagnostics}
    name = request["prompt"]
    prompt = library.find(name)
    if prompt is None:
        job.add([_unknown(library, name)])
        return answer
    answer["prompt"] = prompt.info()
    job.add(prompt.problems)
    job.add(prompt.warnings, "warning")
    answer["inputs"] = values = _inputs(job, prompt)
    if not job.failed:
        answer["text"] = _text(job, prompt, values)
    return answer


def _unknown(library: Library, name: str) -> Problem:
    known = sorted(library.names)
    return Problem(
        Code.UNKNOWN_PROMPT,
        f"there is no prompt `{name}`{did_you_mean(name, known)}",
        remedy="there are: " + ", ".join(known) if known else "add .plue/prompts/NAME.prompt.md",
        place=Place(".plue/prompts", 1),
        field="prompt",
    )


def _inputs(job: "Job", prompt: Prompt) -> Json:
    given = job.request["inputs"]
    values: Json = {}
    for name, value in given.items():
        kind = prompt.inputs.get(name)
        if kind is None:
            near = did_you_mean(name, list(prompt.inputs))
            remedy = "its inputs are: " + (", ".join(prompt.inputs) or "none")
            _note(job, prompt, name, f"{prompt.name} has no input `{name}`{near}", remedy)
            continue
        values[name] = parse_text(kind.schema, value) if job.request["text_inputs"] else value
        for told in islice(problems(kind.schema, values[name], name), 5):
            _note(job, prompt, name, f"input {told}", "give a value of that type")
    for name, kind in prompt.inputs.items():
        if name not in values and kind.required:
            _note(job, prompt, name, f"input `{name}` is required", f"give it: {name}=…")
    whole = filled(prompt.inputs_schema, values, nulls=True)
    return whole if isinstance(whole, dict) else values


def _note(job: "Job", prompt: Prompt, name: str, message: str, remedy: str) -> None:
    places = prompt.documents[prompt.file].front.inputs_at
    place = places.get(name, Place(prompt.file, prompt.line))
    job.add(
        [Problem(Code.PROMPT_INPUT, message, remedy=remedy, place=place, field=f"inputs.{name}")]
    )


def _text(job: "Job", prompt: Prompt, values: Json) -> str | None:
    sources = {file: document.source for file, document in prompt.documents.items()}
    try:
        return render(prompt.file, sources, values, output_schema=prompt.output_schema)
    except TemplateFault as fault:
        document = prompt.documents.get(fault.file)
        place = place_in(fault.file, document.text if document else "", fault.line, fault.word)
        job.add([Problem(_CODES[fault.kind], fault.message, remedy=fault.remedy, place=place)])
    except Problem as problem:
        # The wall clock of the process was faster than the template's own budget.
        problem.place = Place(prompt.file, prompt.line)
        job.add([problem])
    return None
