"""The server processes of a Kubernetes cluster: `plue operator`, and what may run beside it."""

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["api", "evaluator", "gateway", "migrate", "operator", "postgres", "smoke"]

Dsn = Annotated[str | None, typer.Option(metavar="DSN", help="The Postgres that holds the state.")]
Data = Annotated[
    Path | None, typer.Option(help="Where archives are kept [default: /var/lib/plue].")
]
Namespace = Annotated[
    str | None,
    typer.Option(help="Where RunnerPools and their pods live [default: plue-runners]."),
]
GatewayUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="Where pods reach the gateway.")
]
GatewayListen = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="[default: 0.0.0.0:8701]")
]
ApiListen = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="[default: 127.0.0.1:8700]")
]
HealthListen = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Health and metrics [default: 127.0.0.1:8702]."),
]
Context = Annotated[
    str | None, typer.Option(help="A context of the kubeconfig, outside of a cluster.")
]


def operator(
    *,
    database: Dsn = None,
    data: Data = None,
    namespace: Namespace = None,
    gateway_url: GatewayUrl = None,
    gateway_listen: GatewayListen = None,
    api_listen: ApiListen = None,
    health_listen: HealthListen = None,
    alone: Annotated[
        bool | None,
        typer.Option(
            "--alone", help="`plue api` and `plue gateway` run by themselves; else both are here."
        ),
    ] = None,
    context: Context = None,
) -> None:
    """Run workflows that are applied to a Kubernetes cluster.

    Reaches the cluster as its pod's service account, or by KUBECONFIG. Every option can be given
    as a variable too: PLUE_DATABASE, PLUE_DATA, PLUE_NAMESPACE, PLUE_GATEWAY_URL,
    PLUE_GATEWAY_LISTEN, PLUE_API_LISTEN, PLUE_HEALTH_LISTEN, PLUE_ALONE. By variables alone:
    PLUE_SERVICE_ACCOUNT, PLUE_MIGRATE, PLUE_EVALUATOR_URL, PLUE_EVALUATOR_TOKEN, PLUE_MODELS (a
    file of model settings), PLUE_BUDGETS. Models are called with the key in the file that
    PLUE_ANTHROPIC_KEY_FILE names, or with ANTHROPIC_API_KEY.

    """
    from plue.kube.foundation import run_server
    from plue.kube.login import find_login
    from plue.kube.operator import Operator
    from plue.kube.settings import OperatorOptions

    options = OperatorOptions.load(
        database=database,
        data=data,
        namespace=namespace,
        gateway_url=gateway_url,
        gateway_listen=gateway_listen,
        api_listen=api_listen,
        health_listen=health_listen,
        alone=alone,
    )
    login = find_login(os.environ, context=context)
    raise typer.Exit(run_server(Operator(options, login)))


def api(
    *,
    database: Dsn = None,
    data: Data = None,
    namespace: Namespace = None,
    api_listen: ApiListen = None,
    health_listen: HealthListen = None,
    context: Context = None,
) -> None:
    """Serve the API of a cluster, beside `plue operator --alone`; any number may run.

    Takes the variables that `plue operator` takes.

    """
    from plue.kube.foundation import run_server
    from plue.kube.login import find_login
    from plue.kube.servers import ApiServer
    from plue.kube.settings import OperatorOptions

    options = OperatorOptions.load(
        database=database,
        data=data,
        namespace=namespace,
        gateway_url=os.environ.get("PLUE_GATEWAY_URL", ""),
        api_listen=api_listen,
        health_listen=health_listen,
    )
    login = find_login(os.environ, context=context)
    raise typer.Exit(run_server(ApiServer(options, login)))


def gateway(
    *,
    database: Dsn = None,
    data: Data = None,
    namespace: Namespace = None,
    gateway_url: GatewayUrl = None,
    gateway_listen: GatewayListen = None,
    health_listen: HealthListen = None,
    context: Context = None,
) -> None:
    """Serve the runners of a cluster, beside `plue operator --alone`; any number may run.

    Takes the variables that `plue operator` takes.

    """
    from plue.kube.foundation import run_server
    from plue.kube.login import find_login
    from plue.kube.servers import GatewayServer
    from plue.kube.settings import OperatorOptions

    options = OperatorOptions.load(
        database=database,
        data=data,
        namespace=namespace,
        gateway_url=gateway_url,
        gateway_listen=gateway_listen,
        health_listen=health_listen,
    )
    login = find_login(os.environ, context=context)
    raise typer.Exit(run_server(GatewayServer(options, login)))


def evaluator(
    *,
    evaluator_listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="[default: 0.0.0.0:8703]")
    ] = None,
) -> None:
    """Evaluate workflow code for operator, API and gateway; any number may run.

    Needs neither the cluster nor the database: only PLUE_EVALUATOR_TOKEN, which those who may
    ask it know too.

    """
    from plue.kube.foundation import run_server
    from plue.kube.servers import EvaluatorServer
    from plue.kube.settings import EvaluatorOptions

    options = EvaluatorOptions.load(evaluator_listen=evaluator_listen)
    raise typer.Exit(run_server(EvaluatorServer(options)))


def migrate(
    *,
    database: Dsn = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long the database may be away.")
    ] = 60.0,
    resources: Annotated[
        bool, typer.Option("--resources", help="The cluster's resource definitions too.")
    ] = False,
) -> None:
    """Bring the database of a cluster to this version's schema; safe to repeat and beside servers.

    A schema of a newer version is let be: a chart that was rolled back works on it.

    """
    import asyncio

    from plue.kube.foundation import migrate_patiently
    from plue.kube.settings import DatabaseOptions

    options = DatabaseOptions.load(database=database)
    applied = asyncio.run(migrate_patiently(options.database.get_secret_value(), seconds=wait))
    print("\n".join(applied) or "the schema is up to date")
    if resources:
        from plue.kube.definitions import apply_definitions
        from plue.kube.login import find_login

        print("\n".join(asyncio.run(apply_definitions(find_login(os.environ)))))


def smoke(
    *,
    pool: Annotated[str, typer.Option(help="The RunnerPool to use.")] = "default",
    api_url: Annotated[
        str | None,
        typer.Option("--api", metavar="URL", help="The API, to be asked whether it is ready."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long it may take.")
    ] = 120.0,
    context: Context = None,
) -> None:
    """Apply a WorkflowRun to the cluster, wait until it is Complete, and delete it."""
    import asyncio

    from plue.kube.login import find_login
    from plue.kube.smoke import try_one_run

    login = find_login(os.environ, context=context)
    print(asyncio.run(try_one_run(login, pool=pool, api_url=api_url, seconds=timeout)))


def postgres(
    *,
    data: Annotated[Path, typer.Option(help="Where it keeps its files.")] = Path(
        "/var/lib/plue/postgres"
    ),
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens.")] = "*",
) -> None:
    """Serve a small Postgres for trying Plue in a cluster; the password is PLUE_POSTGRES_PASSWORD.

    One volume, no replica, no backup: a team brings a database of its own.

    """
    import asyncio

    from plue.errors import UsageError
    from plue.local.trial import TrialPostgres, serve_until_told

    password = os.environ.get("PLUE_POSTGRES_PASSWORD", "")
    if not password:
        raise UsageError("PLUE_POSTGRES_PASSWORD is not set", field="password")
    server = TrialPostgres(data, password=password, listen=listen)
    asyncio.run(serve_until_told(server))
