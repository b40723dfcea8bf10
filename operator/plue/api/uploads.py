"""Archives: a workspace that a client packed itself."""

from collections.abc import AsyncIterator

from aiohttp import web

from plue.api.callers import place_of
from plue.api.intake import body_chunks
from plue.api.keys import ARCHIVES, HOUSE
from plue.api.models import Blob
from plue.api.problems import MediaTypeError, TooLargeError
from plue.api.queries import PlaceQuery
from plue.api.routes import Call, Nothing, Outcome
from plue.errors import RejectedError

__all__ = ["upload_blob"]


class _ClientLeftError(Exception):
    """The client went away before its archive was complete."""


async def _chunks(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives; raises TooLargeError beyond *limit* bytes."""
    size = 0
    try:
        async for chunk in body_chunks(request):
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            yield chunk
    except ConnectionError as error:
        # The blob store takes an OSError for its disk's.
        raise _ClientLeftError from error
    if not size:
        raise RejectedError("the body is empty; it should be a tar archive")


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"the archive is larger than {limit} bytes",
        remedy="leave out what the run does not need, or raise the limit",
    )


async def upload_blob(call: Call[PlaceQuery, Nothing]) -> Outcome:
    """Store an archive under its SHA-256."""
    request = call.request
    await place_of(request, call.query.namespace)
    limit = request.app[HOUSE].limits.blob_bytes
    if request.content_type.startswith("multipart/"):
        raise MediaTypeError(
            "the body is a form, not an archive", remedy="with curl: `--data-binary @FILE`"
        )
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    try:
        name, size = await request.app[ARCHIVES].put(_chunks(request, limit))
    except _ClientLeftError as error:
        raise ConnectionResetError("the client left") from error
    return Blob(id=name, bytes=size)
