"""Deletions that no watch told of, found against the real API server."""

from collections.abc import Mapping

import pytest
from cluster.test_resource_rules import PLACES, REFERENCE, _object

from plue.errors import NotFoundError
from plue.kube.client import ApiClient, Place
from plue.kube.pruning import prune

RUNS = PLACES["WorkflowRun"]


class Remembering:
    """A cache that holds what it is given."""

    def __init__(self, known: Mapping[str, tuple[str, str]]) -> None:
        self.known = dict(known)

    def identities(self) -> Mapping[str, tuple[str, str]]:
        return self.known

    def gone(self, uid: str) -> None:
        del self.known[uid]


async def _made(api: ApiClient, name: str | None = None) -> tuple[str, tuple[str, str]]:
    body = _object("WorkflowRun", REFERENCE)
    if name is not None:
        body["metadata"] = {"name": name, "namespace": "default"}
    metadata = (await api.create(RUNS, "default", body))["metadata"]
    return metadata["uid"], ("default", metadata["name"])


async def test_missed_deletion_is_found(api: ApiClient) -> None:
    """What is not listed, and not found by its name, is gone; what is there stays known."""
    stays, goes = await _made(api), await _made(api)
    cache = Remembering(dict([stays, goes]))
    await api.delete(RUNS, *goes[1])
    assert await prune(api, RUNS, cache) == 1
    assert list(cache.known) == [stays[0]]


async def test_object_made_again_is_another(api: ApiClient) -> None:
    """The same name with another UID is another object: the one that was known is gone."""
    uid, (namespace, name) = await _made(api)
    await api.delete(RUNS, namespace, name)
    await _made(api, name)
    cache = Remembering({uid: (namespace, name)})
    assert await prune(api, RUNS, cache) == 1


async def test_nothing_at_all_is_listed(api: ApiClient) -> None:
    """An empty list is a list: what was known of it is gone one by one."""
    place = PLACES["Workflow"]
    cache = Remembering({"no-such-uid": ("default", "no-such-workflow")})
    assert await prune(api, place, cache) == 1


async def test_lost_definition_loses_no_object(api: ApiClient) -> None:
    """When the kind itself is not served, nothing is believed gone."""
    cache = Remembering({"uid": ("default", "name")})
    with pytest.raises(NotFoundError):
        await prune(api, Place("plue.dev/v1alpha1", "nosuchkinds"), cache)
    assert list(cache.known) == ["uid"]
