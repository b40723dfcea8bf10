"""Where a local server's own log goes: JSON lines to a file, and a few of them to people.

The file has everything from INFO on. The terminal has warnings and errors, as one line each: what
runs do is shown by the commands that started them.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

from plue.errors import UnavailableError

__all__ = ["configure_journal"]

_FILE_BYTES = 16 * 1024 * 1024
_SHOWN_FROM = {"warning", "error", "critical"}
_SHOWN_CHARACTERS = 160
_AGAIN_AFTER = 30.0
"""Seconds after which a line that people have just read is worth reading again."""
_HIDDEN = {"level", "timestamp", "event", "exception"}


def configure_journal(path: Path, *, people: TextIO | None) -> None:
    """Send all logs of this process to *path*, and what people must know to *people*.

    Raises UnavailableError when the file cannot be written.
    """
    try:
        if path.exists() and path.stat().st_size > _FILE_BYTES:
            path.replace(path.with_suffix(".log.1"))
        file = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise UnavailableError(
            f"the log {path} cannot be written: {error.strerror}",
            remedy="free disk space, or give another folder with --data",
        ) from error
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _to_people(people),
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # structlog asks for a whole TextIO, and uses its write and flush.
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Forgiving(file))),
        cache_logger_on_first_use=True,
    )
    # Libraries that use the standard library's logging speak in the same file, as they can.
    logging.basicConfig(stream=file, level=logging.WARNING, force=True)


class _Forgiving:
    """A log file whose full disk ends no server."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        try:
            return self._file.write(text)
        except OSError:
            return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()


def _to_people(
    people: TextIO | None,
) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    last_line, last_time = "", 0.0

    def is_news(line: str) -> bool:
        nonlocal last_line, last_time
        now = time.monotonic()
        if line == last_line and now - last_time < _AGAIN_AFTER:
            return False
        last_line, last_time = line, now
        return True

    def show(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if people is not None and event.get("level") in _SHOWN_FROM:
            shown = {k: " ".join(str(v).split()) for k, v in event.items() if k not in _HIDDEN}
            fields = "  ".join(f"{k}={v[:_SHOWN_CHARACTERS]}" for k, v in shown.items())
            words = str(event.get("event", "")).replace("_", " ")
            line = f"  ! {words}  {fields}\n"
            # When the terminal is gone, the file has it.
            with contextlib.suppress(OSError, ValueError):
                if is_news(line):
                    people.write(line)
                    people.flush()
        return event

    return show
