"""The resources' definitions, brought to this version: Helm does not upgrade those of a chart."""

from plue.errors import NotFoundError
from plue.kube.client import ApiClient, Place
from plue.kube.login import Login
from plue.resources.crds import KINDS, definition

__all__ = ["apply_definitions"]

_DEFINITIONS = Place("apiextensions.k8s.io/v1", "customresourcedefinitions")


async def apply_definitions(login: Login) -> list[str]:
    """Replace all definitions, or create them; return their names. Raises PlueError."""
    names = []
    async with ApiClient(login) as api:
        for kind in KINDS:
            body = definition(kind)
            name = body["metadata"]["name"]
            # Replaced and not applied: a field that this version does not have any more must go,
            # whoever put it there.
            try:
                held = await api.get(_DEFINITIONS, None, name)
            except NotFoundError:
                await api.create(_DEFINITIONS, None, body)
            else:
                body["metadata"] = held["metadata"] | body["metadata"]
                await api.replace(_DEFINITIONS, None, name, body)
            names.append(name)
    return names
