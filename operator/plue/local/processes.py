"""Runners as processes of this machine: the Host of local mode.

Each runner has a home below one folder: its record, its log, its spool and workspace. A runner is
in its own session, so it survives Ctrl-C and the death of the server; a server that starts again
finds the homes and watches the same processes on. Of a runner that has gone a tombstone stays for
a while, so that the next server can say so and need not wait for it. `gone` is said only when the
runner and everything that carries its cookie has ended, because a claim may be repeated as soon
as it is.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from plue.domain.run import RunnerId
from plue.engine.ports import NewRunner, SeenRunner
from plue.errors import UnavailableError
from plue.local.carriers import COOKIE, cookie_for, kill_carriers
from plue.local.pidfd import ProcessMark, end_of_marked, ended_within, is_alive
from plue.marks import Mark, reached
from plue.wire.events import Reason

__all__ = ["ProcessHost", "RunnerCommand", "runner_environment"]

_log = structlog.get_logger(__name__)

RunnerCommand = Callable[[RunnerId, Path], Sequence[str]]
"""Gives the command line of a runner from its id and its home."""

_RECORD = "process.json"
_LOG = "runner.log"
_TOMBSTONE = ".gone"
_REMEMBERED = 256  # gone runners that are still listed; an older one is not, which means the same


MODEL_VARIABLES = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_IDENTITY_TOKEN",
        "ANTHROPIC_IDENTITY_TOKEN_FILE",
        "PLUE_ANTHROPIC_KEY_FILE",
    }
)
"""What the server may know and runners must not: they call models through the gateway."""


MAKE_VARIABLES = frozenset({"MAKEFLAGS", "MAKELEVEL", "MFLAGS"})
"""Of a `make` that started the server: one that a step runs is not a part of it."""


def runner_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what runners inherit of *environment*: all but Plue's own settings and secrets.

    Relative entries of PYTHONPATH become absolute, because a runner works in its own home.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("PLUE_") and name not in MODEL_VARIABLES | MAKE_VARIABLES
    }
    if outer := environment.get(COOKIE):
        kept[COOKIE] = outer
    if path := kept.get("PYTHONPATH"):
        entries = (str(Path(entry).absolute()) for entry in path.split(os.pathsep) if entry)
        kept["PYTHONPATH"] = os.pathsep.join(entries)
    return kept


@dataclass(slots=True)
class _Runner:
    """A runner that this host watches; ``mark`` is None when it never came to a process."""

    id: RunnerId
    home: Path
    mark: ProcessMark | None
    child: "subprocess.Popen[bytes] | None" = None
    watch: "asyncio.Task[None] | None" = None
    ending: "asyncio.Task[None] | None" = None
    asked_to_end: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class ProcessHost:
    """Makes, sees and ends runner processes; ``start`` before use, ``close`` ends them all."""

    kind = "process"
    refill_after = 0.1

    def __init__(
        self, folder: Path, *, command: RunnerCommand, environment: Mapping[str, str]
    ) -> None:
        """Keep homes in *folder*; *environment* is what runners get besides their cookie."""
        self._folder = folder.absolute()
        self._command = command
        self._environment = dict(environment)
        self._outer = self._environment.get(COOKIE)
        self._runners: dict[RunnerId, _Runner] = {}
        self._gone: dict[RunnerId, SeenRunner] = {}
        self.on_change: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Take over the runners that a predecessor left, living and dead."""
        homes, tombstones = await asyncio.to_thread(self._found)
        for tombstone in tombstones:
            self._bury(_read_tombstone(tombstone))
        for home in homes:
            runner = _Runner(RunnerId(home.name), home, _read_mark(home))
            self._runners[runner.id] = runner
            self._watch(runner)
        living = [runner.id for runner in self._runners.values() if _lives(runner)]
        if homes:
            _log.info("runners_found", living=len(living), ended=len(homes) - len(living))

    async def close(self, *, grace: timedelta = timedelta(seconds=2)) -> None:
        """End all runners and wait until nothing of them executes."""
        await asyncio.gather(*(self.remove(runner, grace=grace) for runner in [*self._runners]))
        await asyncio.gather(*(runner.gone.wait() for runner in [*self._runners.values()]))

    def detach(self) -> None:
        """Stop watching and leave the runners running, as a killed server does."""
        for runner in self._runners.values():
            for task in (runner.watch, runner.ending):
                if task is not None:
                    task.cancel()

    async def create(self, runner: NewRunner) -> None:
        """Start *runner*, unless one of that id was started already (see Host)."""
        home = self._folder / runner.id
        if runner.id in self._runners or runner.id in self._gone or home.exists():
            return
        try:
            made = self._spawn(runner, home)
        except OSError as error:
            _remove_tree(home)
            raise UnavailableError(
                f"a runner could not be started: {error.strerror or error}",
                remedy="free memory or disk space, or allow more processes (ulimit -u)",
            ) from error
        self._runners[runner.id] = made
        self._watch(made)

    async def observe(self) -> Sequence[SeenRunner]:
        """Return the runners that are watched, and the last ones that have gone."""
        present = [SeenRunner(id=runner, state="present") for runner in self._runners]
        return [*present, *self._gone.values()]

    async def unknown(self, runners: Sequence[RunnerId]) -> Sequence[RunnerId]:
        """Return *runners*: what this host does not list it does not have."""
        return runners

    async def remove(self, runner: RunnerId, *, grace: timedelta) -> None:
        """Set the runner's end in motion; without *grace*, KILL at once (see Host)."""
        known = self._runners.get(runner)
        if known is None:
            return
        known.asked_to_end = True
        if grace <= timedelta(0) and known.ending is not None:
            known.ending.cancel()
            known.ending = None
        if known.ending is None:
            known.ending = asyncio.create_task(_end(known, grace), name=f"end {runner}")

    # ── starting ─────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, runner: NewRunner, home: Path) -> _Runner:
        home.mkdir(parents=True, mode=0o700)
        reached(Mark.HOME_MADE)
        cookie = {COOKIE: cookie_for(runner.id, self._outer)}
        log = os.open(home / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            child = subprocess.Popen(
                list(self._command(runner.id, home)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=home,
                env={**self._environment, **cookie},
                start_new_session=True,
            )
        finally:
            os.close(log)
        try:
            reached(Mark.SPAWNED)
            made = _Runner(runner.id, home, ProcessMark.of(child.pid), child)
            _write_mark(made)
            reached(Mark.SPAWN_RECORDED)
        except OSError:
            child.kill()  # without its record a later server could not watch it
            child.wait()
            raise
        _hand_token(child, runner.token)
        return made

    def _found(self) -> tuple[list[Path], list[Path]]:
        """Return the homes and, oldest first, the tombstones that are in the folder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            homes = sorted(path for path in self._folder.iterdir() if path.is_dir())
            tombstones = sorted(
                self._folder.glob(f"*{_TOMBSTONE}"), key=lambda path: path.stat().st_mtime
            )
        except OSError as error:
            raise UnavailableError(
                f"the runners' folder {self._folder} cannot be used: {error.strerror}",
                remedy="make it writable, or choose another data folder with --data",
            ) from error
        return homes, tombstones

    def _bury(self, seen: SeenRunner) -> None:
        """List *seen* as gone, and forget those that went long ago."""
        self._gone[seen.id] = seen
        while len(self._gone) > _REMEMBERED:
            oldest = next(iter(self._gone))
            del self._gone[oldest]
            (self._folder / f"{oldest}{_TOMBSTONE}").unlink(missing_ok=True)

    # ── watching ─────────────────────────────────────────────────────────────────────────────────

    def _watch(self, runner: _Runner) -> None:
        runner.watch = asyncio.create_task(self._watch_over(runner), name=f"watch {runner.id}")

    async def _watch_over(self, runner: _Runner) -> None:
        if runner.mark is not None:
            await end_of_marked(runner.mark)
        code = runner.child.wait() if runner.child else None
        await _end_leftovers(runner)
        seen = _farewell(runner, code)
        _write_tombstone(self._folder / f"{runner.id}{_TOMBSTONE}", seen)
        reached(Mark.BURIED)
        if not await asyncio.to_thread(_remove_tree, runner.home):
            _log.warning("runner_home_left", runner=runner.id, home=str(runner.home))
        del self._runners[runner.id]
        self._bury(seen)
        _log.debug("runner_gone", runner=runner.id, code=code, message=seen.message)
        runner.gone.set()
        self.on_change()


def _hand_token(child: "subprocess.Popen[bytes]", token: str) -> None:
    """Write the token to a pipe: arguments and environments can be read by others."""
    # A runner that has ended already cannot take it, and its watch says so.
    with contextlib.suppress(BrokenPipeError):
        if child.stdin is not None:
            child.stdin.write(token.encode() + b"\n")
            child.stdin.close()


async def _end(runner: _Runner, grace: timedelta) -> None:
    """TERM to the runner, which ends its steps; KILL to everything after *grace*."""
    if runner.mark is None or not _lives(runner):
        return
    if grace > timedelta(0):
        _signal(runner.mark.pid, signal.SIGTERM)
        await ended_within(runner.mark.pid, grace)
    # The runner first: it must not see its steps die and report that as their doing.
    if _lives(runner):
        _signal(runner.mark.pid, signal.SIGKILL)


async def _end_leftovers(runner: _Runner) -> None:
    """KILL what the ended runner left, again and again until nothing is found."""
    pause = 0.0
    while killed := await asyncio.to_thread(kill_carriers, runner.id, runner.home):
        _log.info("runner_leftovers_killed", runner=runner.id, pids=killed)
        # Processes in an uninterruptible sleep take the signal later: look less often.
        await asyncio.sleep(pause)
        await asyncio.gather(*(ended_within(pid, timedelta(seconds=1)) for pid in killed))
        pause = min(1.0, pause * 2 or 0.01)


def _farewell(runner: _Runner, code: int | None) -> SeenRunner:
    """Say how the runner ended: nothing to say when it ended by itself or because we asked."""
    if runner.asked_to_end or code == 0:
        return SeenRunner(id=runner.id, state="gone")
    if code is None:
        how = "its process ended while no server watched it"
    elif code < 0:
        how = f"its process was ended by signal {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (perhaps for lack of memory)"
    else:
        how = f"its process ended with exit code {code}"
    if said := _last_line(runner.home / _LOG):
        how += f"; its last words: {said}"
    return SeenRunner(id=runner.id, state="gone", reason=Reason.RUNNER_LOST, message=how)


def _lives(runner: _Runner) -> bool:
    return runner.mark is not None and is_alive(runner.mark)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _read_mark(home: Path) -> ProcessMark | None:
    """Return whom the home belongs to; None when its server died before it could write that."""
    try:
        record = json.loads((home / _RECORD).read_text())
        return ProcessMark(int(record["pid"]), str(record["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_mark(runner: _Runner) -> None:
    if runner.mark is None:
        return
    fresh = runner.home / f"{_RECORD}.new"
    fresh.write_text(json.dumps({"pid": runner.mark.pid, "started": runner.mark.started}))
    fresh.replace(runner.home / _RECORD)


def _write_tombstone(path: Path, seen: SeenRunner) -> None:
    # Without it, on a full disk, the next server learns of the end a little later.
    with contextlib.suppress(OSError):
        path.write_text(seen.message or "")


def _read_tombstone(path: Path) -> SeenRunner:
    name = RunnerId(path.name.removesuffix(_TOMBSTONE))
    with contextlib.suppress(OSError):
        if message := path.read_text(errors="replace"):
            return SeenRunner(name, "gone", Reason.RUNNER_LOST, message)
    return SeenRunner(name, "gone")


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2048))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:500] if lines else ""


def _remove_tree(folder: Path) -> bool:
    """Remove *folder* with the unwritable folders that a step made; whether all of it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for name, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                Path(name).chmod(stat.S_IRWXU)
        shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
