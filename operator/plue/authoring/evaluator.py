"""The evaluator as the engine sees it: an exec'd, preloaded process without any credentials.

The process gets an empty environment, one socket and nothing else; see ``sandbox/server.py`` for
what confines each evaluation. When it dies it is started again, and what was asked is asked once
more.
"""

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

import plue
from plue.authoring.codes import Code
from plue.authoring.results import Description, Diagnostic, Planned, Trigger, WorkflowInfo
from plue.errors import UnavailableError
from plue.wire.plan import Plan, Step

__all__ = ["Evaluator"]

_ROOT = Path(plue.__file__).parent.parent
_SERVER = Path(__file__).parent / "sandbox" / "server.py"
_START_SECONDS = 20.0
_ANSWER_SECONDS = 60.0
_FILE_BYTES = 512 * 1024
_WORKFLOWS = ".plue/workflows/"
_VERDICTS = {
    "timeout": (Code.TIMEOUT, "the evaluation took too long", "look for a loop that does not end"),
    "memory": (
        Code.MEMORY,
        "the evaluation needs too much memory",
        "large data belongs into steps",
    ),
    "recursion": (Code.RECURSION, "the code calls itself without end", "give it a condition"),
    "too large": (Code.RESULT_TOO_LARGE, "the plan is too large", "pass large texts through files"),
    "crashed": (Code.CRASHED, "the evaluation ended without an answer", "simplify the workflow"),
}


class _Process:
    """One life of the evaluator's process."""

    def __init__(self) -> None:
        self.isolation: Sequence[str] = ()
        self.answers: dict[int, asyncio.Future[tuple[Any, Any]]] = {}
        self.ready: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()
        self.answers[0] = self.ready
        self._popen: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        self._popen = subprocess.Popen(  # noqa: ASYNC220 - exec of one small process
            [sys.executable, "-sPB", str(_SERVER), str(_ROOT)],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            start_new_session=True,
        )
        theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._task = asyncio.create_task(self._read(reader), name="evaluator")
        try:
            async with asyncio.timeout(_START_SECONDS):
                head, _ = await self.ready
        except (TimeoutError, ConnectionError) as error:
            await self.close()
            raise UnavailableError("the evaluator did not start") from error
        self.isolation = head["isolation"]

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def ask(self, identity: int, request: Mapping[str, Any]) -> tuple[Any, Any]:
        assert self._writer is not None  # noqa: S101 - started
        future = self.answers[identity] = asyncio.get_running_loop().create_future()
        data = json.dumps([identity, request]).encode()
        self._writer.write(struct.pack("!I", len(data)) + data)
        try:
            await self._writer.drain()
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await future
        except TimeoutError as error:
            raise ConnectionResetError("the evaluator does not answer") from error
        finally:
            self.answers.pop(identity, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (length,) = struct.unpack("!I", await reader.readexactly(4))
                body = await reader.readexactly(length)
                (size,) = struct.unpack("!I", body[:4])
                head = json.loads(body[4 : 4 + size])
                future = self.answers.get(head["id"])
                if future is not None and not future.done():
                    try:
                        future.set_result((head, json.loads(body[4 + size :])))
                    except ValueError:
                        future.set_result((head, "crashed"))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for future in self.answers.values():
                if not future.done():
                    future.set_exception(ConnectionResetError("the evaluator ended"))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
        if self.ready.done() and not self.ready.cancelled():
            self.ready.exception()


class Evaluator:
    """Evaluates workflow files in a process of its own; one fork per evaluation."""

    def __init__(self) -> None:
        """Prepare; ``start`` begins the process."""
        self._process: _Process | None = None
        self._starting = asyncio.Lock()
        self._asked = 0

    @property
    def isolation(self) -> str:
        """What confines an evaluation on this machine, such as ``limits, seccomp``."""
        return ", ".join(self._process.isolation) if self._process else "not started"

    async def start(self) -> None:
        """Start the process and wait until it is preloaded. Raises UnavailableError."""
        await self._alive()

    async def close(self) -> None:
        """End the process and whatever it runs."""
        if self._process is not None:
            await self._process.close()
            self._process = None

    async def describe(self, files: Mapping[str, str]) -> Description:
        """Return what *files* (path → text) declare. Raises UnavailableError when it is away."""
        given, refused = _workflow_files(files)
        diagnostics, answer = await self._ask({"kind": "describe", "files": given})
        if isinstance(answer, str):
            return Description((), (*refused, *diagnostics, _verdict(answer, given)))
        found = [_diagnostic(d) for d in answer["diagnostics"]]
        workflows = tuple(_info(w) for w in answer["workflows"])
        return Description(workflows, (*refused, *diagnostics, *found))

    async def plan(
        self,
        files: Mapping[str, str],
        workflow: str,
        *,
        inputs: Mapping[str, JsonValue],
        event: Mapping[str, JsonValue],
        text_inputs: bool = False,
        known: Mapping[str, Mapping[str, JsonValue]] | None = None,
        recorded: Sequence[Step] = (),
    ) -> Planned:
        """Evaluate *workflow* with the values known so far (none, in the first stage).

        Raises UnavailableError when the evaluator is away.
        """
        given, refused = _workflow_files(files)
        # A file that does not even contain the name cannot declare it; the others need not run.
        likely = {f: s for f, s in given.items() if f"def {workflow}" in s} or given
        request = {
            "kind": "plan",
            "files": likely,
            "workflow": workflow,
            "inputs": dict(inputs),
            "event": dict(event),
            "text_inputs": text_inputs,
            "known": None if known is None else {k: dict(v) for k, v in known.items()},
            "recorded": [step.model_dump(mode="json") for step in recorded],
        }
        diagnostics, answer = await self._ask(request)
        if isinstance(answer, str):
            return Planned(diagnostics=(*refused, *diagnostics, _verdict(answer, likely)))
        found = [_diagnostic(d) for d in answer["diagnostics"]]
        info = None if answer["info"] is None else _info(answer["info"])
        if info is None and diagnostics:
            # The file that declares it could not even be compiled: say that, not "unknown".
            found = [d for d in found if d.code != Code.UNKNOWN_WORKFLOW]
        elif info is not None:
            diagnostics, refused = [], []
        plan = None if answer["plan"] is None else Plan.model_validate(answer["plan"])
        return Planned(
            plan,
            info,
            answer["inputs"],
            (*refused, *diagnostics, *found),
            answer.get("printed", ""),
        )

    async def _ask(self, request: Mapping[str, Any]) -> tuple[list[Diagnostic], Any]:
        self._asked += 1
        for last in (False, True):
            process = await self._alive()
            try:
                head, answer = await process.ask(self._asked, request)
            except (ConnectionError, RuntimeError) as error:
                await process.close()
                if last:
                    raise UnavailableError("the evaluator ended while it was asked") from error
            else:
                if isinstance(answer, dict) and "crashed" in answer:
                    answer = "crashed"
                return [_diagnostic(d) for d in head["diagnostics"]], answer
        raise UnavailableError("the evaluator is away")

    async def _alive(self) -> _Process:
        async with self._starting:
            if self._process is None or not self._process.alive:
                if self._process is not None:
                    await self._process.close()
                self._process = _Process()
                await self._process.start()
            return self._process


def _workflow_files(files: Mapping[str, str]) -> tuple[dict[str, str], list[Diagnostic]]:
    """Return the workflow files that may be evaluated, and why others may not."""
    given: dict[str, str] = {}
    refused: list[Diagnostic] = []
    for file, source in sorted(files.items()):
        if not (file.startswith(_WORKFLOWS) and file.endswith(".py")):
            continue
        if len(source) > _FILE_BYTES:
            message = f"the file has {len(source):,} characters; {_FILE_BYTES:,} are allowed"
            refused.append(Diagnostic(Code.FILE_TOO_LARGE, message, file, 1))
        elif "\0" in source or any("\ud800" <= c <= "\udfff" for c in source):
            refused.append(Diagnostic(Code.BAD_TEXT, "the file is not text", file, 1))
        else:
            given[file] = source
    return given, refused


def _verdict(answer: str, files: Mapping[str, str]) -> Diagnostic:
    code, message, remedy = _VERDICTS.get(answer, _VERDICTS["crashed"])
    return Diagnostic(code, message, next(iter(files), ""), 1, remedy=remedy)


def _diagnostic(found: Mapping[str, Any]) -> Diagnostic:
    related = found.get("related")
    return Diagnostic(
        code=found["code"],
        message=found["message"],
        file=found["file"],
        line=max(found["line"], 1),
        column=max(found["column"], 1),
        end_column=found.get("end_column"),
        severity=found["severity"],
        remedy=found.get("remedy"),
        source=found.get("source"),
        field=found.get("field"),
        related=None if related is None else (related[0], related[1]),
    )


def _info(found: Mapping[str, Any]) -> WorkflowInfo:
    values = dict(found)
    values["triggers"] = tuple(Trigger(t["kind"], t["options"]) for t in values["triggers"])
    return WorkflowInfo(**values)
