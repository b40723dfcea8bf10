"""Namespaces of Linux, as far as Python 3.11 has no functions for them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "die_with_parent",
    "enter_network",
    "network_of",
    "unshare_mounts",
    "unshare_network_and_children",
]

_CLONE_NEWNS = 0x00020000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


def unshare_network_and_children() -> None:
    """Give this process a network of its own, and its next child a PID namespace."""
    _check(_libc.unshare(_CLONE_NEWNET | _CLONE_NEWPID))


def unshare_mounts() -> None:
    """Give this process mounts of its own, as they are now."""
    _check(_libc.unshare(_CLONE_NEWNS))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL))


def enter_network(descriptor: int) -> None:
    """Move this thread into the network namespace behind *descriptor*."""
    _check(_libc.setns(descriptor, _CLONE_NEWNET))


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Be in the network namespace of process *pid*; threads and children begun there inherit it."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_network(other)
        yield
    finally:
        enter_network(own)
        os.close(other)
        os.close(own)


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
