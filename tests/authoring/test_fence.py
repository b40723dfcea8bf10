"""The fence alone: a child that is closed as evaluations are, running what no policy looked at.

Python's whole machinery is in its hands, and still it gets no file, socket, process or program.
"""

import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import plue

FENCED = """
import ctypes, ctypes.util, mmap, os, resource, signal, socket, sys, time
from plue.authoring.sandbox.isolation import Fence, virtual_bytes
libc = ctypes.CDLL(None, use_errno=True)
syscall = libc.syscall
syscall.restype = ctypes.c_long
fence = Fence(256 * 1024 * 1024, 5.0)
if not fence.syscalls:
    sys.exit(42)
read, write = os.pipe()
if os.fork() == 0:
    fence.close(os.getppid(), virtual_bytes())
    try:
        exec(sys.argv[1])
    except BaseException:
        os._exit(7)
    os._exit(0)
os.close(write)
time.sleep(0)
_, status = os.wait()
while chunk := os.read(read, 65536):
    sys.stdout.buffer.write(chunk)
sys.stdout.flush()
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 100 + os.WTERMSIG(status))
"""

REFUSED = 7
KILLED = 100 + signal.SIGSYS


def fenced(code: str) -> "subprocess.CompletedProcess[str]":
    """Run *code* behind the fence; the exit code is 7 for an exception, 100 + n for a signal."""
    root = str(Path(plue.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", FENCED, code],
        env={"PYTHONPATH": root},
        check=False,
        timeout=30,
        capture_output=True,
        text=True,
    )
    if done.returncode == 42:
        pytest.skip("this kernel or architecture has no system call filter")
    return done


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("open('/etc/passwd')", REFUSED, id="files"),
        pytest.param("open('/tmp/plue-was-here', 'w')", REFUSED, id="writing"),
        pytest.param("os.listdir('/')", REFUSED, id="folders"),
        pytest.param("os.stat('/')", REFUSED, id="stat"),
        pytest.param("os.readlink('/proc/self/exe')", REFUSED, id="links"),
        pytest.param("os.unlink('/tmp/x')", REFUSED, id="unlink"),
        pytest.param("socket.socket()", KILLED, id="network"),
        pytest.param("socket.socket(socket.AF_UNIX)", KILLED, id="unix-sockets"),
        pytest.param("socket.socketpair()", REFUSED, id="socket-pairs"),
        pytest.param("os.fork()", KILLED, id="processes"),
        pytest.param("__import__('_thread').start_new_thread(print, ())", KILLED, id="threads"),
        pytest.param("os.execv('/bin/true', ['true'])", KILLED, id="programs"),
        pytest.param("os.system('true')", KILLED, id="shells"),
        pytest.param("os.posix_spawn('/bin/true', ['true'], {})", KILLED, id="spawn"),
        pytest.param("os.kill(1, 0)", KILLED, id="signals"),
        pytest.param("os.kill(os.getppid(), 9)", KILLED, id="kill-the-parent"),
        pytest.param("os.pipe()", REFUSED, id="descriptors"),
        pytest.param("os.dup(1)", REFUSED, id="dup"),
        pytest.param("os.memfd_create('x')", REFUSED, id="memfd"),
        pytest.param("'x' * 10**9", REFUSED, id="memory"),
        pytest.param("mmap.mmap(-1, 10**9)", REFUSED, id="mapped-memory"),
        pytest.param("resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", REFUSED, id="limits"),
        pytest.param("os.setuid(0)", REFUSED, id="user"),
        pytest.param("os.setpriority(os.PRIO_PROCESS, 0, -20)", REFUSED, id="priority"),
        pytest.param("os.chroot('/')", REFUSED, id="chroot"),
        pytest.param("os.environ['HOME']", REFUSED, id="environment"),
        pytest.param("signal.alarm(0); signal.setitimer(signal.ITIMER_REAL, 0)", REFUSED, id="timer"),
        pytest.param("ctypes.string_at(0)", 100 + signal.SIGSEGV, id="bad-memory"),
        pytest.param("os.abort()", 100 + signal.SIGSEGV, id="abort"),
        pytest.param("sum(range(10**5)) and 'é'.encode()", 0, id="ordinary-code-passes"),
    ],
)  # fmt: skip
def test_the_kernel_holds_what_the_language_lets_pass(code: str, expected: int) -> None:
    """Refused with an error where that is harmless, killed where things are started."""
    assert expected == fenced(code).returncode


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of another architecture")
def test_every_other_system_call_is_refused() -> None:
    """Each number of the kernel's table that is not on the list gives EPERM, whatever it is."""
    code = (
        "from plue.authoring.sandbox.isolation import _ARCHITECTURES\n"
        "_, allowed, fatal = _ARCHITECTURES['x86_64']\n"
        "got = []\n"
        "for n in range(600):\n"
        # 335 and 336 belong to the kernel's probes, which answer anybody else with SIGILL.
        "    if n in allowed or n in fatal or n in (335, 336): continue\n"
        "    ctypes.set_errno(0)\n"
        "    if syscall(n, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1: got.append(n)\n"
        "os.write(write, repr(got).encode())"
    )
    done = fenced(code)
    assert (done.returncode, done.stdout) == (0, "[]")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of another architecture")
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("b8 14 00 00 00 cd 80 c3", KILLED, id="calls-of-32-bit-programs"),
        pytest.param("b8 27 00 00 40 0f 05 c3", KILLED, id="x32-calls"),
        pytest.param("b8 27 00 00 00 0f 05 c3", 0, id="an-allowed-call"),
    ],
)
def test_the_kernels_other_doors_are_closed(code: str, expected: int) -> None:
    """The numbers of another table mean other calls: they are not read with ours."""
    run = (
        "memory = mmap.mmap(-1, 4096, prot=7)\n"
        f"memory.write(bytes.fromhex('{code}'))\n"
        "at = ctypes.addressof(ctypes.c_char.from_buffer(memory))\n"
        "ctypes.CFUNCTYPE(ctypes.c_long)(at)()"
    )
    assert expected == fenced(run).returncode


def test_a_child_has_no_descriptor_but_its_pipe() -> None:
    """Neither the server's socket nor other evaluations' pipes can be written to."""
    root = str(Path(plue.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", DESCRIPTORS],
        env={"PYTHONPATH": root},
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1\n", done.stderr


DESCRIPTORS = """
import json, os, socket
from plue.authoring.sandbox import host
ours, theirs = socket.socketpair()
more = [os.pipe() for _ in range(20)]
settings = {"server": os.getppid(), "children": 1, "result_bytes": 1000, "memory_bytes": 2**28, "wall_seconds": 5}
one = host.Host(theirs, settings)
def answer(body, cache, pipe):
    found = []
    for n in range(1024):
        try:
            os.write(n, b"")
        except OSError as error:
            if error.errno == 9:
                continue
        found.append(n)
    os.write(pipe, b"%d" % len(found))
host._answer = answer
one._start(1, b"")
child = next(iter(one._children.values()))
print(os.read(child.pipe, 100).decode())
os.waitpid(child.pid, 0)
"""
