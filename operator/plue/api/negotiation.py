"""Which of the offered media types a client asks for."""

from collections.abc import Sequence

from aiohttp import web

__all__ = ["preferred"]


def _weight(wish: str, media: str) -> float:
    """Return how much one item of an Accept header wants *media*; 0 when it speaks of others."""
    kind, *parameters = (part.strip().lower() for part in wish.split(";"))
    if kind not in {media, media.partition("/")[0] + "/*", "*/*"}:
        return 0.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def preferred(request: web.Request, offered: Sequence[str]) -> str:
    """Return the media type to answer in: the first offered, unless another is wanted more.

    A header that wants none of them gets the first too: an answer says more than a 406.
    """
    wishes = ",".join(request.headers.getall("Accept", ["*/*"])).split(",")
    best, most = offered[0], 0.0
    for media in offered:
        weight = max(_weight(wish, media) for wish in wishes)
        if weight > most:
            best, most = media, weight
    return best
