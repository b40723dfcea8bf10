"""What the Messages API refuses, refused in its words: read, checked, or answered with 400."""

from pydantic import ValidationError

from plue.dev.rules import problems_of
from plue.dev.shapes import BLOCKS, WORDS, Request
from plue.dev.signatures import Prefix, signature_of

__all__ = ["BadRequestError", "Prefix", "Request", "opening_of", "read_request", "signature_of"]


class BadRequestError(Exception):
    """The request is one that the API answers with 400 ``invalid_request_error``."""


def read_request(body: bytes) -> Request:
    """Parse and check a request. Raises BadRequestError with the API's message."""
    try:
        request = Request.model_validate_json(body)
    except ValidationError as error:
        raise BadRequestError(_said(error)) from error
    for problem in problems_of(request):
        raise BadRequestError(problem)
    return request


def opening_of(request: Request) -> str:
    """Return the text that a conversation begins with: the system prompt and the first message."""
    return f"{_text_of(request.system)}\n{_text_of(request.messages[0].content)}"


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, tuple) else ()
    return "\n".join(block.text for block in blocks if block.type == "text")


def _said(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in {WORDS, BLOCKS})
    if first["type"] == "extra_forbidden":
        return f"{place}: Extra inputs are not permitted"
    if first["type"] == "missing":
        return f"{place}: Field required"
    return f"{place}: {first['msg']}" if place else first["msg"]
