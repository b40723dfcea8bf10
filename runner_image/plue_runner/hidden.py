"""Runs a hidden step: what the runner does itself for ``ctx.read``, ``ctx.git`` and their like.

It takes its place in the order of the steps and ends as every step does, but prints nothing, has
no retries, and may be repeated: it touches nothing but the workspace.
"""

import asyncio
from time import monotonic
from typing import Any

from plue.wire.events import Reason
from plue.wire.plan import Failure, Git, Glob, HashFiles, Prompt, Read, Shell, Step, Text, Write
from plue_runner import files
from plue_runner.capture import Capture
from plue_runner.faults import Fault
from plue_runner.git import Repository
from plue_runner.outputs import check_sizes
from plue_runner.step import Ended, Setting, complete, journal_start
from plue_runner.trial import Stop, Trial

__all__ = ["HiddenRun"]


class HiddenRun:
    """One hidden step that runs now."""

    def __init__(self, step: Step, setting: Setting, *, key: str) -> None:
        """Prepare to run *step*; *key* is a file name that belongs to it alone."""
        self._step = step
        self._setting = setting
        self._key = key
        self._stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    def stop(self, stop: Stop, *, grace: float) -> None:  # noqa: ARG002 - nothing here needs grace
        """End the step now."""
        if not self._stop.done():
            self._stop.set_result(stop)

    async def run(self) -> Ended:
        """Run the step to its end and record it."""
        began = monotonic()
        this = Trial(1)
        if not self._stop.done():
            this.began = True
            journal_start(self._step, self._setting, 1, harmless=True)
            await self._work(this)
        if self._stop.done():
            this.count_as(self._stop.result())
        return complete(self._step, self._setting, this, int((monotonic() - began) * 1000))

    async def _work(self, this: Trial) -> None:
        work = asyncio.ensure_future(self._perform(this))
        try:
            either: set[asyncio.Future[Any]] = {work, self._stop}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A thread cannot be stopped, but nobody waits for what it finds.
            if not work.done():
                work.cancel()
        await asyncio.wait({work})
        if not work.cancelled() and (error := work.exception()) is not None:
            if not isinstance(error, Fault):
                raise error
            this.fail(error.reason, str(error))

    async def _perform(self, this: Trial) -> None:
        action, workspace = self._step.action, self._setting.places.workspace
        match action:
            case Read():
                await self._read(action, this)
            case Write():
                path, text = self._text(action.path), self._text(action.text)
                await asyncio.to_thread(files.write, workspace, path, text)
            case Glob():
                patterns = self._texts(action.patterns)
                found = await asyncio.to_thread(files.glob, workspace, patterns)
                self._keep_list(this, found)
            case HashFiles():
                await self._hash(action, this)
            case Git():
                await self._git(action, this)
            case Failure():
                raise Fault(Reason.FAILED_BY_WORKFLOW, self._text(action.reason))
            case Shell() | Prompt():
                raise AssertionError("this is not a hidden step")

    async def _read(self, action: Read, this: Trial) -> None:
        path, setting = self._text(action.path), self._setting
        limit = setting.assignment.limits.stdout_bytes
        text = await asyncio.to_thread(files.read, setting.places.workspace, path, limit)
        if text is None and action.default is None:
            raise Fault(
                Reason.MISSING_VALUE,
                f"there is no file {path!r} in the workspace",
                remedy="make it in an earlier step, or write default=",
            )
        self._keep(this, self._text(action.default or ()) if text is None else text)

    async def _hash(self, action: HashFiles, this: Trial) -> None:
        patterns = self._texts(action.patterns)
        found = await asyncio.to_thread(files.hash_of, self._setting.places.workspace, patterns)
        if found is None:
            raise Fault(
                Reason.MISSING_VALUE,
                f"no file matches {', '.join(map(repr, patterns))}: there is nothing to hash",
                remedy="correct the pattern; `**` stands for any folders",
            )
        self._keep(this, found)

    async def _git(self, action: Git, this: Trial) -> None:
        setting = self._setting
        repository = Repository(
            setting.places.workspace,
            family=setting.family,
            step=self._step.name,
            scratch=setting.places.steps / f"{self._key}.index",
            cookie=setting.cookie,
            limit=setting.assignment.limits.stdout_bytes,
        )
        bases = [(self._text(base.rev), base.merge_base) for base in action.bases]
        paths = self._texts(action.paths)
        for path in paths:
            files.inside(path)
        match action.query:
            case "diff":
                self._keep(this, await repository.diff(bases, paths))
            case "changed_files":
                self._keep_list(this, await repository.changed_files(bases, paths))
            case "log":
                self._keep(this, await repository.log(bases, paths, action.most))

    # ── values ───────────────────────────────────────────────────────────────────────────────────

    def _text(self, text: Text) -> str:
        return self._setting.values.text(text)

    def _texts(self, texts: tuple[Text, ...]) -> list[str]:
        return [self._text(text) for text in texts]

    def _keep(self, this: Trial, text: str) -> None:
        capture = Capture(self._setting.assignment.limits.stdout_bytes)
        capture.feed(self._setting.journal.masker.text(text))
        this.captures["stdout"] = capture

    def _keep_list(self, this: Trial, found: list[str]) -> None:
        limits = self._setting.assignment.limits
        # All of it is one output here, so it may be as large as all outputs of a step.
        limits = limits.model_copy(update={"output_bytes": limits.outputs_bytes})
        check_sizes({"files": [*found]}, limits)
        this.outputs["files"] = [*found]
