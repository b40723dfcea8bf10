"""Opening the server's ports on loopback, with messages for people when one is taken."""

import contextlib
import errno
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from plue.errors import UsageError

__all__ = ["DEFAULT_PORT", "api_socket", "gateway_socket", "port_of"]

DEFAULT_PORT = 8700
_TRIES = 100


def api_socket(asked: int | None, *, private: bool) -> socket.socket:
    """Return a bound socket for the API: the port asked for, else 8700 or the next free one.

    A private server takes any port. Raises UsageError when the port asked for is taken.
    """
    if private and asked is None:
        return _first_free([0])
    if asked is None:
        return _first_free([*range(DEFAULT_PORT, DEFAULT_PORT + _TRIES), 0])
    try:
        return _bound(asked)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"port {asked} is taken" if taken else f"port {asked}: {error.strerror}",
            field="port",
            remedy="end the program that listens there, give another --port, or leave it out",
        ) from error


def gateway_socket(remembered: str) -> socket.socket:
    """Return a bound socket for the gateway, where runners of the last server look if possible."""
    with contextlib.suppress(ValueError):
        if port := urlsplit(remembered.strip()).port:
            return _first_free([port, 0])
    return _first_free([0])


def port_of(bound: socket.socket) -> int:
    """Return the port of a bound socket."""
    port: int = bound.getsockname()[1]
    return port


def _first_free(ports: Iterable[int]) -> socket.socket:
    last: OSError | None = None
    for port in ports:
        try:
            return _bound(port)
        except OSError as error:
            last = error
    raise UsageError("no port of this machine is free", remedy="give one with --port") from last


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A port in TIME_WAIT is free; one that another program listens on still is an error.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        # Now, not when serving begins: two sockets may be bound, but only one may listen.
        made.listen(128)
        made.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    except OSError:
        made.close()
        raise
    return made
