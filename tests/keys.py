"""Looks for a key wherever a sandbox, or a component, could hold one: a program that runs there.

It is given what it looks for backwards, so that it brings nothing along itself: ``SCOPE KEY KNOWN
FOLDER…``. ``mine`` is the runner that it was started by with all below it, ``all`` is every process
that there is. It prints where, and how often, it found the key, and a word that is known to be
there: so a look that sees nothing is not taken for one that finds nothing.
"""

__all__ = ["LOOKS", "NOWHERE", "backwards"]

NOWHERE = {"cmdline": 0, "environ": 0, "files": 0, "memory": 0}

LOOKS = r"""
import json, os, sys

scope, *words = sys.argv[1:4]
sought = {name: word[::-1].encode() for name, word in zip(("key", "known"), words)}
places = ("cmdline", "environ", "files", "memory")
found = {name: dict.fromkeys(places, 0) for name in sought}
looked = dict.fromkeys(places, 0)


def count(place, data):
    looked[place] += 1
    for name, word in sought.items():
        found[name][place] += data.count(word)


def read(path, most=1 << 26):
    try:
        with open(path, "rb", 0) as file:
            parts = []
            while most > 0 and (part := file.read(1 << 20)):
                parts.append(part)
                most -= len(part)
            return b"".join(parts)
    except OSError:
        return None


def parent(pid):
    stat = read(f"/proc/{pid}/stat")
    return int(stat.rsplit(b")", 1)[1].split()[1]) if stat else 0


def line_of(pid):
    while pid:
        yield pid
        pid = parent(pid)


def memory(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if "r" not in rights or "[v" in line:
                continue
            begin, end = (int(number, 16) for number in span.split("-"))
            try:
                memory.seek(begin)
                data = b""
                while begin + len(data) < end:
                    part = memory.read(min(1 << 24, end - begin - len(data)))
                    if not part:
                        break
                    data += part
            except (OSError, ValueError, OverflowError):
                continue
            count("memory", data)


pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
if scope == "mine":
    lines = {pid: read(f"/proc/{pid}/cmdline") or b"" for pid in line_of(os.getpid())}
    top = next(pid for pid, line in lines.items() if b"plue_runner" in line)
    pids = [pid for pid in pids if top in line_of(pid)]
for pid in pids:
    for name in ("cmdline", "environ"):
        data = read(f"/proc/{pid}/{name}")
        if data is not None:
            count(name, data)
    if pid != os.getpid():
        try:
            memory(pid)
        except OSError:
            pass
for folder in sys.argv[4:]:
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if (path, name) not in (("/", "proc"), ("/", "sys"))]
        for name in names:
            whole = os.path.join(path, name)
            data = read(whole) if os.path.isfile(whole) else None
            if data is not None:
                count("files", data)
print("LOOKED " + json.dumps({**found, "looked": looked}, sort_keys=True))
"""


def backwards(*words: str) -> str:
    """Return *words* as the program takes them."""
    return " ".join(word[::-1] for word in words)
