"""Places values in sh and bash scripts so that the shell never reads them as code.

A script is text with holes. Each hole becomes a quoted environment variable, in the form that its
place needs: bare ``"${V}"``, inside double quotes and unquoted heredocs ``${V}``, inside single
quotes ``'"${V}"'``. Places where quoting cannot help (arithmetic, ``eval``, variable names …)
are refused, and so is everything that this lexer does not understand: a refusal costs the author
one ``env=``, a mistake would cost them a shell injection.

The lexer reads the grammar that sh and bash share, plus bash's own; where the two disagree it
takes no holes any more. A script without holes is never lexed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

__all__ = ["Hole", "Placement", "Refusal", "place_holes"]

_ENV: Final = 'pass it with env={"NAME": value} and write "$NAME"'
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\[[^\]]*\])?\+?=")
_OPEN_SUBSCRIPT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\[[^\]]*$")
_BEFORE_COMMAND: Final = frozenset(["if", "then", "elif", "else", "while", "until", "do", "!", "{"])
_AFTER_COMMAND: Final = frozenset(["fi", "done", "}", "esac"])
_PREFIXES: Final = frozenset(["command", "builtin", "exec", "time"])
_DECLARE: Final = frozenset(["declare", "typeset", "local", "export", "readonly"])
_READS_CODE: Final = frozenset(
    [
        "eval",
        "let",
        "trap",
        "read",
        "unset",
        "mapfile",
        "readarray",
        "getopts",
        "alias",
        "bind",
        "complete",
        "compgen",
        "enable",
        "fc",
        "coproc",
    ]
)
_RUNNERS: Final = frozenset(
    ["sudo", "env", "nohup", "nice", "exec", "command", "time", "timeout", "xargs", "builtin"]
)
_CODE_OPTION: Final = {
    **dict.fromkeys(["sh", "bash", "dash", "ksh", "zsh", "ash", "su", "python", "python3"], "-c"),
    **dict.fromkeys(["perl", "ruby", "node"], "-e"),
}


@dataclass(frozen=True, slots=True)
class Hole:
    """A place where a value goes; ``variable`` is the environment variable that carries it."""

    index: int
    variable: str


class Refusal(Exception):  # noqa: N818 - the word of the language reference
    """A hole that cannot be placed."""

    def __init__(self, hole: Hole, reason: str, remedy: str) -> None:
        """Name the hole, why it cannot be placed, and what to write instead."""
        super().__init__(reason)
        self.hole = hole
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Placement:
    """The finished script, and holes whose value reaches another program as code."""

    script: str
    warnings: tuple[tuple[Hole, str], ...] = ()


def place_holes(pieces: Sequence[str | Hole], *, shell: str = "bash") -> Placement:
    """Place every hole of *pieces* for *shell* (``bash`` or ``sh``). Raises Refusal."""
    units: list[str | Hole] = []
    for piece in pieces:
        units += [piece] if isinstance(piece, Hole) else piece
    lexer = _Lexer(units, shell)
    lexer.script()
    return Placement("".join(lexer.out), tuple(lexer.warnings))


@dataclass
class _Word:
    """The word being read: its text without quotes, and the holes in it."""

    text: str = ""
    holes: list[Hole] = field(default_factory=list)
    before_hole: str = ""  # the text before the first hole
    quoted: bool = False
    begun: bool = False

    def add_hole(self, hole: Hole) -> None:
        if not self.holes:
            self.before_hole = self.text
        self.holes.append(hole)
        self.begun = True

    @property
    def is_plain(self) -> bool:
        return not self.holes and not self.quoted


@dataclass
class _Frame:
    """One list of commands: the script, a subshell, a substitution."""

    nested: bool
    word: _Word = field(default_factory=_Word)
    words: list[_Word] = field(default_factory=list)
    in_command: bool = False  # the command's name has been read
    after_prefix: bool = False
    expect: str = ""  # what the next word is: redirect, fd, heredoc, heredoc-, name, function
    cases: list[str] = field(default_factory=list)  # word, in, pattern, body
    heredocs: list[tuple[str, bool, bool]] = field(default_factory=list)


class _Lexer:
    """Reads units (characters and holes) from left to right and writes the script."""

    def __init__(self, units: Sequence[str | Hole], shell: str) -> None:
        self.units = units
        self.at = 0
        self.out: list[str] = []
        self.warnings: list[tuple[Hole, str]] = []
        self.shell = shell
        self.lost = ""  # why holes from here on cannot be placed
        self.open_heredocs = 0
        self.integers = False
        self.assigned: list[tuple[str, Hole]] = []
        self.arithmetic: set[str] = set()

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def peek(self, ahead: int = 0) -> str | Hole | None:
        place = self.at + ahead
        return self.units[place] if place < len(self.units) else None

    def looking_at(self, text: str) -> bool:
        return all(self.peek(i) == char for i, char in enumerate(text))

    def take(self, count: int = 1) -> str:
        """Copy *count* characters to the output; a hole among them is refused."""
        taken = ""
        for _ in range(count):
            unit = self.peek()
            if isinstance(unit, Hole):
                self.refuse(unit, "a value cannot stand here")
            if unit is None:
                break
            taken += unit
            self.at += 1
        self.out.append(taken)
        return taken

    def refuse(self, hole: Hole, reason: str, remedy: str = _ENV) -> NoReturn:
        """Refuse *hole*."""
        raise Refusal(hole, reason, remedy)

    def hole(self, word: _Word, form: str, hole: Hole) -> None:
        """Write *hole* in the given form, as part of *word*."""
        if self.lost:
            self.refuse(hole, f"Plue cannot tell how the shell reads this place: {self.lost}")
        if _OPEN_SUBSCRIPT.match(word.text):
            self.refuse(hole, "a value cannot be an array's subscript: the shell evaluates it")
        word.add_hole(hole)
        self.out.append(form.format(hole.variable))
        self.at += 1

    def unclosed(self, what: str) -> None:
        """Refuse all holes: the script ends inside a construct, so none can be trusted."""
        for unit in self.units:
            if isinstance(unit, Hole):
                self.refuse(unit, f"{what} is not closed", "close it")

    # ── commands ─────────────────────────────────────────────────────────────────────────────────

    def script(self) -> None:
        """Read the whole script."""
        frame = _Frame(nested=False)
        self.commands(frame, end=None)
        if frame.heredocs:
            self.unclosed("a heredoc")
        self._check_assignments()

    def commands(self, frame: _Frame, end: str | None) -> None:
        """Read commands until *end*, which is consumed, or to the end of the script."""
        while (unit := self.peek()) is not None:
            if unit == end:
                self.finish_word(frame)  # an `esac` ends a pattern's place
            if unit == end and (not frame.cases or frame.cases[-1] != "pattern"):
                self.take()
                if frame.heredocs:
                    self.lost = "a heredoc begins in a substitution that ends on the same line"
                return
            self.command_unit(frame, unit)
        self.finish_word(frame)
        if end is not None:
            self.unclosed(f"a `{'(' if end == ')' else end}`")

    def command_unit(self, frame: _Frame, unit: str | Hole) -> None:
        if isinstance(unit, Hole):
            self.bare_hole(frame, unit)
        elif unit in " \t":
            self.finish_word(frame)
            self.take()
        elif unit == "\n":
            self.newline(frame)
        elif unit == "#" and not frame.word.begun:
            self.comment()
        elif unit in ";&|":
            self.separator(frame, unit)
        elif unit in "<>":
            self.redirection(frame, unit)
        elif unit == "(":
            self.open_parenthesis(frame)
        elif unit == ")":
            self.close_parenthesis(frame)
        else:
            frame.word.begun = True
            self.word_unit(frame.word, unit)

    def bare_hole(self, frame: _Frame, hole: Hole) -> None:
        if frame.expect in ("heredoc", "heredoc-"):
            self.refuse(hole, "a value cannot end a heredoc")
        self.hole(frame.word, '"${{{}}}"', hole)

    def word_unit(self, word: _Word, unit: str) -> None:
        """Read one character, quoted string or expansion of a word."""
        if unit == "'":
            self.single_quotes(word)
        elif unit == '"':
            self.double_quotes(word)
        elif unit == "\\":
            self.escape(word)
        elif unit == "$":
            self.dollar(word, quoted=False)
        elif unit == "`":
            self.backticks(word)
        else:
            word.text += self.take()

    def newline(self, frame: _Frame) -> None:
        self.finish_word(frame)
        self.end_command(frame)
        self.take()
        if frame.nested and self.open_heredocs and not frame.heredocs:
            self.lost = "a heredoc begins before a substitution of several lines"
        pending, frame.heredocs = frame.heredocs, []
        for delimiter, quoted, tabs in pending:
            self.open_heredocs -= 1
            self.heredoc(delimiter, quoted=quoted, tabs=tabs)

    def comment(self) -> None:
        while (unit := self.peek()) is not None and unit != "\n":
            if isinstance(unit, Hole):
                self.refuse(unit, "a value cannot stand in a comment", "remove it from the comment")
            self.take()

    def separator(self, frame: _Frame, unit: str) -> None:
        self.finish_word(frame)
        if unit == "&" and self.peek(1) == ">":
            self.take(3 if self.looking_at("&>>") else 2)
            frame.expect = "redirect"
            return
        if frame.cases and frame.cases[-1] == "pattern":
            self.take()
            return
        if unit == ";" and self.peek(1) in (";", "&"):
            self.take(3 if self.looking_at(";;&") else 2)
            if frame.cases:
                frame.cases[-1] = "pattern"
        else:
            self.take(2 if self.peek(1) in (unit, "&") and unit != ";" else 1)
        self.end_command(frame)

    def redirection(self, frame: _Frame, unit: str) -> None:
        if frame.word.begun and not (frame.word.is_plain and frame.word.text.isdecimal()):
            self.finish_word(frame)
        frame.word = _Word()
        if self.peek(1) == "(":
            self.take(2)
            frame.word.begun = True
            self.commands(_Frame(nested=True), end=")")
        elif self.looking_at("<<<"):
            self.take(3)
            frame.expect = "redirect"
        elif self.looking_at("<<"):
            frame.expect = "heredoc-" if self.peek(2) == "-" else "heredoc"
            self.take(3 if frame.expect == "heredoc-" else 2)
        else:
            frame.expect = "fd" if self.peek(1) == "&" else "redirect"
            self.take(2 if self.peek(1) in ("&", ">", "|") else 1)
            if unit == "<" and self.peek() == ">":
                self.take()

    def open_parenthesis(self, frame: _Frame) -> None:
        word = frame.word
        if frame.cases and frame.cases[-1] == "pattern":
            self.take()
            if word.begun:
                self.balanced("an extended pattern")
        elif word.begun and word.is_plain and _ASSIGNMENT.fullmatch(word.text):
            self.take()
            self.array(frame)
        elif word.begun and word.text[-1:] in tuple("@?*+!") and word.is_plain:
            self.take()
            self.balanced("an extended pattern")
        elif self.is_function(frame):
            self.finish_word(frame)
            while self.peek() != ")":
                self.take()
            self.take()
            self.end_command(frame)
        elif word.begun or (frame.in_command and frame.expect != "name"):
            self.lost = "a parenthesis in an unusual place"
            self.take()
        elif self.looking_at("(("):
            self.take(2)
            self.balanced("arithmetic", arithmetic=True, depth=2)
            frame.expect, frame.in_command = "", True
        else:
            self.take()
            self.commands(_Frame(nested=True), end=")")
            frame.in_command = True

    def is_function(self, frame: _Frame) -> bool:
        if not (frame.word.begun or len(frame.words) == 1 or frame.expect == "function"):
            return False
        ahead = 1
        while self.peek(ahead) in (" ", "\t"):
            ahead += 1
        return self.peek(ahead) == ")"

    def close_parenthesis(self, frame: _Frame) -> None:
        self.finish_word(frame)
        if frame.cases and frame.cases[-1] == "pattern":
            frame.cases[-1] = "body"
        else:
            self.lost = "a `)` without its `(`"
        self.take()
        self.end_command(frame)

    def array(self, frame: _Frame) -> None:
        """Read the words of ``name=( … )``."""
        name = frame.word.text.rstrip("+=")
        word = _Word()
        while (unit := self.peek()) is not None and unit != ")":
            if isinstance(unit, Hole):
                if word.text.startswith("["):
                    self.refuse(unit, "a value cannot be an array's subscript")
                self.hole(word, '"${{{}}}"', unit)
                self.assigned.append((name, unit))
            elif unit in " \t\n":
                self.take()
                word = _Word()
            elif unit == "#" and not word.begun:
                self.comment()
            elif unit in "()<>|&;":
                self.lost = "an array with operators in it"
                self.take()
            else:
                word.begun = True
                self.word_unit(word, unit)
        if self.peek() is None:
            self.unclosed("an array")
        self.take()

    # ── words ────────────────────────────────────────────────────────────────────────────────────

    def end_command(self, frame: _Frame) -> None:
        frame.words = []
        frame.in_command = frame.after_prefix = False
        frame.expect = ""

    def finish_word(self, frame: _Frame) -> None:
        """Classify the word that ends here, and refuse holes that its place does not take."""
        word, frame.word = frame.word, _Word()
        if not word.begun:
            return
        expected, frame.expect = frame.expect, ""
        if expected in ("heredoc", "heredoc-"):
            frame.heredocs.append((word.text, word.quoted, expected == "heredoc-"))
            self.open_heredocs += 1
        elif expected in ("name", "function"):
            for hole in word.holes:
                self.refuse(hole, "a value cannot be a name in the script")
            frame.in_command = expected == "name"
            frame.words = [_Word("for", begun=True)] if expected == "name" else []
        elif expected == "fd":
            # bash expands the word of `>&` a second time when it is no number.
            for hole in word.holes:
                self.refuse(hole, "a value cannot be a file descriptor", "write > or &> instead")
        elif expected:
            return
        elif frame.cases and frame.cases[-1] != "body":
            self.case_word(frame, word)
        elif frame.in_command:
            self.argument(frame, word)
        else:
            self.command_word(frame, word)

    def case_word(self, frame: _Frame, word: _Word) -> None:
        phase = frame.cases[-1]
        if phase == "pattern":
            if word.is_plain and word.text == "esac":
                frame.cases.pop()
                frame.in_command = True
        else:
            frame.cases[-1] = "in" if phase == "word" else "pattern"

    def command_word(self, frame: _Frame, word: _Word) -> None:
        if word.is_plain and self.keyword(frame, word.text):
            return
        assignment = _ASSIGNMENT.match(word.before_hole if word.holes else word.text)
        if assignment:
            self.assigned += [(assignment.group(1), hole) for hole in word.holes]
            return
        if frame.after_prefix and word.text.startswith("-") and not word.holes:
            return
        if word.holes and "/" not in word.text:
            self.refuse(
                word.holes[0],
                "a value cannot be the name of the command",
                'write the command, or a path with a "/" around the value',
            )
        frame.words = [word]
        frame.in_command = True
        if word.text in _PREFIXES and not word.holes:
            frame.in_command, frame.after_prefix, frame.words = False, True, []
        if word.text == "coproc":
            self.lost = "it follows `coproc`"

    def keyword(self, frame: _Frame, text: str) -> bool:
        """Handle a reserved word; False when it is none."""
        if text in _BEFORE_COMMAND:
            return True
        if text in _AFTER_COMMAND:
            if text == "esac" and frame.cases:
                frame.cases.pop()
            frame.in_command = True
        elif text == "case":
            frame.cases.append("word")
        elif text in ("for", "select"):
            frame.expect = "name"
        elif text == "function":
            frame.expect = "function"
        elif text == "[[":
            self.double_brackets(frame)
        else:
            return False
        return True

    def argument(self, frame: _Frame, word: _Word) -> None:
        if not frame.words:
            # No shell takes a word here, so what follows is not what it seems.
            self.lost = "a word follows the end of a compound command"
            for hole in word.holes:
                self.refuse(hole, "a value cannot follow the end of a compound command")
            return
        frame.words.append(word)
        name = frame.words[0].text
        if name == "for" and word.is_plain and word.text == "do":
            self.end_command(frame)
            return
        if name in _DECLARE and word.text.startswith(("-", "+")):
            self.integers |= not set(word.text[1:]) <= set("xrgfpF")
        if word.holes:
            self.check_argument(name, frame.words, word)

    def check_argument(self, name: str, words: list[_Word], word: _Word) -> None:
        """Refuse holes in arguments that the shell's own commands read as code or names."""
        hole, before = word.holes[0], words[-2]
        if name in _READS_CODE:
            self.refuse(hole, f"`{name}` reads its arguments as code or names")
        if name in _DECLARE:
            assignment = _ASSIGNMENT.match(word.before_hole)
            if not assignment or assignment.group(2):
                self.refuse(hole, f"a value cannot be the name that `{name}` sets")
            self.assigned.append((assignment.group(1), hole))
        elif name in (".", "source") and len(words) == 2 and "/" not in word.text:  # noqa: PLR2004 - the name and this word
            self.refuse(hole, f"`{name}` would run a file that the value names")
        elif name == "printf":
            self.check_printf(words, hole)
        elif name in ("test", "["):
            if before.text in ("-v", "-R") and not before.holes:
                self.refuse(hole, f"`{before.text}` reads its argument as a name")
            if before.holes and not before.text and before is not words[0]:
                self.refuse(hole, "of two values in a row the first would be an operator")
        elif name == "wait" and before.text == "-p":
            self.refuse(hole, "`wait -p` reads its argument as a name")
        self.check_program(words, word)

    def check_printf(self, words: list[_Word], hole: Hole) -> None:
        texts = [w.text for w in words]
        place = len(words) - 1
        if len(texts) > 1 and texts[1] == "-v" and place == 2:  # noqa: PLR2004 - printf -v NAME
            self.refuse(hole, "`printf -v` reads its argument as a name")
        first = 3 if len(texts) > 1 and texts[1] == "-v" else 1
        first += len(texts) > first and texts[first] == "--"
        if place == first:
            self.refuse(
                hole,
                "a value in printf's format would have its `%` and `\\` interpreted",
                "write printf '%s\\n' and let the value be the next word",
            )

    def check_program(self, words: list[_Word], word: _Word) -> None:
        """Warn where the program that gets the value reads it as code."""
        texts = [w.text for w in words]
        start = 0
        while start < len(texts) - 1 and texts[start].rsplit("/", 1)[-1] in _RUNNERS:
            start += 1
            while start < len(texts) - 1 and (texts[start][:1] == "-" or "=" in texts[start]):
                start += 1
        program = texts[start].rsplit("/", 1)[-1]
        option = _CODE_OPTION.get(program)
        before = texts[start + 1 : -1]
        if program == "ssh" and sum(not t.startswith("-") for t in before) >= 1:
            self.warnings.append((word.holes[0], "ssh gives it to a shell on the other side"))
        elif option and any(
            t.startswith("-") and not t.startswith("--") and t.endswith(option[1])
            for t in before[-1:]
        ):
            self.warnings.append((word.holes[0], f"`{program} {option}` reads it as code"))

    # ── quotes and expansions ────────────────────────────────────────────────────────────────────

    def escape(self, word: _Word) -> None:
        following = self.peek(1)
        if isinstance(following, Hole):
            self.refuse(following, "a backslash stands directly before the value", "remove it")
        if following == "\n":
            self.take(2)
            return
        word.quoted = True
        word.text += self.take(2)[1:]

    def single_quotes(self, word: _Word) -> None:
        word.quoted = True
        self.take()
        while (unit := self.peek()) != "'":
            if unit is None:
                self.unclosed("a single quote")
                return
            if isinstance(unit, Hole):
                self.hole(word, "'\"${{{}}}\"'", unit)
            else:
                word.text += self.take()
        self.take()

    def double_quotes(self, word: _Word) -> None:
        word.quoted = True
        self.take()
        while (unit := self.peek()) != '"':
            if unit is None:
                self.unclosed("a double quote")
                return
            self.quoted_unit(word, unit)
        self.take()

    def quoted_unit(self, word: _Word, unit: str | Hole) -> None:
        """Read what stands in double quotes or in the text of a heredoc."""
        if isinstance(unit, Hole):
            self.hole(word, "${{{}}}", unit)
        elif unit == "\\":
            following = self.peek(1)
            if isinstance(following, Hole):
                self.refuse(following, "a backslash stands directly before the value", "remove it")
            word.text += self.take(2)
        elif unit == "$":
            self.dollar(word, quoted=True)
        elif unit == "`":
            self.backticks(word)
        else:
            word.text += self.take()

    def dollar(self, word: _Word, *, quoted: bool) -> None:
        following = self.peek(1)
        if isinstance(following, Hole):
            self.refuse(
                following,
                "a `$` stands directly before the value",
                "remove the `$`: in an f-string the braces alone insert the value",
            )
        if self.looking_at("$(("):
            self.take(3)
            self.balanced("arithmetic `$((…))`", arithmetic=True, depth=2)
        elif following == "(":
            self.take(2)
            word.begun = True
            self.commands(_Frame(nested=True), end=")")
        elif following == "{":
            self.take(2)
            self.parameter(quoted=quoted)
        elif following == "[":
            self.take(2)
            self.balanced("arithmetic `$[…]`", arithmetic=True, pair="[]")
        elif following in ("'", '"') and not quoted:
            self.dollar_quotes(str(following))
        else:
            word.text += self.take()

    def dollar_quotes(self, quote: str) -> None:
        """Read ``$'…'`` and ``$"…"``, which sh does not have."""
        if self.shell == "sh":
            self.lost = f"sh and bash read `${quote}` differently"
        self.take(2)
        while (unit := self.peek()) != quote:
            if unit is None:
                self.unclosed("a quote")
                return
            if isinstance(unit, Hole):
                self.refuse(unit, f"a value cannot stand in ${quote}…{quote}")
            if quote == '"' and unit in "$`":
                self.lost = 'an expansion inside $"…"'
            self.take(2 if unit == "\\" else 1)
        self.take()

    def backticks(self, word: _Word) -> None:
        word.begun = True
        self.take()
        while (unit := self.peek()) != "`":
            if unit is None:
                self.unclosed("a backtick")
                return
            if isinstance(unit, Hole):
                self.refuse(unit, "a value cannot stand in backticks", "write $(…) instead")
            self.take(2 if unit == "\\" else 1)
        self.take()

    def parameter(self, *, quoted: bool) -> None:
        """Read the rest of ``${…}``."""
        start, depth = self.at, 1
        while depth:
            unit = self.peek()
            if unit is None:
                self.unclosed("a `${`")
                return
            if isinstance(unit, Hole):
                self.refuse(unit, "a value cannot stand in `${…}`")
            if unit == "'" and quoted:
                self.lost = "a single quote inside `${…}` inside double quotes"
            elif unit == "'":
                self.single_quotes(_Word())
                continue
            elif unit == '"' and not quoted:
                self.double_quotes(_Word())
                continue
            elif unit == '"':
                self.lost = "a double quote inside `${…}` inside double quotes"
            elif unit in "`$" and self.peek(1) != "{":
                self.dollar(_Word(), quoted=quoted) if unit == "$" else self.backticks(_Word())
                continue
            depth += (self.looking_at("${")) - (unit == "}")
            self.take(2 if unit == "\\" or self.looking_at("${") else 1)
        inside = "".join(u for u in self.units[start : self.at] if isinstance(u, str))
        if "[" in inside or re.search(r":[^-=?+]", inside):
            self.arithmetic |= set(_NAME.findall(inside))

    def balanced(
        self, what: str, *, arithmetic: bool = False, pair: str = "()", depth: int = 1
    ) -> None:
        """Read up to the closing bracket; no hole may stand inside."""
        start = self.at
        while depth:
            unit = self.peek()
            if unit is None:
                self.unclosed(what)
                return
            if isinstance(unit, Hole):
                self.refuse(unit, f"a value cannot stand in {what}: the shell would evaluate it")
            if unit in "'\"":
                self.skip_quoted(unit, what)
                continue
            depth += (unit == pair[0]) - (unit == pair[1])
            self.take(2 if unit == "\\" else 1)
        if arithmetic:
            inside = "".join(u for u in self.units[start : self.at] if isinstance(u, str))
            self.arithmetic |= set(_NAME.findall(inside))

    def skip_quoted(self, quote: str, what: str) -> None:
        self.take()
        while (unit := self.peek()) != quote:
            if unit is None:
                self.unclosed("a quote")
                return
            if isinstance(unit, Hole):
                self.refuse(unit, f"a value cannot stand in {what}")
            self.take(2 if unit == "\\" and quote == '"' else 1)
        self.take()

    def double_brackets(self, frame: _Frame) -> None:
        """Read the rest of ``[[ … ]]``."""
        start = self.at
        while not self.looking_at("]]"):
            unit = self.peek()
            if unit is None:
                self.unclosed("a `[[`")
                return
            if isinstance(unit, Hole):
                self.refuse(
                    unit,
                    "a value cannot stand in `[[ ]]`: bash reads patterns and arithmetic there",
                    'write [ "…" = "…" ], or pass the value with env=',
                )
            if unit in "'\"":
                self.skip_quoted(unit, "`[[ ]]`")
            else:
                self.take(2 if unit == "\\" else 1)
        self.take(2)
        inside = "".join(u for u in self.units[start : self.at] if isinstance(u, str))
        if re.search(r"-(eq|ne|lt|le|gt|ge|v)\b", inside):
            self.arithmetic |= set(_NAME.findall(inside))
        frame.in_command = True

    # ── heredocs ─────────────────────────────────────────────────────────────────────────────────

    def heredoc(self, delimiter: str, *, quoted: bool, tabs: bool) -> None:
        """Read the lines up to *delimiter*."""
        word, continued = _Word(begun=True), False
        while True:
            line_end = self.at
            while line_end < len(self.units) and self.units[line_end] != "\n":
                line_end += 1
            line = self.units[self.at : line_end]
            text = "".join(u if isinstance(u, str) else "\0" for u in line)
            if (text.lstrip("\t") if tabs else text) == delimiter:
                if continued:
                    self.lost = "a heredoc ends after a line with a backslash at its end"
                self.take(len(line))
                return
            if line_end >= len(self.units):
                self.unclosed(f"the heredoc `{delimiter}`")
                self.at = len(self.units)
                return
            self.heredoc_line(word, line_end, quoted=quoted)
            continued = not quoted and text.endswith("\\")

    def heredoc_line(self, word: _Word, line_end: int, *, quoted: bool) -> None:
        # An expansion may go on in the next line; the line that is looked at next follows it.
        while self.at <= line_end:
            unit = self.peek()
            if unit is None:
                return
            if quoted:
                if isinstance(unit, Hole):
                    self.refuse(
                        unit,
                        "a heredoc with a quoted delimiter takes no values",
                        "remove the quotes from the delimiter",
                    )
                self.take()
            else:
                word.text = ""
                self.quoted_unit(word, unit)

    # ── the whole script ─────────────────────────────────────────────────────────────────────────

    def _check_assignments(self) -> None:
        for name, hole in self.assigned:
            if self.integers:
                self.refuse(
                    hole,
                    "the script declares variables with attributes, so the shell may evaluate "
                    "what is assigned",
                )
            if name in self.arithmetic:
                self.warnings.append((hole, f"the shell evaluates `{name}` in arithmetic"))
