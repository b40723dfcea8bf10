"""Which hosts a pool's runs may reach through the gateway. Pure; the names are as users write them.

A rule is a host name, or `*.` and the name of which all others below it are meant, and perhaps a
port; without one it is 443. Addresses are never allowed: who may name one may name any.
"""

import ipaddress
import re
from collections.abc import Iterable

from plue.wire.hosts import HOST_LABEL

__all__ = ["is_allowed", "is_public", "target_of"]

_TLS = 443
_NAME = re.compile(rf"({HOST_LABEL}\.)+(?=[^.]*[a-z]){HOST_LABEL}")
_MAX_PORT = 65535
_MAX_NAME = 253


def target_of(authority: str) -> tuple[str, int] | None:
    """Return host and port of what a CONNECT asks for; None when it is no name and port."""
    host, colon, port = authority.strip().lower().rpartition(":")
    host = host.removesuffix(".")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= _MAX_PORT:
        return None
    if len(host) > _MAX_NAME or _NAME.fullmatch(host) is None:
        return None
    return host, int(port)


def is_allowed(rules: Iterable[str], host: str, port: int) -> bool:
    """Return whether one of *rules* allows it; *host* is as :func:`target_of` gives it."""
    for rule in rules:
        name, _, wanted = rule.lower().partition(":")
        if port != int(wanted or _TLS):
            continue
        if name == host or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def is_public(address: str) -> bool:
    """Return whether an address is one of the internet: no name may lead back into the cluster."""
    found = ipaddress.ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast
