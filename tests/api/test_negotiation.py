"""Which media type an Accept header asks for."""

import pytest
from aiohttp.test_utils import make_mocked_request

from plue.api.negotiation import preferred

SSE, NDJSON = "text/event-stream", "application/x-ndjson"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(None, SSE, id="nothing-said"),
        pytest.param("*/*", SSE, id="anything"),
        pytest.param("text/event-stream", SSE, id="an-event-source"),
        pytest.param("application/x-ndjson", NDJSON, id="ndjson"),
        pytest.param("Application/X-NDJSON; charset=utf-8", NDJSON, id="case-and-parameters"),
        pytest.param("application/x-ndjson, */*;q=0.1", NDJSON, id="ndjson-rather-than-anything"),
        pytest.param("application/x-ndjson;q=0.5, text/*", SSE, id="sse-rather-than-ndjson"),
        pytest.param("application/x-ndjson;q=0", SSE, id="ndjson-not-at-all"),
        pytest.param("application/x-ndjson;q=much", SSE, id="weight-that-is-no-number"),
        pytest.param("image/png", SSE, id="none-of-them"),
        pytest.param("", SSE, id="empty"),
    ],
)
def test_the_answer_is_in_what_is_wanted_most(accept: str | None, expected: str) -> None:
    """The first offered is the default; another is given only when it is wanted more."""
    request = make_mocked_request("GET", "/", headers={} if accept is None else {"Accept": accept})
    assert preferred(request, (SSE, NDJSON)) == expected
