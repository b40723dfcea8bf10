"""The way to a cluster's API through the kubeconfig, as kubectl goes it.

Requests go through the API server to the API's Service (``services/proxy``): nothing has to be
exposed, what streams streams, and no port of this machine is opened, as a port-forward would. The
API server takes its own credentials out of a request, so ours travel in a header of their own.
They are a token for our API alone: TokenRequest gives it for a service account that the person
may act as, or it is a machine token in PLUE_TOKEN.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx2

from plue.cli.client import Address, Api
from plue.cli.target import DEFAULT_ACCOUNT, Target
from plue.errors import PlueError, RejectedError, UnavailableError, UsageError
from plue.kube.login import Login, find_login

__all__ = ["Cluster", "reached"]

AUDIENCE = "plue-api"
_LASTS = 3600
_TIMES = httpx2.Timeout(30.0, connect=10.0)


@contextlib.contextmanager
def reached(where: Target) -> Iterator[Api]:
    """Give the API of the cluster that *where* names. Raises PlueError."""
    if where.server is not None:
        url, token = where.server, str(where.token)
        api = Api(lambda: Address(url, token), away=f"check that {url} is the API's address")
        with contextlib.closing(api):
            yield api
        return
    with contextlib.ExitStack() as stack:
        cluster = Cluster(where)
        stack.callback(cluster.close)
        api = Api(cluster.address, verify=cluster.login.verify, away=_away(where))
        stack.callback(api.close)
        yield api


def _away(where: Target) -> str:
    return f"check with `kubectl --context {where.context} get --raw /readyz`"


class Cluster:
    """One context of the kubeconfig: finds the API behind it, and a token for it."""

    def __init__(self, where: Target) -> None:
        """Read the kubeconfig. Raises UsageError."""
        self.login: Login = find_login(os.environ, context=where.context, programs=True)
        self.namespace = where.namespace or self.login.namespace
        self._where = where
        self._http = httpx2.Client(verify=self.login.verify, timeout=_TIMES, trust_env=False)
        self._token: tuple[float, str] | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def address(self) -> Address:
        """Return where the API is, and what lets us in now. Raises PlueError."""
        namespace, name = _service_of(self._where.service)
        path = f"/api/v1/namespaces/{quote(namespace)}/services/{quote(name, safe=':')}/proxy"
        headers = self._credentials() | {"X-Plue-Authorization": f"Bearer {self._our_token()}"}
        return Address(f"{self.login.server}{path}", "", headers=headers)

    def _credentials(self) -> dict[str, str]:
        token = self.login.token()
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def _our_token(self) -> str:
        if self._where.token is not None:
            return self._where.token
        now = time.monotonic()
        if self._token is None or self._token[0] < now:
            # Anew long before it ends: a stream may be resumed with it.
            self._token = (now + _LASTS * 0.7, self._requested())
        return self._token[1]

    def _requested(self) -> str:
        namespace, name = self._account()
        path = f"/api/v1/namespaces/{quote(namespace)}/serviceaccounts/{quote(name)}/token"
        spec = {"audiences": [AUDIENCE], "expirationSeconds": _LASTS}
        try:
            said = self._post(path, {"spec": spec})
        except RejectedError as error:
            raise _no_token(error, namespace, name) from error
        return str(said["status"]["token"])

    def _account(self) -> tuple[str, str]:
        """Return the service account that we act as: the one that is named, else ourselves."""
        if self._where.account is not None:
            namespace, slash, name = self._where.account.rpartition("/")
            return (namespace if slash else self.namespace), name
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        said = self._post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        user = str(said["status"]["userInfo"].get("username", ""))
        match user.split(":"):
            case ["system", "serviceaccount", namespace, name]:
                return namespace, name
            case _:
                return self.namespace, DEFAULT_ACCOUNT

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            answer = self._http.post(
                f"{self.login.server}{path}", json=body, headers=self._credentials()
            )
        except httpx2.TransportError as error:
            raise UnavailableError(
                f"the API server at {self.login.server} does not answer"
                f" ({str(error) or type(error).__name__})",
                remedy=_away(self._where),
            ) from error
        if answer.is_error:
            raise self._refused(answer)
        return answer.json()

    def _refused(self, answer: httpx2.Response) -> PlueError:
        try:
            said = answer.json()
        except ValueError:
            said = {}
        message = str(said.get("message") or f"the API server answered {answer.status_code}")
        if answer.status_code == httpx2.codes.UNAUTHORIZED:
            return RejectedError(
                f"the API server does not know the credentials of the kubeconfig: {message}",
                remedy=f"log in again: `kubectl --context {self._where.context} auth whoami`",
                details={"status": answer.status_code},
            )
        if answer.is_client_error:
            return RejectedError(message, details={"status": answer.status_code})
        return UnavailableError(message)


def _service_of(service: str) -> tuple[str, str]:
    """Return namespace and, with its port, name of NAMESPACE/NAME[:PORT]. Raises UsageError."""
    namespace, slash, name = service.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise UsageError(
            f"--api-service {service}: write NAMESPACE/NAME or NAMESPACE/NAME:PORT",
            remedy="`kubectl get services -A -l app.kubernetes.io/component=api` finds it",
        )
    port_of_its_own = ":" in name
    return namespace, f"http:{name}" if port_of_its_own else f"http:{name}:api"


def _no_token(error: RejectedError, namespace: str, name: str) -> PlueError:
    """Return why there is no token for the account, and what to do."""
    account = f"{namespace}/{name}"
    if error.details.get("status") == httpx2.codes.NOT_FOUND:
        return RejectedError(
            f"there is no service account {account} to act as",
            field="account",
            remedy="name one with --account [NAMESPACE/]NAME, or have it made:"
            f" `kubectl create serviceaccount {name} -n {namespace}` and"
            f" `kubectl create rolebinding {name} -n {namespace} --clusterrole=plue-editor"
            f" --serviceaccount={namespace}:{name}`",
        )
    if error.details.get("status") == httpx2.codes.FORBIDDEN:
        return RejectedError(
            f"you may not act as the service account {account}: {error.message}",
            field="account",
            remedy=f"ask for the verb create on serviceaccounts/token of {name} in {namespace},"
            " or name another with --account",
        )
    return error
