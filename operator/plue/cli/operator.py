"""`plue operator`: the server of a Kubernetes cluster."""

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["operator"]


def operator(
    *,
    database: Annotated[
        str | None, typer.Option(metavar="DSN", help="The Postgres that holds the state.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where archives are kept [default: /var/lib/plue].")
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(help="Where RunnerPools and their pods live [default: plue-runners]."),
    ] = None,
    gateway_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where pods reach the gateway.")
    ] = None,
    gateway_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="[default: 0.0.0.0:8701]")
    ] = None,
    api_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="[default: 127.0.0.1:8700]")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="A context of the kubeconfig, outside of a cluster.")
    ] = None,
) -> None:
    """Run workflows that are applied to a Kubernetes cluster.

    Reaches the cluster as its pod's service account, or by KUBECONFIG. Every option can be given
    as a variable too: PLUE_DATABASE, PLUE_DATA, PLUE_NAMESPACE, PLUE_GATEWAY_URL,
    PLUE_GATEWAY_LISTEN, PLUE_API_LISTEN, PLUE_SERVICE_ACCOUNT.

    """
    from plue.kube.login import find_login
    from plue.kube.operator import run_operator
    from plue.kube.settings import OperatorOptions

    options = OperatorOptions.load(
        database=database,
        data=data,
        namespace=namespace,
        gateway_url=gateway_url,
        gateway_listen=gateway_listen,
        api_listen=api_listen,
    )
    login = find_login(os.environ, context=context)
    raise typer.Exit(run_operator(options, login))
