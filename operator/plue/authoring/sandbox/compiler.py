"""From a file's text to code that may be executed, or to everything that is wrong with it."""

import ast
import re
from dataclasses import dataclass, field
from types import CodeType

from plue.authoring.codes import Code
from plue.authoring.sandbox.policy import Policy
from plue.authoring.sandbox.problems import AUTHOR, SOURCES, Place, Problem, characters

__all__ = ["Compiled", "compile_file"]

MAX_BYTES = 512 * 1024
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""What "Trojan Source" (CVE-2021-42574) hides code with: a reviewer reads another program."""


@dataclass
class Compiled:
    """A compiled file: code with the names of the modules that it imports, or problems."""

    code: CodeType | None
    problems: list[Problem] = field(default_factory=list)
    imports: tuple[str, ...] = ()


def compile_file(file: str, text: str) -> Compiled:
    """Compile *text*; every error of the file is found at once, where Python allows it."""
    SOURCES[file] = text.splitlines()
    problem = _unreadable(file, text)
    if problem is not None:
        return Compiled(None, [problem])
    try:
        return _compile(file, text)
    except SyntaxError as error:
        return Compiled(None, [_syntax_problem(file, error)])
    except (RecursionError, MemoryError):
        return Compiled(None, [_too_nested(file)])
    except ValueError as error:
        return Compiled(None, [Problem(Code.BAD_TEXT, str(error), place=Place(file, 1))])


def _too_nested(file: str) -> Problem:
    return Problem(
        Code.TOO_NESTED,
        "the code is nested too deeply",
        remedy="give the inner parts names",
        place=Place(file, 1),
    )


def _unreadable(file: str, text: str) -> Problem | None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        message = "the file has a character that is not Unicode text"
        return Problem(
            Code.BAD_TEXT, message, remedy="save the file as UTF-8", place=Place(file, 1)
        )
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        message = "the file has a NUL character"
        return Problem(Code.BAD_TEXT, message, remedy="remove it", place=Place(file, line))
    if hidden := _DIRECTION.search(text):
        before = text[: hidden.start()]
        line, column = before.count("\n") + 1, hidden.start() - before.rfind("\n")
        name = f"U+{ord(hidden[0]):04X}"
        return Problem(
            Code.BAD_TEXT,
            f"the file has an invisible mark ({name}) that shows text in another order than it has",
            remedy=f"remove it, or write it as `\\u{ord(hidden[0]):04x}` inside of text",
            place=Place(file, line, column),
        )
    if size > MAX_BYTES:
        return Problem(
            Code.FILE_TOO_LARGE,
            f"the file has {size:,} bytes; {MAX_BYTES:,} are allowed",
            remedy="move long scripts into files of the repository",
            place=Place(file, 1),
        )
    return None


def _compile(file: str, text: str) -> Compiled:
    name = AUTHOR + file
    tree = ast.parse(text, name)
    policy = Policy(file, tree)
    policy.visit(tree)
    if not policy.problems:
        code = compile(tree, name, "exec", dont_inherit=True)
        return Compiled(code, imports=tuple(dict.fromkeys(policy.imports)))
    problems = policy.problems
    # What only Python's compiler sees (`return` outside a function) is an error of the file too.
    try:
        compile(text, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        problems.append(_syntax_problem(file, error))
    problems.sort(key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0))
    return Compiled(None, problems)


def _syntax_problem(file: str, error: SyntaxError) -> Problem:
    line = error.lineno or 1
    column = max(error.offset or 1, 1)
    if error.text is None:  # found by the compiler, whose columns count bytes
        column = characters(file, line, column - 1)
    end = error.end_offset if error.end_lineno == line else None
    message = error.msg
    remedy = "Python reports the first error only: repair it and check again"
    if re.search(r"invalid syntax\. Perhaps you forgot a comma", message):
        remedy = "look for a missing comma or bracket"
    return Problem(
        Code.SYNTAX,
        message,
        remedy=remedy,
        place=Place(file, line, column, end if end and end > column else None),
    )
