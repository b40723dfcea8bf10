"""`plue token …` and `plue audit`: machines that call a cluster's API, and who changed what."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from plue.cli.context import namespace_of, server
from plue.cli.target import target
from plue.cli.words import Words
from plue.errors import UsageError

__all__ = ["app", "audit"]

app = Words(
    help="Make, list and revoke tokens with which machines call a cluster's API.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Everywhere = Annotated[
    bool, typer.Option("-A", "--all-namespaces", help="All namespaces; needs the right in all.")
]


def _in_a_cluster() -> None:
    if not target().is_cluster:
        raise UsageError(
            "the server on this machine has one token, and one person: you",
            remedy="name a cluster: `plue --context NAME token …`",
        )


@app.command()
def create(
    name: str,
    *,
    role: Annotated[
        str, typer.Option(help="viewer reads; editor makes and cancels runs too.")
    ] = "viewer",
    namespace: Annotated[
        list[str] | None,
        typer.Option("-n", "--namespace", help="It reaches this one; repeatable [the context's]."),
    ] = None,
    everywhere: Everywhere = False,
    expires: Annotated[str, typer.Option(metavar="TIME", help="It ends after 12h, 30d …")] = "30d",
    as_json: AsJson = False,
) -> None:
    """Make a token for a machine, and print it: nobody can show it again.

    You need each right that it gives away. Give it to the machine as PLUE_TOKEN.

    Examples:
      plue --context prod token create ci-bot --role editor -n team-a --expires 90d

      PLUE_TOKEN=plue_… plue --server https://plue.example run list

    """
    _in_a_cluster()
    if everywhere and namespace:
        raise UsageError("-A and -n contradict each other", remedy="leave one of them out")
    here = namespace_of()
    places = None if everywhere else namespace or ([here] if here else None)
    if places is None and not everywhere:
        raise UsageError("say which namespaces it reaches", remedy="give -n NAME, or -A for all")
    body = {
        "name": name,
        "role": role,
        "namespaces": places,
        "lasts_seconds": _seconds(expires),
    }
    with server() as api:
        made = api.post("/tokens", body)
    print(json.dumps(made) if as_json else made["token"])


@app.command("list")
def list_tokens(
    *,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Those that reach this namespace.")
    ] = None,
    everywhere: Everywhere = False,
    as_json: AsJson = False,
) -> None:
    """List tokens, newest first: what they reach, when they end, when they were used.

    Example: plue --context prod token list -n team-a
    """
    from plue.cli.text import safe, table

    _in_a_cluster()
    with server() as api:
        place = None if everywhere else namespace_of(namespace)
        tokens = api.get("/tokens", namespace=place)["tokens"]
    if as_json:
        print(json.dumps(tokens, indent=2))
        return
    if not tokens:
        print("no tokens")
        return
    rows = [["ID", "NAME", "ROLE", "NAMESPACES", "STATE", "USED", "OWNER"]]
    for one in tokens:
        places = "all" if one["namespaces"] is None else ",".join(one["namespaces"])
        used = (one["last_used_at"] or "never")[:16].replace("T", " ")
        words = [one["id"], one["name"], one["role"], places, _state(one), used, one["owner"]]
        rows.append([safe(word) for word in words])
    print("\n".join(table(rows)))


@app.command()
def revoke(token: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make a token worthless, at once and for good.

    Example: plue --context prod token revoke 5f0c8f3e1a2b
    """
    from urllib.parse import quote

    _in_a_cluster()
    with server() as api:
        gone = api.delete(f"/tokens/{quote(token, safe='')}")
    print(f"{gone['name']} ({gone['id']}) is revoked")


def audit(
    *,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Only of this namespace.")
    ] = None,
    everywhere: Everywhere = False,
    who: Annotated[str | None, typer.Option(help="Only what this caller did.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as run.cancel.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="The last 2h, 7d …")] = None,
    limit: Annotated[int, typer.Option("-L", "--limit", min=1, max=200, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show who changed what in a cluster over the API, newest first.

    What was changed by kubectl is in the cluster's own audit log.

    Examples:
      plue --context prod audit -n team-a --since 7d

      plue --context prod audit -A --action token.create --json

    """
    from datetime import timedelta

    from plue.cli.text import safe, table

    _in_a_cluster()
    begin = None
    if since is not None:
        begin = (datetime.now(UTC) - timedelta(seconds=_seconds(since))).isoformat()
    with server() as api:
        place = None if everywhere else namespace_of(namespace)
        entries = api.get(
            "/audit", namespace=place, who=who, action=action, since=begin, limit=limit
        )["entries"]
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    if not entries:
        print("nothing was changed")
        return
    rows = [["TIME", "WHO", "FROM", "ACTION", "NAMESPACE", "TARGET", "ANSWER"]]
    rows += [[safe(word) for word in _entry(one)] for one in entries]
    print("\n".join(table(rows)))


def _entry(one: Mapping[str, Any]) -> list[str]:
    answer = "none" if one["status"] is None else str(one["status"])
    time = one["at"][:19].replace("T", " ")
    place = one["namespace"] or "-"
    return [time, one["who"], one["address"], one["action"], place, one["target"], answer]


def _state(token: Mapping[str, Any]) -> str:
    if token["revoked_at"] is not None:
        return "revoked"
    expires = datetime.fromisoformat(token["expires_at"])
    if expires <= datetime.now(UTC):
        return "expired"
    return f"until {expires:%Y-%m-%d}"


def _seconds(text: str) -> int:
    """Return a time such as 12h or 90d in seconds. Raises UsageError."""
    from plue.cli.workflows import parse_duration

    return int(parse_duration(text))
