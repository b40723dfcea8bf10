"""How browsers get in, as the settings say: at an issuer, behind a proxy, or not at all."""

from plue.api.oidc import BrowserLogin, origin_of
from plue.api.sessions import Sessions, TrustedProxy
from plue.errors import UsageError
from plue.kube.access import ClusterAccess
from plue.kube.client import ApiClient
from plue.kube.settings import OperatorOptions, networks_of
from plue.store.access import AccessStore

__all__ = ["cluster_access"]


def cluster_access(options: OperatorOptions, api: ApiClient, store: AccessStore) -> ClusterAccess:
    """Return the access that *options* describe. Raises UsageError that names the setting."""
    login = _browser_login(options)
    sessions = None if login is None else Sessions(store, login)
    return ClusterAccess(api, store, sessions=sessions, proxy=_trusted_proxy(options))


def _browser_login(options: OperatorOptions) -> BrowserLogin | None:
    if not options.oidc_issuer:
        return None
    secret = options.oidc_client_secret
    return BrowserLogin(
        issuer=options.oidc_issuer,
        client_id=options.oidc_client_id,
        client_secret=None if secret is None else secret.get_secret_value(),
        public_url=_public_url(options, "PLUE_OIDC_ISSUER"),
        username_claim=options.oidc_username_claim,
        username_prefix=options.oidc_username_prefix,
        groups_claim=options.oidc_groups_claim,
        groups_prefix=options.oidc_groups_prefix,
        scopes=tuple(options.oidc_scopes.split()),
        lasts_hours=options.session_hours,
    )


def _trusted_proxy(options: OperatorOptions) -> TrustedProxy | None:
    if not options.proxy_user_header:
        return None
    networks = networks_of(options.proxy_networks, field="proxy_networks")
    if not networks:
        raise UsageError(
            "PLUE_PROXY_USER_HEADER needs PLUE_PROXY_NETWORKS: anybody can write a header",
            field="proxy_networks",
            remedy="give the addresses of the proxy, such as 10.0.12.7/32",
        )
    origin = origin_of(_public_url(options, "PLUE_PROXY_USER_HEADER"))
    return TrustedProxy(
        user_header=options.proxy_user_header,
        groups_header=options.proxy_groups_header,
        networks=networks,
        origin=origin,
    )


def _public_url(options: OperatorOptions, wanted_by: str) -> str:
    if not options.api_url:
        raise UsageError(
            f"{wanted_by} needs PLUE_API_URL",
            field="api_url",
            remedy="give the address at which browsers find the API, such as https://plue.example",
        )
    return options.api_url
