"""One file below ``.plue/prompts/``: front matter, body, and what is wrong in them."""

import re
from dataclasses import dataclass, field
from typing import Final

from plue.authoring.codes import Code
from plue.authoring.sandbox.problems import SOURCES, Place, Problem
from plue.authoring.sandbox.prompts.bodies import Body, parse_body
from plue.authoring.sandbox.prompts.frontmatter import FrontMatter, parse_front_matter
from plue.templating.faults import TemplateFault
from plue.templating.sources import path_of

__all__ = ["SUFFIX", "Document", "import_name", "parse_document", "quick_name", "step_name"]

SUFFIX: Final = ".prompt.md"
MAX_CHARACTERS: Final = 128 * 1024
_FENCE: Final = "---"
_NAME_LINE: Final = re.compile(
    r"^name:[ \t]*(['\"]?)([A-Za-z][\w-]*)\1[ \t]*(?:#.*)?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Source:
    """The body as the runner gets it (``plue.wire.plan.Template``)."""

    text: str
    line: int
    extends: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file; ``problems`` are its own, without what it uses."""

    file: str
    text: str
    front: FrontMatter
    source: Source
    body: Body = field(default_factory=Body)
    problems: list[Problem] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The prompt's name: what ``name`` says, else the file's."""
        return self.front.name or _stem(self.file)


def _stem(file: str) -> str:
    return file.rpartition("/")[2].removesuffix(SUFFIX)


def quick_name(file: str, text: str) -> str:
    """Return the name that a file gives to its prompt, without parsing all of it."""
    end = text.find(f"\n{_FENCE}", len(_FENCE))
    found = _NAME_LINE.search(text, 0, max(0, end))
    return found[2] if found else _stem(file)


def import_name(name: str) -> str:
    """Return the name under which workflows import a prompt: ``code-review`` is CodeReview."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_.\s]+", name))


def step_name(name: str) -> str:
    """Return the name of a prompt's step: ``CodeReview`` and ``code_review`` are code-review."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return re.sub(r"[-_.\s]+", "-", spaced).strip("-").lower()


def parse_document(file: str, text: str) -> Document:
    """Parse a file; every error that it has by itself is found at once."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    SOURCES[file] = text.split("\n")
    problem = _unusable(file, text)
    if problem is not None:
        return Document(file, text, FrontMatter(), Source("", 1, None), problems=[problem])
    head, body, line, problems = _split(file, text)
    front = FrontMatter()
    if head is not None:
        front, found = parse_front_matter(file, head, 2)
        problems += found + _combinations(front)
    source = Source(body, line, None)
    if front.extends is not None:
        source, found = _extending(file, front, body, line)
        problems += found
    looked = parse_body(file, text, source)
    document = Document(file, text, front, source, looked, problems)
    if head is not None and not import_name(document.name).isidentifier():
        problems.append(
            Problem(
                Code.PROMPT_VALUE,
                f"`{document.name}` cannot be imported by a workflow",
                remedy="give it a name: `name: code-review`, imported as CodeReview",
                place=Place(file, 1),
            )
        )
    return document


def _unusable(file: str, text: str) -> Problem | None:
    if "\0" in text or not _is_unicode(text):
        line = text.count("\n", 0, max(text.find("\0"), 0)) + 1
        return Problem(
            Code.BAD_TEXT,
            "the file is not text",
            remedy="save it as UTF-8",
            place=Place(file, line),
        )
    if len(text) > MAX_CHARACTERS:
        return Problem(
            Code.FILE_TOO_LARGE,
            f"the file has {len(text):,} characters; {MAX_CHARACTERS:,} are allowed",
            remedy="pass long texts as inputs, or include a part of it",
            place=Place(file, 1),
        )
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split(file: str, text: str) -> tuple[str | None, str, int, list[Problem]]:
    """Return front matter (None: no prompt file), body, the body's first line, and problems."""
    lines = text.split("\n")
    if lines[0].rstrip() != _FENCE:
        if not file.endswith(SUFFIX):
            return None, text, 1, []
        problem = Problem(
            Code.FRONT_MATTER,
            "a prompt begins with front matter",
            remedy="write a line ---, then `name: …` and `inputs:`, then a line ---",
            place=Place(file, 1),
        )
        return "", text, 1, [problem]
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        problem = Problem(
            Code.FRONT_MATTER,
            "the front matter does not end",
            remedy="write a line --- behind it",
            place=Place(file, 1, 1, 4),
        )
        return "", "", len(lines), [problem]
    head = "\n".join(lines[1:end])
    return head, "\n".join(lines[end + 1 :]), end + 2, []


def _combinations(front: FrontMatter) -> list[Problem]:
    """Return what does not go together."""
    if front.type == "agent" or "extends" in front.given:
        return []
    return [
        Problem(
            Code.PROMPT_VALUE,
            f"`{key}` belongs to agents",
            remedy="write `type: agent`, or remove it",
            place=front.given[key],
        )
        for key in ("tools", "max_turns")
        if key in front.given
    ]


def _extending(file: str, front: FrontMatter, body: str, line: int) -> tuple[Source, list[Problem]]:
    name = front.extends or ""
    if "." not in name.rpartition("/")[2]:
        name += SUFFIX
    try:
        return Source(body, line, path_of(name, file)), []
    except TemplateFault as fault:
        problem = Problem(
            Code.TEMPLATE_FILE, fault.message, remedy=fault.remedy, place=front.given["extends"]
        )
        return Source(body, line, None), [problem]
