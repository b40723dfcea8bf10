"""Commands that an agent runs: their output streams into the step's log as they run."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from plue_runner.capture import Tail
from plue_runner.explain import start_fault
from plue_runner.journal import Journal
from plue_runner.output import Chunk, Chunker, Lines, StreamName
from plue_runner.pipes import Pipes
from plue_runner.process import Family, Spawned

__all__ = ["Commands", "Done"]

_KEPT_CHARACTERS = 1024 * 1024
_DRAIN_SECONDS = 1.0
_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended: ``code`` is None when it was ended for its time."""

    text: str
    code: int | None


@dataclass(slots=True)
class Commands:
    """Runs commands of one try of a step, in its family of processes."""

    family: Family
    journal: Journal
    step: str
    attempt: int
    number: int
    workspace: Path
    env: Mapping[bytes, bytes]
    lines: Lines = field(default_factory=Lines, init=False)

    async def loud(self, command: str, *, seconds: float) -> Done:
        """Run a bash *command*; its output is the step's."""
        argv = ["bash", "--noprofile", "--norc", "-c", command]
        return await self._run(argv, seconds=seconds, loud=True)

    async def quiet(self, argv: Sequence[str], *, seconds: float) -> Done:
        """Run *argv*; only the caller sees what it prints."""
        return await self._run(argv, seconds=seconds, loud=False)

    async def fed(self, argv: Sequence[str], stdin: bytes, *, seconds: float) -> Done:
        """Run *argv* with *stdin* to read; its output is the step's."""
        return await self._run(argv, seconds=seconds, loud=True, stdin=stdin)

    async def _run(
        self, argv: Sequence[str], *, seconds: float, loud: bool, stdin: bytes | None = None
    ) -> Done:
        kept = Tail(_KEPT_CHARACTERS)
        words = [word.encode("utf-8", "surrogatepass") for word in argv]
        with ExitStack() as ours, ExitStack() as theirs:
            reads = _opened(stdin)
            theirs.callback(os.close, reads)
            ends: dict[StreamName, int] = {}
            out: list[int] = []
            names: tuple[StreamName, ...] = ("stdout", "stderr")
            for name in names:
                ends[name], theirs_end = os.pipe()
                ours.callback(os.close, ends[name])
                theirs.callback(os.close, theirs_end)
                out.append(theirs_end)
            try:
                process = self.family.spawn(
                    words,
                    step=self.step,
                    env=self.env,
                    cwd=self.workspace,
                    stdin=reads,
                    stdout=out[0],
                    stderr=out[1],
                )
            except (OSError, ValueError) as error:
                raise start_fault(error, words, None) from error
            ours.pop_all()
        lines = self.lines if loud else None
        chunker = Chunker(self.journal.masker, lambda _, text: kept.feed(text), lines)
        pipes = Pipes(ends, chunker=chunker, emit=self._emit(loud=loud), spool=self.journal.spool)
        try:
            code = await self._wait(process, seconds)
        finally:
            await asyncio.shield(self._settle(process, pipes))
        return Done(kept.text.rstrip("\n"), code)

    async def _wait(self, process: Spawned, seconds: float) -> int | None:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(process.exit)
        except TimeoutError:
            return None

    async def _settle(self, process: Spawned, pipes: Pipes) -> None:
        if not process.ended:
            await self.family.end(process, _GRACE_SECONDS)
        await asyncio.wait([pipes.drained], timeout=_DRAIN_SECONDS)
        if self.family.leftovers(process):
            await self.family.clear(process)
            await asyncio.wait([pipes.drained], timeout=_DRAIN_SECONDS)
        pipes.finish()
        self.family.settled(process)

    def _emit(self, *, loud: bool) -> Callable[[Chunk], None]:
        def emit(chunk: Chunk) -> None:
            if loud:
                self.journal.output(self.step, self.attempt, self.number, chunk)

        return emit


def _opened(content: bytes | None) -> int:
    if content is None:
        return os.open(os.devnull, os.O_RDONLY)
    # A file and not a pipe: of any size, and nobody can wait for anybody.
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return os.dup(file.fileno())
