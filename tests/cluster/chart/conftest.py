"""Tests of the chart on a node that has nothing of Plue; `make e2e` runs them in a session first.

They share one release. It must not meet the operators that the other tests of the node start.
"""

from collections.abc import Iterator

import pytest
from cluster.bed.__main__ import down, up
from cluster.bed.namespaces import network_of
from cluster.bed.places import places
from cluster.bed.say import BedError
from cluster.bed.state import find_running
from cluster.installed import Installed, NodeCluster, installed
from lacking import cannot


@pytest.fixture(scope="session")
def bare_cluster() -> Iterator[NodeCluster]:
    """Give the real node without our resources; this process is in its network meanwhile."""
    where = places()
    running = find_running(where)
    was_up = running is not None
    try:
        running = running or up(where)
    except BedError as error:
        cannot(str(error))
        raise
    try:
        with network_of(running.init):
            yield NodeCluster(running)
    finally:
        if not was_up:
            down(where)


@pytest.fixture(scope="session")
def plue(
    bare_cluster: NodeCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """Give Plue as the chart installs it."""
    with installed(bare_cluster, tmp_path_factory.mktemp("chart")) as release:
        yield release
