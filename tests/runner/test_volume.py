"""Large, fast and strange output: exact, in order, in bounded memory."""

from runner.conftest import Run, Start
from runner.scripted import ScriptedGateway, an_assignment, sh

from plue.wire.events import EventType

BOTH = r"""
import sys, threading
def write(file, letter):
    for start in range(0, 500_000, 1000):
        file.write("".join(f"{letter}{n:08}" + "." * 90 + "\n" for n in range(start, start + 1000)))
one = threading.Thread(target=write, args=(sys.stdout, "o"))
one.start(); write(sys.stderr, "e"); one.join()
"""


async def test_fifty_megabytes_on_each_stream_come_exactly(run: Run) -> None:
    """Both pipes are read at once: nothing blocks, is lost or out of order."""
    gateway = await run(ScriptedGateway(an_assignment(sh("big", BOTH, using="python"))))
    for stream, letter in (("stdout", "o"), ("stderr", "e")):
        expected = "".join(f"{letter}{n:08}" + "." * 90 + "\n" for n in range(500_000))
        # Not compared by assert: a difference of 50 MB cannot be shown.
        same = expected == gateway.text("big", stream)
        assert same
    chunks = gateway.of(EventType.STEP_OUTPUT)
    assert max(len(str(e.body["text"])) for e in chunks) <= 64 * 1024


async def test_millions_of_lines_do_not_grow_the_runner(start: Start) -> None:
    """A log of any length costs a bounded amount of memory."""
    steps = (sh("warm", "seq 1000"), sh("lines", "seq 3000000", needs=("warm",)))
    gateway = ScriptedGateway(an_assignment(*steps), keep_events=False, answers_finished=False)
    async with gateway.serving():
        process = await start("--gateway", gateway.base)
        await gateway.until(lambda: gateway.finished, 60)
        assert process.peak_bytes < 80_000_000
        await gateway.say(gateway.done())
        assert await process.exit() == 0


async def test_lines_of_a_megabyte_and_binary_output_come_exactly(run: Run) -> None:
    """Long lines leave in pieces; what is not UTF-8, and NUL, becomes U+FFFD."""
    long = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo after"
    binary = "printf 'a\\000b\\377c\\303'; sleep 0.1; printf '\\244d'"
    gateway = await run(ScriptedGateway(an_assignment(sh("long", long), sh("bin", binary))))
    assert gateway.text("long") == "x" * 1_000_000 + "\nafter\n"
    lines = [
        (e.body["line"], e.body.get("partial")) for e in gateway.of(EventType.STEP_OUTPUT, "long")
    ]
    assert all(line == 1 for line, partial in lines if partial)
    assert len(lines) > 1
    assert gateway.text("bin") == "a\ufffdb\ufffdcäd"
