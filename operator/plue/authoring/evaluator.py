"""The evaluator as the engine sees it: an exec'd, preloaded process without any credentials.

The process gets a socket, two folders to import from and nothing else: no environment, no other
descriptors. It forks one child per evaluation (``sandbox.host``). When it dies it is started
again, and what it was evaluating is tried once more.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import RestrictedPython
from pydantic import JsonValue
from pydantic_core import to_json

import plue
from plue.authoring.answers import diagnostic_of, ended, info_of, parsed_answer, planned_of
from plue.authoring.cloning import Clone, clone
from plue.authoring.codes import Code
from plue.authoring.config import CONFIG_FILE, ConfigFile, config_of
from plue.authoring.fetching import Fetched, fetch
from plue.authoring.imports import (
    Imports,
    is_source_file,
    is_workflow_file,
    prompts_for,
)
from plue.authoring.prompts import PromptParser, render_prompt
from plue.authoring.remotes import GitRequest, Reach
from plue.authoring.results import Description, Diagnostic, Planned, Rendered, WorkflowInfo
from plue.authoring.sandbox.host import HEADER
from plue.errors import InternalError, UnavailableError
from plue.wire.plan import Ref, Step

__all__ = ["Evaluator", "Isolation", "body_of", "merged"]

_BOOT: Final = (
    "import sys; sys.path[:0] = sys.argv[3:]; "
    "from plue.authoring.sandbox.host import main; main(int(sys.argv[1]), sys.argv[2])"
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """What is in force around an evaluation, beyond memory, time and file limits.

    ``network``: a network namespace of its own. ``syscalls``: a list of allowed system calls.
    ``user``: runs as nobody. ``notes`` say what is missing, and why.
    """

    network: bool
    syscalls: bool
    user: bool
    notes: tuple[str, ...] = ()


_STARTS = 3
_STUCK_SECONDS = 5.0
"""How much longer than one evaluation may take the process may say nothing at all."""


class _LostError(Exception):
    """The process went away with requests in it."""


class Evaluator:
    """Evaluates workflow files in a process of its own; one fork per evaluation."""

    def __init__(
        self,
        *,
        wall: timedelta = timedelta(seconds=5),
        children: int = 4,
        memory_bytes: int = 256 * 1024 * 1024,
        result_bytes: int = 4 * 1024 * 1024,
        reach: Reach = Reach(),  # noqa: B008 - it never changes
    ) -> None:
        """Set the limits of one evaluation, how many may run at once, and whom fetches reach."""
        self._reach = reach
        self.wall = wall.total_seconds()
        self._limits = {
            "wall_seconds": self.wall,
            "children": children,
            "memory_bytes": memory_bytes,
            "result_bytes": result_bytes,
        }
        self._ids = itertools.count(1)
        self._lock = asyncio.Lock()
        self._link: _Link | None = None
        self._closed = False
        self._prompts = PromptParser(self.ask, self.wall)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start the process and wait until it is preloaded."""
        self._closed = False
        await self._connected()

    async def close(self) -> None:
        """End the process and whatever it runs."""
        self._closed = True
        async with self._lock:
            if self._link is not None:
                await self._link.close()
                self._link = None

    @property
    def isolation(self) -> Isolation | None:
        """What is in force; None while the process is not there."""
        return self._link.isolation if self._link is not None else None

    async def _connected(self) -> "_Link":
        async with self._lock:
            if self._closed:
                raise UnavailableError("the evaluator is closed")
            if self._link is None or self._link.lost:
                if self._link is not None:
                    await self._link.close()
                    self._link = None
                self._link = await self._opened()
            return self._link

    async def _opened(self) -> "_Link":
        """Start a process, and another one when a signal ends the first before it says a word."""
        settings = json.dumps(self._limits | {"server": os.getpid()})
        for _ in range(_STARTS):
            with contextlib.suppress(_LostError):
                return await _Link.open(settings, patience=self.wall + _STUCK_SECONDS)
        raise UnavailableError(
            "the evaluator's process is killed whenever it starts",
            remedy="look for a lack of memory on this machine",
        )

    async def ask(
        self, request: Mapping[str, object], recorded: Sequence[Step] = ()
    ) -> tuple[str, bytes]:
        """Send a request; return ``R`` and the answer, or ``E`` and how the child ended.

        *recorded* are steps that go along, as their models write themselves.

        A process that dies under it is replaced once.
        """
        kind = b"Q" if request.get("prompts") is None else b"P"
        body = body_of(request, recorded)
        for _ in range(2):
            link = await self._connected()
            with contextlib.suppress(_LostError):
                return await link.ask(next(self._ids), kind, body)
        raise UnavailableError(
            "the evaluator ended twice while it evaluated this",
            remedy="look into the server's log, and for a lack of memory on this machine",
        )

    # ── describe ─────────────────────────────────────────────────────────────────────────────────

    async def describe(self, files: Mapping[str, str]) -> Description:
        """Return what *files* (path → text) declare. Raises UnavailableError when it is away."""
        workflows, prompts = await asyncio.gather(
            self.describe_separately(files), self.describe_prompts(files)
        )
        return merged([workflows, prompts], files)

    async def describe_prompts(self, files: Mapping[str, str]) -> Description:
        """Return the prompts among *files*, and what is wrong in them."""
        return await self._prompts.describe(files)

    async def describe_separately(self, files: Mapping[str, str]) -> Description:
        """Return the same, but let a name be declared by several files."""
        wanted = {path: text for path, text in sorted(files.items()) if is_source_file(path)}
        if not wanted:
            return Description()
        config, prompts = config_of(files), prompts_for(wanted, files)
        answer = await self._describe(wanted, prompts, config)
        if isinstance(answer, Description):
            return answer
        # One of the files broke the evaluation of all. Alone, each breaks only its own.
        imports = Imports(wanted)
        found = await asyncio.gather(
            *(
                self._describe_alone(path, _with_imports(wanted, imports, path), prompts, config)
                for path in wanted
            )
        )
        return Description(
            [info for one in found for info in one.workflows],
            list(dict.fromkeys(item for one in found for item in one.diagnostics)),
        )

    async def _describe(
        self,
        files: Mapping[str, str],
        prompts: Mapping[str, str] | None,
        config: ConfigFile,
        *,
        dry: bool = True,
    ) -> Description | Diagnostic:
        request = {
            "op": "describe",
            "files": files,
            "prompts": prompts,
            "config": _defaults(config),
            "dry": dry,
        }
        kind, body = await self.ask(request)
        if kind == "E":
            return ended(body.decode(), next(iter(files)), 1, self.wall)
        answer = parsed_answer(body)
        return Description(
            [info_of(item) for item in answer["workflows"]],
            [diagnostic_of(item) for item in answer["diagnostics"]],
        )

    async def _describe_alone(
        self,
        path: str,
        files: Mapping[str, str],
        prompts: Mapping[str, str] | None,
        config: ConfigFile,
    ) -> Description:
        """Return what *path* declares; *files* are it and what it imports."""
        answer = await self._describe(files, prompts, config)
        if isinstance(answer, Diagnostic):
            # Perhaps it is only the invented inputs of the dry evaluation that it cannot stand.
            failed = replace(answer, file=path)
            again = await self._describe(files, prompts, config, dry=False)
            if isinstance(again, Diagnostic):
                return Description([], [failed])
            answer = replace(again, diagnostics=[*again.diagnostics, failed])
        return replace(answer, workflows=[one for one in answer.workflows if one.file == path])

    # ── plan ─────────────────────────────────────────────────────────────────────────────────────

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
        stage: int = 1,
        asked: Sequence[Ref] = (),
    ) -> Planned:
        """Evaluate *workflow* with the values known so far (none, in the first stage).

        A later *stage* must reproduce the *recorded* steps; *asked* are all values that earlier
        stages waited for. What *known* holds is told in ``sandbox.results``.

        An unknown workflow is a diagnostic with code PLU204 and field ``workflow``; wrong inputs
        have fields such as ``inputs.env``. Raises UnavailableError when the evaluator is away.
        """
        config = config_of(files)
        if config.diagnostics:
            # With a default that is not known a run could go to the wrong pool.
            return Planned(diagnostics=config.diagnostics)
        wanted = {path: text for path, text in sorted(files.items()) if is_workflow_file(path)}
        definition = re.compile(rf"^[ \t]*def[ \t]+{re.escape(workflow)}\b", re.MULTILINE)
        found = {path: text for path, text in wanted.items() if definition.search(text)}
        sources = {path: text for path, text in files.items() if is_source_file(path)}
        imports = Imports(sources)
        reached = set(found).union(*(imports.of(path) for path in found))
        request = {
            "op": "plan",
            "config": _defaults(config),
            "files": {path: sources[path] for path in sorted(reached)},
            "prompts": prompts_for({path: sources[path] for path in reached}, files),
            "candidates": list(found),
            "modules": sorted(sources),
            "workflow": workflow,
            "names": [] if found else _declared_names(wanted.values()),
            "inputs": dict(inputs),
            "event": dict(event),
            "text_inputs": text_inputs,
            "known": {name: dict(values) for name, values in (known or {}).items()},
            "stage": stage,
            "asked": [[ref.ref, ref.field, list(ref.path), ref.tail] for ref in asked],
        }
        kind, body = await self.ask(request, recorded)
        if kind == "E":
            path, text = next(iter(found.items()), ("", ""))
            match = definition.search(text)
            line = text.count("\n", 0, match.start()) + 1 if match else 1
            return Planned(diagnostics=[ended(body.decode(), path, line, self.wall)])
        return planned_of(parsed_answer(body))

    # ── render ───────────────────────────────────────────────────────────────────────────────────

    async def fetch(self, request: GitRequest) -> Fetched:
        """Return the `.plue/` of a git repository. Raises RejectedError, UnavailableError."""
        return await fetch(request, reach=self._reach)

    def clone(self, request: GitRequest) -> AbstractAsyncContextManager[Clone]:
        """Give a git repository at a commit. Raises RejectedError, UnavailableError."""
        return clone(request, reach=self._reach)

    async def render(
        self,
        files: Mapping[str, str],
        prompt: str,
        *,
        inputs: Mapping[str, JsonValue],
        text_inputs: bool = False,
    ) -> Rendered:
        """Render a prompt of *files*, called by its name, with *inputs*.

        An unknown prompt is a diagnostic with code PLU720 and field ``prompt``; wrong inputs have
        fields such as ``inputs.diff``. With *text_inputs*, text is parsed by the declared type.
        Raises UnavailableError when the evaluator is away.
        """
        request = {"prompt": prompt, "inputs": dict(inputs), "text_inputs": text_inputs}
        return await render_prompt(self.ask, files, request, self.wall)


def body_of(request: Mapping[str, object], recorded: Sequence[Step]) -> bytes:
    """Return a request as JSON; the models write *recorded* themselves, which is faster by ten."""
    body = json.dumps(request, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if recorded:
        body = body[:-1] + b',"recorded":' + to_json(list(recorded)) + b"}"
    return body


class _Link:
    """One living process and the socket to it."""

    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader) -> None:
        self._process = process
        self._reader = reader
        self._writer: asyncio.StreamWriter | None = None
        self._open: dict[int, asyncio.Future[tuple[str, bytes]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._patience = 0.0
        self.lost = False
        self.isolation: Isolation | None = None

    @classmethod
    async def open(cls, settings: str, *, patience: float) -> "_Link":
        """Start a process; one that is asked and says nothing for *patience* seconds is ended.

        Raises InternalError, with what Python said, when it cannot start, and _LostError when a
        signal ended it.
        """
        ours, theirs = socket.socketpair()
        folders = [str(Path(m.__file__ or "").parents[1]) for m in (plue, RestrictedPython)]
        command = [sys.executable, "-sP", "-c", _BOOT, str(theirs.fileno()), settings, *folders]
        with theirs:
            # Hashes are fixed so that two evaluations never differ in an order.
            process = subprocess.Popen(  # noqa: ASYNC220 - microseconds: vfork and exec
                command,
                env={"PYTHONHASHSEED": "0"},
                cwd="/",
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        link = cls(process, reader)
        link._writer, link._patience = writer, patience
        try:
            await link._greet()
        except BaseException:
            await link.close()
            raise
        link._task = asyncio.create_task(link._receive(), name="evaluator-link")
        return link

    async def _greet(self) -> None:
        try:
            _, _, body = await self._frame()
        except (asyncio.IncompleteReadError, OSError) as error:
            said = await asyncio.to_thread(self._last_words)
            if not said:
                raise _LostError from error
            raise InternalError(
                f"the evaluator's process did not start: {said}",
                remedy="run `plue doctor`",
            ) from error
        found = json.loads(body)
        self.isolation = Isolation(
            found["network"], found["syscalls"], found["user"], tuple(found["notes"])
        )

    def _last_words(self) -> str:
        """Return why the process did not start; nothing when a signal ended it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)  # it closed the socket: its own end is near
        ended = self._process.poll()
        self._process.kill()
        _, said = self._process.communicate(timeout=10)
        lines = said.decode(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
        return "" if ended is not None and ended < 0 else f"exit code {self._process.returncode}"

    async def _frame(self) -> tuple[int, str, bytes]:
        size, request, kind = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        return request, kind.decode(), await self._reader.readexactly(size)

    async def _receive(self) -> None:
        try:
            while True:
                request, kind, body = await self._frame()
                waiting = self._open.pop(request, None)
                self._watch()
                if waiting is not None and not waiting.done():
                    waiting.set_result((kind, body))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._lose()

    def _watch(self) -> None:
        """Expect a word within the time of an evaluation, as long as one is asked for."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None
        if self._open and not self.lost:
            # A halted process keeps its socket open: only its silence tells.
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(self._patience, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._open:
            self._process.kill()

    def _lose(self) -> None:
        self.lost = True
        if self._alarm is not None:
            self._alarm.cancel()
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(_LostError())
        self._open.clear()

    async def ask(self, request: int, kind: bytes, body: bytes) -> tuple[str, bytes]:
        """Send one request and wait for its answer. Raises _LostError when the process dies."""
        if self.lost or self._writer is None:
            raise _LostError
        waiting: asyncio.Future[tuple[str, bytes]] = asyncio.get_running_loop().create_future()
        self._open[request] = waiting
        if self._alarm is None:
            self._watch()
        try:
            self._writer.write(HEADER.pack(len(body), request, kind) + body)
            await self._writer.drain()
        except OSError as error:
            self._lose()
            with contextlib.suppress(_LostError):
                waiting.result()
            raise _LostError from error
        try:
            return await waiting
        finally:
            self._open.pop(request, None)

    async def close(self) -> None:
        """Close the socket, which ends the process, and make sure that it has ended."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._lose()
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        await asyncio.to_thread(self._reap)

    def _reap(self) -> None:
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()


def merged(found: Sequence[Description], files: Mapping[str, str]) -> Description:
    """Put descriptions of single files together; a name that is taken twice is an error."""
    workflows: dict[str, WorkflowInfo] = {}
    diagnostics = [*config_of(files).diagnostics]
    diagnostics += [item for description in found for item in description.diagnostics]
    for description in found:
        for info in description.workflows:
            first = workflows.setdefault(info.name, info)
            if first is not info:
                diagnostics.append(
                    Diagnostic(
                        str(Code.DUPLICATE_WORKFLOW),
                        f"workflow `{info.name}` is also declared in {first.file}, "
                        f"line {first.line}",
                        info.file,
                        info.line,
                        remedy="give one of them another name",
                        source=_line_of(files.get(info.file, ""), info.line),
                        related=(first.file, first.line),
                    )
                )
    prompts = [info for description in found for info in description.prompts]
    return Description(list(workflows.values()), diagnostics, prompts)


def _defaults(config: ConfigFile) -> dict[str, object]:
    return {"file": CONFIG_FILE, "defaults": config.defaults(), "models": config.models()}


def _line_of(text: str, line: int) -> str | None:
    lines = text.splitlines()
    return lines[line - 1][:500] if 0 < line <= len(lines) else None


def _with_imports(files: Mapping[str, str], imports: Imports, path: str) -> dict[str, str]:
    return {name: files[name] for name in sorted({path, *imports.of(path)})}


_DEFINED: Final = re.compile(r"def[ \t]+(\w+)")


def _declared_names(texts: Iterable[str]) -> list[str]:
    """Guess the names of workflows, for a message."""
    # Line by line: one pattern over all of a text takes time by the square of its length.
    names = []
    for text in texts:
        decorated = False
        for line in text.split("\n"):
            if line.startswith("@workflow"):
                decorated = True
            elif decorated and (found := _DEFINED.match(line)):
                names.append(found[1])
                decorated = False
    return names
