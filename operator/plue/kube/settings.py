"""Settings of a cluster's processes, read once: from options, else from `PLUE_…` variables."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from plue.authoring.remotes import Network, Reach
from plue.errors import UsageError

__all__ = [
    "DatabaseOptions",
    "EvaluatorOptions",
    "GitOptions",
    "OperatorOptions",
    "address_of",
    "networks_of",
    "reach_of",
]


class _Options(BaseSettings):
    """Options of a command: from its command line, else from the environment."""

    model_config = SettingsConfigDict(env_prefix="PLUE_", frozen=True, extra="ignore")

    @classmethod
    def load(cls, **given: object) -> Self:
        """Return the settings; what is *given* and not None outranks the environment.

        Raises UsageError that names the setting.
        """
        try:
            return cls.model_validate(
                cls(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
            )
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise UsageError(
                f"--{name.replace('_', '-')} (or PLUE_{name.upper()}): {first['msg']}",
                field=name,
                remedy="see the command's --help",
            ) from error


class GitOptions(_Options):
    """Which git sources are fetched."""

    git: bool = Field(default=True, description="Whether sources are fetched from git at all.")
    git_refused: str = Field(
        default="",
        description="Networks that none is fetched from, as of pods or Services: CIDRs, commas.",
    )
    git_loopback: bool = Field(
        default=False, description="Whether they may be on this very machine, to try it."
    )


class EvaluatorOptions(GitOptions):
    """What the evaluator's server can be told."""

    evaluator_token: SecretStr = Field(
        min_length=16, description="What those who may ask it know, 16 characters or more."
    )
    evaluator_listen: str = Field(default="0.0.0.0:8703", description="Where it listens.")


class DatabaseOptions(_Options):
    """Where the state is."""

    database: SecretStr = Field(description="The Postgres that holds the engine's state.")


class OperatorOptions(DatabaseOptions, GitOptions):
    """What operator, API and gateway can be told."""

    data: Path = Field(default=Path("/var/lib/plue"), description="Where archives are kept.")
    namespace: str = Field(default="plue-runners", description="Where pools and pods live.")
    service_account: str = Field(default="plue-runner", description="The pods' account.")
    gateway_url: str = Field(description="The address at which pods reach the gateway.")
    gateway_listen: str = Field(default="0.0.0.0:8701", description="Where the gateway listens.")
    egress_listen: str = Field(
        default="0.0.0.0:8704", description="Where the gateway connects runs to their pool's hosts."
    )
    api_listen: str = Field(default="127.0.0.1:8700", description="Where the API listens.")
    health_listen: str = Field(
        default="127.0.0.1:8702", description="Where health and metrics are served."
    )
    alone: bool = Field(
        default=False, description="Whether `plue api` and `plue gateway` run by themselves."
    )
    migrate: bool = Field(
        default=True, description="Whether to bring the database to this version's schema."
    )
    api_url: str | None = Field(
        default=None, description="Where browsers find the API, when they can log in."
    )
    oidc_issuer: str | None = Field(default=None, description="Where browsers log in.")
    oidc_client_id: str = Field(default="plue", description="Our name at the issuer.")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Our password at the issuer, if it wants one beside PKCE."
    )
    oidc_username_claim: str = Field(default="email", description="What names a user.")
    oidc_username_prefix: str = Field(default="", description="As the API server's own.")
    oidc_groups_claim: str = Field(default="groups", description="What names the groups.")
    oidc_groups_prefix: str = Field(default="", description="As the API server's own.")
    oidc_scopes: str = Field(default="openid email profile", description="What is asked for.")
    session_hours: float = Field(default=12.0, gt=0, le=24 * 30, description="How long a login is.")
    proxy_user_header: str | None = Field(
        default=None, description="In which a proxy that logs users in says who it is."
    )
    proxy_groups_header: str | None = Field(default=None, description="And of which groups.")
    proxy_networks: str = Field(
        default="", description="Where that proxy's requests come from: CIDRs with commas."
    )
    evaluator_url: str | None = Field(
        default=None, description="Where `plue evaluator` is; unset: a process of our own."
    )
    evaluator_token: SecretStr = Field(default=SecretStr(""), description="What it must be told.")
    models: Path | None = Field(default=None, description="A file of model settings.")
    budgets: str = Field(
        default="run.usd=10,day.usd=100",
        description="What models may cost: SCOPE.UNIT=AMOUNT, separated by commas.",
    )


def reach_of(options: GitOptions) -> Reach:
    """Return where git sources may be fetched from. Raises UsageError."""
    refused = networks_of(options.git_refused, field="git_refused")
    return Reach(refused, loopback=options.git_loopback, nowhere=not options.git)


def networks_of(listed: str, *, field: str) -> Sequence[Network]:
    """Return the networks of a setting: CIDRs with commas. Raises UsageError that names it."""
    try:
        return [ipaddress.ip_network(one.strip()) for one in listed.split(",") if one.strip()]
    except ValueError as error:
        raise UsageError(f"PLUE_{field.upper()}: {error}", field=field) from error


def address_of(listen: str) -> tuple[str, int]:
    """Return host and port of ``host:port``. Raises UsageError."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{listen!r} is no address; write HOST:PORT", field="listen")
    return host.strip("[]"), int(port)
