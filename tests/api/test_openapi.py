"""The OpenAPI document: valid, complete, and true to what the server does."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
import schemathesis
from aiohttp import web
from api.memory_engine import MemoryTree, an_info
from api.served import TOKEN, Served, an_api
from factories import a_plan
from fuzzing import LONG, examples
from hypothesis import given
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import positive_data_acceptance
from server import a_server
from typing_extensions import override

from plue.api.app import ROUTES
from plue.authoring.evaluator import Evaluator
from plue.authoring.results import Description, Diagnostic, Planned, Rendered
from plue.domain.run import Submission
from plue.local.postgres import EmbeddedPostgres

OPERATIONS = [(route.method, route.path) for route in ROUTES]


async def the_document(served: Served) -> dict[str, Any]:
    """Return the document that the server gives."""
    async with served.client.get("/openapi.json") as response:
        assert response.status == 200
        return dict(await response.json())


async def test_the_document_is_valid_openapi_3_1(served: Served) -> None:
    """The validator of the specification has nothing to say."""
    document = await the_document(served)
    assert document["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


async def test_the_document_has_every_route_and_no_other(served: Served) -> None:
    """What is served is documented: the document and the router come from the same table."""
    document = await the_document(served)
    documented = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert documented == {*OPERATIONS, ("GET", "/login")}
    served_routes = {
        (route.method, route.resource.canonical)
        for route in served.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served_routes == documented


async def test_every_operation_documents_its_problems(served: Served) -> None:
    """Errors are problem JSON everywhere, and credentials are needed but for four addresses."""
    document = await the_document(served)
    open_to_all = set()
    for path, item in document["paths"].items():
        for operation in item.values():
            assert "application/problem+json" in operation["responses"]["422"]["content"]
            assert operation["summary"]
            if operation.get("security") == []:
                open_to_all.add(path)
    assert open_to_all == {"/healthz", "/readyz", "/login"}


class FixedEvaluator(Evaluator):
    """Plans every workflow as one step: what is sent must get past us to the real store."""

    @override
    async def describe(self, files: Mapping[str, str]) -> Description:
        return Description(workflows=(an_info(),))

    @override
    async def describe_prompts(self, files: Mapping[str, str]) -> Description:
        return Description()

    @override
    async def render(self, files: Mapping[str, str], prompt: str, **given: Any) -> Rendered:
        return Rendered(text=prompt, inputs=given["inputs"])

    @override
    async def plan(self, files: Mapping[str, str], workflow: str, **given: Any) -> Planned:
        if not files:
            missing = Diagnostic("PLU404", f"there is no workflow {workflow!r}", file="", line=1)
            return Planned(diagnostics=(missing,))
        info = replace(an_info(), name=workflow, file=next(iter(files)))
        return Planned(plan=a_plan(), info=info, inputs=given["inputs"])


class Background:
    """The API over a real engine and store, in a thread of its own for a client that blocks."""

    def __init__(self, folder: Path, dsn: str) -> None:
        """Make the thread; entering starts it."""
        self.url = ""
        self._folder = folder
        self._dsn = dsn
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        """Start serving."""
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving."""
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        async with a_server(self._dsn, self._folder) as server:
            server.engine._evaluator = FixedEvaluator()
            tree = MemoryTree(self._folder)
            for key in ("one", "two"):
                files = await tree.files()
                await server.engine.submit(
                    Submission(workflow="ci", files=files, idempotency_key=key)
                )
            app, _ = an_api(self._folder, server.engine, tree=tree)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()


@pytest.fixture(scope="module")
def background(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres
) -> Iterator[Background]:
    """Serve for as long as this module's tests run."""
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE openapi")
    folder = tmp_path_factory.mktemp("served")
    with Background(folder, postgres_server.dsn("openapi")) as served:
        yield served


HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TAKES_INPUT = [
    pytest.param(mode, route.method, route.path, id=f"{mode.value}-{route.method}-{route.path}")
    for route in ROUTES
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    # What takes nothing cannot be given wrong things.
    if mode is schemathesis.GenerationMode.POSITIVE or not route.public
]


@pytest.mark.fuzz
@pytest.mark.parametrize(("mode", "method", "path"), TAKES_INPUT)
def test_no_input_is_a_fault_of_ours(
    background: Background, mode: schemathesis.GenerationMode, method: str, path: str
) -> None:
    """Whatever is sent, the answer is documented, has the documented form, and is no 500."""
    schema = schemathesis.openapi.from_url(background.url + "/openapi.json", headers=HEADERS)
    operation = schema[path][method]
    # A request means more than a schema says: a blob must exist, `since` lie before `until`.
    is_beyond = method == "POST" or path.endswith("/usage") or LONG
    beyond_schema = [positive_data_acceptance] if is_beyond else []

    @examples(10)
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: schemathesis.Case) -> None:
        if path.endswith("/events"):
            case.query = {**(case.query or {}), "follow": "false"}
        case.call_and_validate(headers=HEADERS, timeout=10, excluded_checks=beyond_schema)

    attempt()
