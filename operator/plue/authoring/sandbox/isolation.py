"""What the kernel keeps a child from: memory, time, files, processes, network, system calls.

RestrictedPython is hygiene; this is the fence behind it. What a machine does not allow (a network
namespace without privileges, seccomp on another architecture) is left out and told, never fatal.
"""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Fence", "virtual_bytes"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_MODE_FILTER: Final = 2
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000 | errno.EPERM
_ALLOW: Final = 0x7FFF0000
_X32: Final = 0x40000000
NOBODY: Final = 65534

# Numbers from the kernel's tables. Allowed: memory, the pipe, signals of its own, time, the end.
_ARCHITECTURES: Final = {
    "x86_64": (
        0xC000003E,
        # read write close mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn mremap
        # madvise getpid exit sigaltstack futex restart_syscall clock_gettime exit_group
        (0, 1, 3, 9, 10, 11, 12, 13, 14, 15, 25, 28, 39, 60, 131, 202, 219, 228, 231),
        # socket clone fork vfork execve kill ptrace execveat clone3
        (41, 56, 57, 58, 59, 62, 101, 322, 435),
    ),
    "aarch64": (
        0xC00000B7,
        (63, 64, 57, 222, 226, 215, 214, 134, 135, 139, 216, 233, 172, 93, 132, 98, 128, 113, 94),
        (198, 220, 221, 129, 117, 281, 435),
    ),
}


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _instruction(code: int, jump: int, other: int, value: int) -> bytes:
    return struct.pack("HBBI", code, jump, other, value)


def _filter(architecture: str) -> bytes | None:
    """Return the BPF program: allow a list, kill what starts things, refuse the rest."""
    known = _ARCHITECTURES.get(architecture)
    if known is None:
        return None
    audit, allowed, fatal = known
    load, equal, greater, give = 0x20, 0x15, 0x35, 0x06
    program = [
        _instruction(load, 0, 0, 4),
        _instruction(equal, 1, 0, audit),
        _instruction(give, 0, 0, _KILL),
        _instruction(load, 0, 0, 0),
        _instruction(greater, 0, 1, _X32),
        _instruction(give, 0, 0, _KILL),
    ]
    for numbers, verdict in ((allowed, _ALLOW), (fatal, _KILL)):
        for number in numbers:
            program += [_instruction(equal, 0, 1, number), _instruction(give, 0, 0, verdict)]
    program.append(_instruction(give, 0, 0, _ERRNO))
    return b"".join(program)


def virtual_bytes() -> int:
    """Return this process's address space in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no pathlib in here
        return int(file.read().split()[0]) * resource.getpagesize()


@dataclass
class Fence:
    """Built once in the parent; ``close`` is called in every child, before any author's code."""

    memory: int
    wall: float
    network: bool = False
    syscalls: bool = False
    user: bool = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Find out what this machine allows."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._buffer: ctypes.Array[ctypes.c_char] | None = None
        self.user = os.geteuid() == 0
        if not self.user:
            self.notes.append("user: runs as the server's own user")
        self._leave_network()
        program = _filter(platform.machine())
        if program is None:
            self.notes.append(f"syscalls: no filter for {platform.machine()}")
        else:
            self._buffer = ctypes.create_string_buffer(program, len(program))
            self._program = _Program(len(program) // 8, ctypes.addressof(self._buffer))
            self.syscalls = True

    def _leave_network(self) -> None:
        for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
            if self._libc.unshare(flags) == 0:
                self.network = True
                self.user = self.user and not flags & _CLONE_NEWUSER
                return
        reason = os.strerror(ctypes.get_errno())
        self.notes.append(f"network: no namespace of its own ({reason})")

    def without_syscalls(self, reason: str) -> None:
        """Go on without the system call filter."""
        self.syscalls = False
        self.notes.append(f"syscalls: not filtered ({reason})")

    def without_user(self, reason: str) -> None:
        """Go on as the user that the parent is."""
        self.user = False
        self.notes.append(f"user: not changed ({reason})")

    def die_with(self, parent: int) -> None:
        """End this process when *parent* does, even while this one is halted."""
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    def close(self, parent: int, baseline: int) -> None:
        """Give up everything that an evaluation does not need; for good."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        limits = {
            resource.RLIMIT_AS: baseline + self.memory,
            resource.RLIMIT_CPU: int(self.wall) + 1,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: 0,
        }
        for limit, value in limits.items():
            resource.setrlimit(limit, (value, value))
        if self.user:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        # A change of user clears this signal, so it comes afterwards.
        self.die_with(parent)
        self._libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if self.syscalls:
            pointer = ctypes.byref(self._program)
            if self._libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, pointer, 0, 0) != 0:
                os._exit(3)
