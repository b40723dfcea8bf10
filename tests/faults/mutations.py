"""Ways to break Plue on purpose: each must be noticed by the laws, or the laws are worth nothing.

Applied by ``entry.py`` inside the processes of a test; a mutation patches one place.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["MUTATIONS"]


def acknowledge_before_storing() -> None:
    """Acknowledge events as soon as they have arrived; the commit may come or not."""
    from plue.gateway.recorder import Recorder

    append = Recorder.append

    def hasty(self: Any, *args: Any, **more: Any) -> Any:
        import asyncio

        append(self, *args, **more).add_done_callback(lambda f: f.cancelled() or f.exception())
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    Recorder.append = hasty  # type: ignore[method-assign]


def start_before_accepted_is_recorded() -> None:
    """Skip the second phase of the claim: `start` goes out while nothing is recorded."""
    from plue.gateway.recorder import Recorder

    def hasty(*_args: Any, **_more: Any) -> Any:
        import asyncio

        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    Recorder.accept = hasty  # type: ignore[method-assign]


def resume_one_event_too_early() -> None:
    """Send the last event again to a client that reconnects."""
    import plue.api.events as api_events

    asked = api_events._last_event_id

    def one_less(request: Any) -> int | None:
        number = asked(request)
        return number - 1 if number else number

    api_events._last_event_id = one_less


def resume_one_event_too_late() -> None:
    """Leave out an event for a client that reconnects, unless that is the last one."""
    import plue.api.events as api_events

    asked = api_events._last_event_id

    def one_more(request: Any) -> int | None:
        number = asked(request)
        return number + 1 if number and number > 3 else number

    api_events._last_event_id = one_more


def begin_again_after_reconnect() -> None:
    """Have the runner execute its attempt once more when a connection was cut."""
    from plue_runner.session import Session

    welcomed = Session._on_welcome

    async def forgetful(self: Any, *args: Any, **more: Any) -> None:
        again = self._work is not None and self._attempt.finished is None
        await welcomed(self, *args, **more)
        if again:
            import asyncio

            self._work = asyncio.create_task(self._attempt.run())

    Session._on_welcome = forgetful  # type: ignore[method-assign]


def let_silent_runners_be() -> None:
    """Believe a lease that ran out, without ending the runner that is silent."""
    import plue.engine.ending

    async def nobody(_hosts: Any, _silent: Any) -> set[Any]:
        return set()

    plue.engine.ending._ended_by_hosts = nobody  # type: ignore[assignment]


MUTATIONS: dict[str, tuple[str, Callable[[], None]]] = {
    change.__name__: (side, change)
    for side, change in (
        ("server", acknowledge_before_storing),
        ("server", start_before_accepted_is_recorded),
        ("server", resume_one_event_too_early),
        ("server", resume_one_event_too_late),
        ("server", let_silent_runners_be),
        ("runner", begin_again_after_reconnect),
    )
}
