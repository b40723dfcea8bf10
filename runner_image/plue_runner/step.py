"""Runs one step: its tries, its time limits, what it leaves, and how it ended."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import JsonValue

from plue.marks import Mark, reached
from plue.wire.events import EventType, Reason, StepState
from plue.wire.frames import Assignment
from plue.wire.model_access import StepClaim, step_token
from plue.wire.plan import RefField, Shell, Step
from plue_runner import outputs as output_file
from plue_runner.archives import Roots
from plue_runner.caches import Caches, Wanted, wanted_of
from plue_runner.capture import Capture
from plue_runner.command import Command, Places, prepared
from plue_runner.explain import disk_fault, start_fault
from plue_runner.faults import Fault, short
from plue_runner.journal import Journal
from plue_runner.output import Chunk, Chunker, Lines, StreamName
from plue_runner.pipes import Pipes
from plue_runner.process import Family, Spawned
from plue_runner.trial import Stop, Trial
from plue_runner.typed import parsed
from plue_runner.values import Kept, Result, Values

__all__ = ["Ended", "ModelAccess", "Setting", "StepRun", "complete", "journal_start", "with_proxy"]

_T = TypeVar("_T")

_DRAIN_SECONDS = 1.0  # how long a background process may hold the pipe after the step has ended
_STUCK_PIPE_SECONDS = 5.0  # the same, after all that can be found has been killed


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """The way to the models: the gateway's address as it is now, and what proves who asks."""

    base: Callable[[], str]
    token: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What all steps of an attempt share. ``ended`` is called when a step's end is recorded."""

    cookie: str
    assignment: Assignment
    places: Places
    host: Mapping[str, str]
    family: Family
    journal: Journal
    values: Values
    kept: Kept
    ended: Callable[[str], None]
    models: ModelAccess
    caches: Caches


@dataclass(frozen=True, slots=True)
class Ended:
    """How a step ended, for the order of the steps that follow and for the run's end."""

    step: Step
    state: StepState
    reason: Reason | None
    tries: int
    message: str | None = None


def with_proxy(setting: Setting, step: str) -> Mapping[str, str]:
    """Return the host's environment, with the way to the pool's hosts where there is one."""
    assignment = setting.assignment
    if assignment.egress is None:
        return setting.host
    claim = StepClaim(run=assignment.run, attempt=assignment.attempt, step=step)
    token = step_token(claim, setting.models.token, purpose="egress")
    host = urlsplit(setting.models.base()).hostname or ""
    place = f"[{host}]" if ":" in host else host
    address = f"http://step:{token}@{place}:{assignment.egress}"
    return {**setting.host, "HTTPS_PROXY": address, "https_proxy": address}


def journal_start(step: Step, setting: Setting, number: int, *, harmless: bool = False) -> None:
    """Record that try *number* of *step* starts; *harmless* ones may be repeated without a word."""
    body: dict[str, JsonValue] = {
        "attempt": setting.assignment.attempt,
        "try": number,
        "shown": short(step.action.shown),
    }
    setting.journal.write(EventType.STEP_STARTED, step.name, body, harmless=harmless)


def complete(step: Step, setting: Setting, last: Trial, duration: int) -> Ended:
    """Record how *step* ended with its *last* try, after *duration* milliseconds."""
    tries = last.number if last.began else last.number - 1
    masked = setting.journal.masker.json(last.outputs)
    outputs = masked if isinstance(masked, dict) else {}
    setting.values.record(
        step.name,
        Result(last.state, last.reason, last.exit_code, last.captures, outputs, last.agent),
    )
    body: dict[str, JsonValue] = {
        "attempt": setting.assignment.attempt,
        "state": last.state.value,
        "reason": last.reason,
        "message": last.message,
        "exit_code": last.exit_code,
        "tries": tries,
        "duration_ms": duration,
        "outputs": outputs or None,
        "agent": last.agent or None,
        "tail": (last.end or None) if last.state is StepState.FAILED else None,
    }
    setting.journal.write(EventType.STEP_COMPLETED, step.name, body)
    setting.ended(step.name)
    if setting.kept.grows:
        for capture in last.captures.values():
            capture.stow(setting.places.steps / setting.kept.file_name())
    return Ended(step, last.state, last.reason, tries, last.message)


class StepRun:
    """One step that runs a command now."""

    def __init__(self, step: Step, action: Shell, setting: Setting, *, key: str) -> None:
        """Prepare to run *step*; *key* is a file name that belongs to it alone."""
        self._step = step
        self._action = action
        self._setting = setting
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._stopped: Stop | None = None
        self._grace = 0.0
        self._process: Spawned | None = None
        self._verdict: asyncio.Future[Stop | None] | None = None
        self._caches: list[Wanted] | None = None
        self._cache_hit = True
        self._lines = Lines()

    def stop(self, stop: Stop, *, grace: float) -> None:
        """End the step: TERM, and KILL after *grace* seconds. A shorter grace may follow."""
        if self._stopped is None:
            self._stopped = stop
            self._grace = grace
            self._decide(stop)
        elif grace == 0 and self._process is not None:
            self._setting.family.kill(self._process)

    async def run(self) -> Ended:
        """Run the step to its end, with all its tries, and record it."""
        began = monotonic()
        last = await self._try(1)
        while self._may_try_again(last):
            last = await self._try(last.number + 1)
        if last.state is StepState.SUCCEEDED:
            await self._keep_caches(last.number)
        return complete(self._step, self._setting, last, int((monotonic() - began) * 1000))

    def _may_try_again(self, last: Trial) -> bool:
        # What could not even start will not start the next time.
        failed = last.began and last.state is StepState.FAILED
        return failed and self._stopped is None and last.number <= self._step.retry

    # ── one try ──────────────────────────────────────────────────────────────────────────────────

    async def _try(self, number: int) -> Trial:
        this = Trial(number, captures=self._captures())
        self._lines = Lines()
        if self._stopped is not None:
            this.count_as(self._stopped)
            return this
        try:
            command = self._prepare(number)
            if self._must_be_known():
                self._begin(this)
                await self._known()
                reached(Mark.R_STEP_KNOWN)
            if self._step.cache and self._stopped is None:
                command = await self._with_caches(command, this)
            if self._stopped is not None:
                this.count_as(self._stopped)
                return this
            process, pipes = self._start(command, this)
        except Fault as fault:
            this.fail(fault.reason, str(fault))
            return this
        self._begin(this)
        stop = await self._watch(process, pipes)
        await self._settle(process, pipes, stop)
        reached(Mark.R_STEP_ENDED)
        this.judge(process.exit.result() if process.ended else None, stop)
        self._collect(this, command.output)
        return this

    def _begin(self, this: Trial) -> None:
        """Record that the try has started, unless it is recorded."""
        if not this.began:
            this.began = True
            journal_start(self._step, self._setting, this.number)

    def _must_be_known(self) -> bool:
        """Whether this start must be stored before it happens.

        When a runner is lost, the engine starts over only if no step had started, and it knows
        only what is stored: so the attempt's first start waits for that, and every `once` step.
        """
        return self._step.once or not self._setting.journal.start_is_known

    async def _known(self) -> None:
        """Wait until what was journalled up to now is stored, or the step is to stop."""
        spool = self._setting.journal.spool
        number, self._verdict = spool.last, self._loop.create_future()

        def look() -> None:
            if spool.acked >= number:
                self._decide(None)

        spool.on_ack.append(look)
        try:
            look()
            if self._stopped is None:
                await self._verdict
        finally:
            spool.on_ack.remove(look)

    # ── caches ───────────────────────────────────────────────────────────────────────────────────

    async def _with_caches(self, command: Command, this: Trial) -> Command:
        """Restore the step's caches before its first try; return *command* told of it."""
        if self._caches is None:
            values = self._setting.values
            self._caches = [wanted_of(cache, values) for cache in self._step.cache]
            self._begin(this)
            for wanted in self._caches:
                restore = self._setting.caches.restore
                found = await self._unless_stopped(
                    restore(wanted, self._roots(), self._say(this.number))
                )
                self._cache_hit &= bool(found)
        hit = b"true" if self._cache_hit else b"false"
        return replace(command, env={**command.env, b"PLUE_CACHE_HIT": hit})

    async def _keep_caches(self, number: int) -> None:
        for wanted in self._caches or ():
            keep = self._setting.caches.keep
            await self._unless_stopped(keep(wanted, self._roots(), self._say(number)))

    def _roots(self) -> Roots:
        home = self._setting.host.get("HOME", "")
        workspace = self._setting.places.workspace
        return {"w": workspace, "h": Path(home) if home.startswith("/") else workspace}

    async def _unless_stopped(self, work: Coroutine[None, None, _T]) -> _T | None:
        """Await *work*, or give it up when the step is to stop."""
        task, self._verdict = asyncio.ensure_future(work), self._loop.create_future()
        if self._stopped is not None:
            self._decide(self._stopped)
        either: set[asyncio.Future[Any]] = {task, self._verdict}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait([task])
        return None

    def _say(self, number: int) -> Callable[[str], None]:
        """Return what puts a line of the runner's own into the step's log."""
        journal, attempt = self._setting.journal, self._setting.assignment.attempt

        def say(text: str) -> None:
            chunk = Chunk(
                "stderr", journal.masker.text(text) + "\n", self._lines.next, partial=False
            )
            self._lines.next += 1
            journal.output(self._step.name, attempt, number, chunk)

        return say

    def _captures(self) -> dict[RefField, Capture]:
        limit = self._setting.assignment.limits.stdout_bytes
        names: tuple[RefField, ...] = ("stdout", "stderr", "log")
        wanted = [n for n in names if self._setting.kept.wants(self._step.name, n)]
        if self._step.output_schema is not None and "stdout" not in wanted:
            wanted.append("stdout")
        return {name: Capture(limit) for name in wanted}

    def _prepare(self, number: int) -> Command:
        setting = self._setting
        try:
            return prepared(
                self._step,
                self._action,
                key=self._key,
                number=number,
                assignment=setting.assignment,
                values=setting.values,
                places=setting.places,
                host=with_proxy(setting, self._step.name),
                cookie=setting.cookie,
            )
        except OSError as error:
            raise disk_fault(error) from error

    def _start(self, command: Command, this: Trial) -> tuple[Spawned, Pipes]:
        with ExitStack() as ours, ExitStack() as theirs:
            try:
                stdin = self._stdin(command.stdin)
                theirs.callback(os.close, stdin)
                stdout, stdout_end = _pipe(ours, theirs)
                stderr, stderr_end = _pipe(ours, theirs)
                process = self._setting.family.spawn(
                    command.argv,
                    step=self._step.name,
                    env=command.env,
                    cwd=command.cwd,
                    stdin=stdin,
                    stdout=stdout_end,
                    stderr=stderr_end,
                )
            except (OSError, ValueError) as error:
                raise start_fault(error, command.argv, self._action) from error
            ours.pop_all()
        self._process = process
        reached(Mark.R_STEP_SPAWNED)
        return process, self._pipes(stdout, stderr, this)

    def _stdin(self, content: bytes | None) -> int:
        if content is None:
            return os.open(os.devnull, os.O_RDONLY)
        # A file and not a pipe: of any size, and nobody can wait for anybody.
        try:
            with tempfile.TemporaryFile(dir=self._setting.places.steps) as file:
                file.write(content)
                file.seek(0)
                return os.dup(file.fileno())
        except OSError as error:
            raise disk_fault(error) from error

    def _pipes(self, stdout: int, stderr: int, this: Trial) -> Pipes:
        journal, step = self._setting.journal, self._step.name
        attempt = self._setting.assignment.attempt

        def emit(chunk: Chunk) -> None:
            journal.output(step, attempt, this.number, chunk)

        chunker = Chunker(journal.masker, this.keep, self._lines)
        ends: dict[StreamName, int] = {"stdout": stdout, "stderr": stderr}
        return Pipes(ends, chunker=chunker, emit=emit, spool=journal.spool)

    # ── until it ends ────────────────────────────────────────────────────────────────────────────

    def _decide(self, stop: Stop | None) -> None:
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(stop)

    async def _watch(self, process: Spawned, pipes: Pipes) -> Stop | None:
        """Wait until the process ends by itself (None) or has to be stopped."""
        self._verdict = self._loop.create_future()
        if self._stopped is not None:
            return self._stopped
        process.exit.add_done_callback(lambda _: self._decide(None))
        timer = self._timer()
        idle = asyncio.create_task(self._watch_idle(pipes)) if self._idle_limit else None
        try:
            return await self._verdict
        finally:
            if timer is not None:
                timer.cancel()
            if idle is not None:
                idle.cancel()

    def _timer(self) -> asyncio.TimerHandle | None:
        limit = self._step.timeout_seconds
        if limit is None:
            return None
        message = f"it took longer than {limit:g} s"
        stop = Stop(StepState.FAILED, Reason.STEP_TIMEOUT, message)
        return self._loop.call_later(limit, self._decide, stop)

    @property
    def _idle_limit(self) -> float | None:
        return self._step.idle_timeout_seconds

    async def _watch_idle(self, pipes: Pipes) -> None:
        limit = self._idle_limit or 0
        while True:
            # A step that cannot print because its pipes are not read is not idle.
            silent = 0.0 if pipes.paused else self._loop.time() - pipes.heard
            if silent >= limit:
                message = f"it printed nothing for {limit:g} s"
                self._decide(Stop(StepState.FAILED, Reason.IDLE_TIMEOUT, message))
                return
            await asyncio.sleep(limit - silent)

    async def _settle(self, process: Spawned, pipes: Pipes, stop: Stop | None) -> None:
        """Return when nothing of the try is left and all it printed is recorded."""
        family = self._setting.family
        if stop is not None:
            own = stop is self._stopped
            grace = self._grace if own else self._setting.assignment.limits.grace_seconds
            await family.end(process, grace)
        else:
            await self._drain(pipes, _DRAIN_SECONDS)
        if family.leftovers(process):
            await family.clear(process)
        await self._drain(pipes, _STUCK_PIPE_SECONDS)
        pipes.finish()
        family.settled(process)

    async def _drain(self, pipes: Pipes, seconds: float) -> None:
        """Wait for the end of both pipes; time in which they are not read does not count."""
        if pipes.drained.done():
            return
        left = seconds
        while left > 0 and not pipes.drained.done():
            tick = min(left, 0.05)
            await asyncio.wait([pipes.drained], timeout=tick)
            if not pipes.paused:
                left -= tick

    # ── how it ended ─────────────────────────────────────────────────────────────────────────────

    def _collect(self, this: Trial, path: Path) -> None:
        limits = self._setting.assignment.limits
        try:
            this.outputs.update(output_file.read(path, limits))
            schema = self._step.output_schema
            if schema is not None and this.state is StepState.SUCCEEDED:
                text = this.captures["stdout"].complete("standard output")
                this.outputs.update(parsed(text, schema))
                output_file.check_sizes(this.outputs, limits)
        except Fault as fault:
            this.outputs.clear()
            this.fail(fault.reason, str(fault))


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """Make a pipe whose read end is ours to close and whose write end is the step's."""
    read_end, write_end = os.pipe()
    ours.callback(os.close, read_end)
    theirs.callback(os.close, write_end)
    return read_end, write_end
