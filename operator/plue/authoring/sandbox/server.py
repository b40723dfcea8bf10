"""The evaluator's process: it preloads, then forks one child for each evaluation.

Run as a script with the socket as standard input and the folder that holds ``plue`` as its
argument. The parent parses only its own frames and forwards bytes; authors' text is parsed,
compiled and run in children that live for one request, without files, network or processes.

Compiling and running happen in different children: what is cached for other requests comes from
a child that has run no author's code.
"""

import base64
import ctypes
import hashlib
import json
import marshal
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from collections import OrderedDict

WALL_SECONDS = 5.0
CPU_SECONDS = 2
MEMORY_BYTES = 256 * 1024 * 1024
MOST_CHILDREN = 4
RESULT_BYTES = 4 * 1024 * 1024
FILE_BYTES = 512 * 1024
CACHED_FILES = 2000
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CLONE_NEWNET = 0x40000000


# ── the child ────────────────────────────────────────────────────────────────────────────────────

# read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn
# mremap madvise getpid exit sigaltstack futex clock_gettime exit_group getrandom gettid
_CALLS = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 39, 60, 131, 202, 228, 231, 318, 186),
    ),
    "aarch64": (
        0xC00000B7,
        (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 216, 233, 172, 93, 132, 98, 113, 94,
         278, 178),
    ),
}  # fmt: skip


def _seccomp() -> bool:
    """Refuse every system call that evaluating needs not; False where the kernel does not."""
    architecture, calls = _CALLS.get(os.uname().machine, (0, ()))
    if not calls:
        return False
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, architecture), (0x06, 0, 0, 0x80000000)]
    program.append((0x20, 0, 0, 0))
    program += [(0x15, len(calls) - index, 0, number) for index, number in enumerate(calls)]
    program += [(0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]  # EPERM, or allowed
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    described = struct.pack("HxxxxxxP", len(program), ctypes.addressof(filters))
    header = ctypes.create_string_buffer(described)
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(_LIBC.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(header), 0, 0) == 0)


def _confine(baseline: int) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    limits = (
        (resource.RLIMIT_AS, baseline + MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    )
    for limit, value in limits:
        resource.setrlimit(limit, (value, value))
    _seccomp()


def _compile(files: dict[str, str]) -> dict[str, object]:
    from plue.authoring.sandbox.compiler import compile_file
    from plue.authoring.sandbox.evaluation import Loaded

    found: dict[str, object] = {}
    for file, source in files.items():
        compiled = compile_file(file, source)
        loaded = Loaded()
        for problem in compiled.problems:
            loaded.note(problem)
        code = compiled.code
        packed = None if code is None else base64.b64encode(marshal.dumps(code)).decode()
        found[file] = {"code": packed, "diagnostics": loaded.diagnostics}
    return found


def _run(request: dict[str, object], compiled: dict[str, bytes]) -> dict[str, object]:
    from plue.authoring.sandbox import evaluation
    from plue.authoring.sandbox.problems import SOURCES

    files = request["files"]
    assert isinstance(files, dict)  # noqa: S101 - checked by the client
    SOURCES.update({file: source.splitlines() for file, source in files.items()})
    codes = {file: marshal.loads(packed) for file, packed in compiled.items()}  # noqa: S302 - of a child that ran no author's code
    if request["kind"] == "describe":
        return evaluation.describe(files, codes)
    return evaluation.plan(files, codes, request)


def _child(
    out: int, baseline: int, phase: str, request: dict[str, object], compiled: dict[str, bytes]
) -> None:
    try:
        _confine(baseline)
        if phase == "compile":
            files = request["files"]
            assert isinstance(files, dict)  # noqa: S101 - checked by the client
            answer = _compile(files)
        else:
            answer = _run(request, compiled)
        data = json.dumps(answer, ensure_ascii=True).encode()
        if len(data) > RESULT_BYTES and phase != "compile":
            data = b'"too large"'
    except MemoryError:
        data = b'"memory"'
    except RecursionError:
        data = b'"recursion"'
    except BaseException as error:  # noqa: BLE001 - the last word of a process
        data = json.dumps({"crashed": f"{type(error).__name__}: {error}"[:500]}).encode()
    while data:
        data = data[os.write(out, data) :]
    os._exit(0)


# ── the parent ───────────────────────────────────────────────────────────────────────────────────


class _Job:
    """One request on its way: first the files that are not cached are compiled, then it runs."""

    def __init__(self, identity: int, request: dict[str, object]) -> None:
        self.identity = identity
        self.request = request
        self.phase = "compile"
        self.pid = 0
        self.pipe = -1
        self.deadline = 0.0
        self.data = bytearray()
        self.diagnostics: list[object] = []


class _Server:
    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.selector = selectors.DefaultSelector()
        self.selector.register(channel, selectors.EVENT_READ, None)
        self.waiting: list[_Job] = []
        self.running: dict[int, _Job] = {}
        self.cache: OrderedDict[str, tuple[bytes | None, list[object]]] = OrderedDict()
        self.buffer = bytearray()
        self.baseline = _address_space()

    def serve(self) -> None:
        while True:
            timeout = max(
                0.0,
                min((j.deadline for j in self.running.values()), default=1e9) - time.monotonic(),
            )
            for key, _ in self.selector.select(min(timeout, 60.0)):
                if key.data is None:
                    self._receive()
                else:
                    self._collect(key.data)
            now = time.monotonic()
            for job in [j for j in self.running.values() if j.deadline <= now]:
                os.kill(job.pid, signal.SIGKILL)
                self._finish(job, "timeout")
            while self.waiting and len(self.running) < MOST_CHILDREN:
                self._advance(self.waiting.pop(0))

    def _receive(self) -> None:
        data = self.channel.recv(1 << 20)
        if not data:
            os._exit(0)  # whoever asked is gone
        self.buffer += data
        while len(self.buffer) >= 4:  # noqa: PLR2004 - the length's own length
            (length,) = struct.unpack("!I", self.buffer[:4])
            if len(self.buffer) < 4 + length:
                return
            identity, request = json.loads(bytes(self.buffer[4 : 4 + length]))
            del self.buffer[: 4 + length]
            self.waiting.append(_Job(identity, request))

    def _advance(self, job: _Job) -> None:
        """Start the job's next child."""
        files = job.request["files"]
        assert isinstance(files, dict)  # noqa: S101 - checked by the client
        missing = {f: s for f, s in files.items() if _digest(f, s) not in self.cache}
        compiled: dict[str, bytes] = {}
        if missing:
            request: dict[str, object] = {"files": missing}
        else:
            job.phase, request = "run", job.request
            job.diagnostics = []
            for file, source in files.items():
                digest = _digest(file, source)
                self.cache.move_to_end(digest)
                packed, diagnostics = self.cache[digest]
                job.diagnostics += diagnostics
                if packed is not None:
                    compiled[file] = packed
        out_of, into = os.pipe()
        job.data = bytearray()
        job.pid = os.fork()
        if job.pid == 0:
            os.close(out_of)
            self.channel.close()
            _child(into, self.baseline, job.phase, request, compiled)
        os.close(into)
        job.pipe = out_of
        job.deadline = time.monotonic() + WALL_SECONDS
        self.running[job.pid] = job
        self.selector.register(out_of, selectors.EVENT_READ, job)

    def _collect(self, job: _Job) -> None:
        data = os.read(job.pipe, 1 << 20)
        job.data += data
        if len(job.data) > 4 * RESULT_BYTES:
            os.kill(job.pid, signal.SIGKILL)
            self._finish(job, "too large")
        elif not data:
            self._finish(job, None)

    def _finish(self, job: _Job, verdict: str | None) -> None:
        self.selector.unregister(job.pipe)
        os.close(job.pipe)
        del self.running[job.pid]
        _, status = os.waitpid(job.pid, 0)
        if verdict is None and os.WIFSIGNALED(status):
            killed = os.WTERMSIG(status)
            verdict = "timeout" if killed in (signal.SIGXCPU, signal.SIGKILL) else "crashed"
        if verdict is None and job.phase == "compile":
            verdict = self._keep(job)
            if verdict is None:
                self._advance(job)
                return
        answer = json.dumps(verdict).encode() if verdict else bytes(job.data) or b'"crashed"'
        head = json.dumps({"id": job.identity, "diagnostics": job.diagnostics}).encode()
        body = struct.pack("!I", len(head)) + head + answer
        self.channel.sendall(struct.pack("!I", len(body)) + body)

    def _keep(self, job: _Job) -> str | None:
        """Put what was compiled into the cache; return a verdict when there is nothing to keep."""
        try:
            found = json.loads(bytes(job.data))
        except ValueError:
            return "crashed"
        files = job.request["files"]
        if not isinstance(found, dict) or "crashed" in found or not isinstance(files, dict):
            return found if isinstance(found, str) else "crashed"
        for file, result in found.items():
            packed = result["code"]
            code = None if packed is None else base64.b64decode(packed)
            self.cache[_digest(file, files[file])] = (code, result["diagnostics"])
        while len(self.cache) > CACHED_FILES:
            self.cache.popitem(last=False)
        return None


def _digest(file: str, source: str) -> str:
    return hashlib.sha256(f"{file}\0{source}".encode("utf-8", "surrogatepass")).hexdigest()


def _address_space() -> int:
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - pathlib is not preloaded
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 512 * 1024 * 1024


def main() -> None:
    """Preload, say what confines the children, and serve until the channel closes."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.insert(0, sys.argv[1])
    from plue.authoring.sandbox import compiler, evaluation

    _ = compiler, evaluation
    channel = socket.socket(fileno=0)
    in_force = ["limits"]
    if _LIBC.unshare(_CLONE_NEWNET) == 0:
        in_force.append("no network")
    if os.uname().machine in _CALLS:
        in_force.append("seccomp")
    hello = json.dumps({"id": 0, "isolation": in_force, "diagnostics": []}).encode()
    body = struct.pack("!I", len(hello)) + hello + b"null"
    channel.sendall(struct.pack("!I", len(body)) + body)
    import gc

    gc.freeze()  # forked children share what is loaded, also after a collection
    _Server(channel).serve()


if __name__ == "__main__":
    main()
