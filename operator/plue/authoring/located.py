"""YAML with places: values as YAML 1.2 reads them, and where each of them stands.

PyYAML finds the structure; scalars are resolved here by YAML 1.2's core schema, because 1.1 makes
a boolean of ``on`` and ninety of ``1:30``. Tags, merges, anchors and doubled keys are refused: a
file of settings needs none of them, and each hides something.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

__all__ = ["Located", "Mark", "NotYamlError", "compose_yaml", "parse_yaml"]

Path: TypeAlias = tuple[str | int, ...]

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C is several times faster, and tells columns as well."""

_MAX_DEPTH: Final = 20
_MAX_CHARACTERS: Final = 64 * 1024
"""Parsing happens in the server itself, and deep nesting costs the square of its depth."""
_INT: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A place; line and columns count characters from 1, the end is behind the last one."""

    line: int
    column: int
    end_column: int | None = None


class NotYamlError(Exception):
    """The text is not YAML, or not the part of it that is read here."""

    def __init__(self, message: str, mark: Mark, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Located:
    """A value with the places of its keys and of its values, by path."""

    value: Any
    keys: Mapping[Path, Mark]
    values: Mapping[Path, Mark]

    def mark_of(self, path: Path, *, key: bool = False) -> Mark:
        """Return where *path* stands, else the nearest place around it."""
        while path:
            found = (self.keys.get(path) if key else None) or self.values.get(path)
            if found is not None:
                return found
            path, key = path[:-1], True
        return Mark(1, 1)


def parse_yaml(text: str) -> Located:
    """Return the one document in *text* (None when it is empty). Raises NotYamlError."""
    node = compose_yaml(text)
    reader = _Reader()
    value = None if node is None else reader.read(node, ())
    return Located(value, reader.keys, reader.values)


def compose_yaml(text: str) -> Node | None:
    """Return the one document in *text* as nodes with places. Raises NotYamlError."""
    if len(text) > _MAX_CHARACTERS:
        raise NotYamlError(
            f"it has more than {_MAX_CHARACTERS:,} characters", Mark(1, 1), "keep settings short"
        )
    try:
        _refuse_what_hides(text)
        node: Node | None = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
        raise NotYamlError(
            error.problem or "it cannot be read", place, "see that quotes, brackets and indents fit"
        ) from error
    except yaml.YAMLError as error:
        raise NotYamlError(
            str(error).splitlines()[0], Mark(1, 1), "save it as plain UTF-8 text"
        ) from error
    return node


def _refuse_what_hides(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        mark = event.start_mark
        place = Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise NotYamlError(
                "anchors and aliases are not supported", place, "write the value out"
            )
        if getattr(event, "tag", None):
            raise NotYamlError("tags are not supported", place, "remove the tag")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise NotYamlError("it is nested too deeply", place, "write it flatter")


class _Reader:
    def __init__(self) -> None:
        self.keys: dict[Path, Mark] = {}
        self.values: dict[Path, Mark] = {}

    def read(self, node: Node, path: Path) -> Any:
        """Return the node's value and note the places in it."""
        self.values[path] = _mark(node)
        if len(path) > _MAX_DEPTH:
            raise NotYamlError("it is nested too deeply", _mark(node), "write it flatter")
        if isinstance(node, MappingNode):
            return dict(self._pairs(node, path))
        if isinstance(node, SequenceNode):
            return [self.read(item, (*path, at)) for at, item in enumerate(node.value)]
        return _scalar(node) if isinstance(node, ScalarNode) else None

    def _pairs(self, node: MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Mark] = {}
        for key, value in node.value:
            mark = _mark(key)
            name = key.value if isinstance(key, ScalarNode) else None
            if name is None or name == "<<":
                raise NotYamlError("a key is a plain name", mark, "write `name: value`")
            if name in seen:
                raise NotYamlError(
                    f"`{name}` stands here twice, first in line {seen[name].line}",
                    mark,
                    "remove one of them",
                )
            seen[name] = self.keys[(*path, name)] = mark
            yield name, self.read(value, (*path, name))


def _scalar(node: ScalarNode) -> Any:
    text: str = node.value
    if node.style:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        # Python refuses thousands of digits; nobody means such a number.
        return int(text) if len(text) < 100 else text  # noqa: PLR2004 - as above
    return float(text) if _FLOAT.fullmatch(text) else text


def _mark(node: Node) -> Mark:
    start, end = node.start_mark, node.end_mark
    same_line = end.line == start.line and end.column > start.column
    return Mark(start.line + 1, start.column + 1, end.column + 1 if same_line else None)
