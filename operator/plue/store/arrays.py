"""Arrays as the hot path sends them: Postgres' binary form, made in one join.

The driver's own dumper escapes every text by a regular expression to put it between quotes: for
log lines that was half of what the server did.
"""

import struct

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format
from typing_extensions import override

__all__ = ["Numbers", "Texts"]

_TEXT, _TEXTS = 25, 1009
_BIGINT, _BIGINTS = 20, 1016
_NULL = struct.pack("!i", -1)
_length = struct.Struct("!i").pack
_number = struct.Struct("!iq").pack


class Texts(list[str | None]):
    """A ``text[]``."""


class Numbers(list[int | None]):
    """A ``bigint[]``."""


def _head(array: Texts | Numbers, element: int) -> bytes:
    """Return what stands before the elements: dimensions, nulls, type; size and lower bound."""
    if not array:
        return struct.pack("!iii", 0, 0, element)
    return struct.pack("!iiiii", 1, None in array, element, len(array), 1)


class _TextsDumper(Dumper):
    format = Format.BINARY
    oid = _TEXTS

    @override
    def dump(self, obj: Texts) -> Buffer:
        pieces = [_head(obj, _TEXT)]
        for text in obj:
            if text is None:
                pieces.append(_NULL)
            else:
                data = text.encode()
                pieces += (_length(len(data)), data)
        return b"".join(pieces)


class _NumbersDumper(Dumper):
    format = Format.BINARY
    oid = _BIGINTS

    @override
    def dump(self, obj: Numbers) -> Buffer:
        numbers = [_NULL if n is None else _number(8, n) for n in obj]
        return _head(obj, _BIGINT) + b"".join(numbers)


psycopg.adapters.register_dumper(Texts, _TextsDumper)
psycopg.adapters.register_dumper(Numbers, _NumbersDumper)
