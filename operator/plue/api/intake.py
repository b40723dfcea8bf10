"""What comes in: query strings and JSON bodies, read within bounds and parsed into models.

Two rules hold for all of it. Nothing is ignored: an unknown name is refused with the nearest
known one. And nothing passes that Postgres cannot keep: NUL characters, lone surrogates, numbers
that are not finite. Each refusal names the field.
"""

import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, ValidationError

from plue.api.problems import MalformedError, MediaTypeError, TooLargeError, did_you_mean
from plue.errors import RejectedError

__all__ = ["body_chunks", "parse_body", "parse_query", "read_json", "refuse_unkeepable"]

M = TypeVar("M", bound=BaseModel)

MAX_DEPTH = 100
"""How deep JSON may nest; far more than anybody means, far less than any stack."""


def _flaw(value: object) -> str | None:
    """Say why a scalar cannot be kept; None when it can."""
    if isinstance(value, str):
        if "\0" in value:
            return "a NUL character cannot be stored"
        try:
            value.encode()
        except UnicodeEncodeError:
            return "a lone surrogate is not a character and cannot be stored"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number must be finite"
    return None


def _children(value: object) -> Iterator[tuple[str, object]]:
    """Yield what is directly inside *value* with its key as text."""
    if isinstance(value, Mapping):
        yield from ((str(key), inner) for key, inner in value.items())
    elif isinstance(value, list):
        yield from ((str(index), inner) for index, inner in enumerate(value))


def _readable(path: str) -> str:
    """Return *path* with what cannot be sent made visible."""
    return path.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def refuse_unkeepable(value: object, path: str = "") -> None:
    """Raise RejectedError, naming the field, when *value* holds what Postgres cannot keep."""
    # Not recursive: the depth is the caller's to choose, and must not be ours to die of.
    waiting: list[tuple[str, object, int]] = [(path, value, 0)]
    while waiting:
        where, one, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise RejectedError(f"nested more than {MAX_DEPTH} levels deep", field=_readable(where))
        if flaw := _flaw(one):
            raise RejectedError(flaw, field=_readable(where) or None)
        for key, inner in _children(one):
            inside = f"{where}.{key}" if where else key
            if flaw := _flaw(key):
                raise RejectedError(f"in a name: {flaw}", field=_readable(inside))
            waiting.append((inside, inner, depth + 1))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


async def body_chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, unpacked. Raises MalformedError when it cannot be unpacked."""
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except web.RequestPayloadError as error:
        # aiohttp would read on to find the end, and log what it stumbles over.
        request.content.feed_eof()
        raise MalformedError("the body is not what its Content-Encoding says") from error


async def _read(request: web.Request, limit: int) -> bytes:
    """Return the request's body, unpacked; raises TooLargeError beyond *limit* bytes."""
    if (request.content_length or 0) > limit:
        raise TooLargeError(f"the body is larger than {limit} bytes")
    parts, size = [], 0
    async for part in body_chunks(request):
        size += len(part)
        if size > limit:
            raise TooLargeError(f"the body is larger than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


async def read_json(request: web.Request, *, limit: int) -> object:
    """Return the JSON body, an empty object when there is no body.

    Raises MediaTypeError, TooLargeError, MalformedError with the place in the text.
    """
    raw = await _read(request, limit)
    if not raw:
        return {}
    kind = request.content_type
    if kind != "application/json" and not kind.endswith("+json"):
        raise MediaTypeError(
            f"the body is {kind}, not JSON", remedy="send `Content-Type: application/json`"
        )
    if (request.charset or "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise MediaTypeError("JSON is sent as UTF-8", remedy="leave `charset` out")
    try:
        return json.loads(raw.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise MalformedError(f"the body is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise MalformedError(f"the body is not JSON: {error.msg}, {place}") from error
    except RecursionError as error:
        raise MalformedError("the body nests too deeply") from error
    except ValueError as error:
        raise MalformedError(f"the body is not JSON: {error}") from error


def _names_at(model: type[BaseModel], path: tuple[int | str, ...]) -> Mapping[str, Any]:
    """Return the fields of the model that lies at *path* inside *model*."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return {}
        model = inner
    return model.model_fields


def _rejected(error: ValidationError, model: type[BaseModel], what: str) -> RejectedError:
    """Return *error* as ours: the first field in front, all of them in ``errors``."""
    found, remedies = [], []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        path = ".".join(str(part) for part in one["loc"])
        message, remedy = one["msg"], None
        if one["type"] == "extra_forbidden":
            *outer, name = one["loc"]
            message = f"there is no {what} `{name}`"
            remedy = did_you_mean(str(name), _names_at(model, tuple(outer)))
        found.append({"field": path, "message": message})
        remedies.append(remedy)
    first = found[0]
    message = f"{first['field']}: {first['message']}" if first["field"] else first["message"]
    return RejectedError(
        message, field=first["field"] or None, remedy=remedies[0], details={"errors": found}
    )


def parse_body(model: type[M], data: object) -> M:
    """Return *data* as *model*; strict, so that ``"5"`` is not a number. Raises RejectedError."""
    refuse_unkeepable(data)
    try:
        return model.model_validate(data, strict=True)
    except ValidationError as error:
        raise _rejected(error, model, "field") from error


def _is_list(annotation: object) -> bool:
    origin = get_origin(annotation)
    return origin is list or any(get_origin(arm) is list for arm in get_args(annotation))


def parse_query(model: type[M], query: MultiMapping[str]) -> M:
    """Return the query string as *model*. Raises RejectedError, also for doubled parameters."""
    data: dict[str, object] = {}
    for name in dict.fromkeys(query):
        values = query.getall(name)
        field = model.model_fields.get(name)
        if field is not None and _is_list(field.annotation):
            data[name] = values
        elif len(values) > 1:
            raise RejectedError(f"`{name}` is given {len(values)} times", field=name)
        else:
            data[name] = values[0]
    refuse_unkeepable(data)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _rejected(error, model, "parameter") from error
