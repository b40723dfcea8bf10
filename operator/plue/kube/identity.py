"""Who vouches for a runner at the gateway: the API server, by the token of its very pod."""

from plue.domain.run import RunnerId
from plue.kube.client import ApiClient
from plue.kube.pod_template import AUDIENCE
from plue.kube.pods import PodHost
from plue.kube.reviews import user_of

__all__ = ["PodIdentity"]

_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


class PodIdentity:
    """Implements ``engine.ports.Identity`` for the pods of a host."""

    def __init__(self, api: ApiClient, *, host: PodHost, namespace: str) -> None:
        """Ask *api* about tokens of pods that *host* knows in *namespace*."""
        self._api = api
        self._host = host
        self._account = f"system:serviceaccount:{namespace}:{host.placing.service_account}"

    async def is_runner(self, runner: RunnerId, token: str) -> bool:
        """Ask the API server whether the token is this very pod's, and for our audience."""
        user = await user_of(self._api, token, audience=AUDIENCE)
        if user is None:
            return False
        extra = user.get("extra") or {}
        if user.get("username") != self._account or extra.get(_POD_NAME) != [runner]:
            return False
        return extra.get(_POD_UID) == [await self._host.uid(runner)]
