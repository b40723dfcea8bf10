"""Files that are large or deep on purpose: what the server itself reads of them costs little.

The sandbox has its limits; these are about the work that the server does before and after it, on
the loop that serves everybody.
"""

import time

import pytest
from authoring.sandboxed import FILE, Sandbox, workflow_of

OK = workflow_of('ctx.run("a", "true")')
MODULES = {f".plue/lib/m{n}.py": "x = 1\n" for n in range(1900)}
CONFIG = ".plue/config.yaml"


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({FILE: "@workflow\n" * 50_000}, id="decorators-without-functions"),
        pytest.param({FILE: "from" + "\n" * 500_000}, id="import-of-nothing"),
        pytest.param(
            {**MODULES, FILE: "".join(f"import lib.n{n}\n" for n in range(25_000))},
            id="many-imports-and-modules",
        ),
        pytest.param({FILE: OK, CONFIG: "[" * 100_000}, id="deep-sequence"),
        pytest.param({FILE: OK, CONFIG: "[" * 60_000}, id="deep-sequence-of-allowed-size"),
        pytest.param({FILE: OK, CONFIG: "a: " + "{a: " * 15_000}, id="deep-mapping"),
        pytest.param({FILE: OK, CONFIG: "".join(f"k{n}: 1\n" for n in range(7_000))}, id="keys"),
        pytest.param({FILE: OK, CONFIG: "pool: " + "9" * 60_000}, id="number"),
        pytest.param({FILE: OK, CONFIG: "a: &a [x]\nb: *a\n"}, id="alias"),
    ],
)
def test_the_server_reads_large_files_in_little_time(
    sandbox: Sandbox, files: dict[str, str]
) -> None:
    """Asking for a workflow that is not there, or with a config that is wrong, is told at once."""
    before = time.process_time()
    planned = sandbox.call(sandbox.evaluator.plan(files, "nothing", inputs={}, event={}))
    # All of this process: the loop's thread is not ours.
    spent = time.process_time() - before
    assert planned.plan is None
    assert 1 <= len(planned.diagnostics) <= 50
    assert spent < 1.5


def test_a_file_that_takes_too_long_to_compile_is_told_so(impatient: Sandbox) -> None:
    """The time is told as such, not as a crash; the next evaluation works."""
    planned = impatient.plan(OK + "x = [0, 0, 0, 0, 0, 0, 0, 0]\n" * 17_000)
    assert [d.code for d in planned.diagnostics] == ["PLU602"]
    assert impatient.plan(OK).plan is not None
