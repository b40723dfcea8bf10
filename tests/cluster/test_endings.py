"""An operator that is told to end: it does, and leaves nothing for others to wait for."""

import time

from cluster.operating import RUNNERS, Cluster, Operator, workflow_run

WORK = """
from plue import workflow

@workflow()
def ci(ctx):
    ctx.run("work", "echo work; while [ ! -e {file} ]; do sleep 0.1; done")
"""


def test_operator_ends_when_it_is_told_to(bare: Cluster, at_work: Operator) -> None:
    """Within seconds, with code 0, its lease given back; its runs go on."""
    file = at_work.folder / "go"
    run = workflow_run(WORK.format(file=file))
    name = run["metadata"]["name"]
    bare.apply(run)
    bare.wait("jsonpath={.status.phase}=Running", "wfr", name)
    begun = time.monotonic()
    at_work.stop()
    assert time.monotonic() - begun < 10
    assert "server_ended" not in at_work.log
    assert not bare.get("lease", "plue", RUNNERS)["spec"].get("holderIdentity")
    at_work.start()
    file.touch()
    bare.wait("condition=Complete", "wfr", name)
