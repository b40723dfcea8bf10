"""The provider's key is with the server alone: looked for in all that a run has, makes and leaves.

The server is the real one, with a key in its environment and a model server that answers nobody
without it; runners are those that it starts.
"""

import json
import re
from pathlib import Path
from typing import Any

import psutil
import psycopg
from e2e.stage import Project, Up
from keys import LOOKS, NOWHERE, backwards
from psycopg import sql

KEY = "sk-ant-a-key-that-only-the-server-has"
KNOWN = "a-word-that-is-known-to-be-there"
WORKFLOW = """
from plue import workflow
from plue.prompts import Look

@workflow()
def ci(ctx):
    ctx.run("plant", "printf %s $WORD > planted.txt", env={"WORD": "WORD_"})
    found = Look()
    return ctx.success(fine=found.fine)
""".replace("WORD_", KNOWN)
PROMPT = """---
name: look
type: agent
tools: [shell, read_file]
output:
  fine: boolean
---
Look around.
"""


def turns(*folders: str) -> dict[str, Any]:
    """Return the script of an agent that looks everywhere, by a command as steps have it."""
    looks = f'python3 look.py mine {backwards(KEY, KNOWN)} . "$TMPDIR" {" ".join(folders)}'
    command = f"export PLANTED=$(cat planted.txt)\n{looks}\nenv\nls -la"
    return {
        "conversations": [
            {
                "turns": [
                    {
                        "thinking": "It may be anywhere.",
                        "text": "I look.",
                        "tools": [{"name": "shell", "input": {"command": command}}],
                    },
                    {"tools": [{"name": "finish", "input": {"fine": True}}]},
                ]
            }
        ]
    }


def in_memory_of(pid: int, word: bytes) -> int:
    """Return how often *word* is in what a process holds, its environment included."""
    found = 0
    maps, memory = Path(f"/proc/{pid}/maps"), Path(f"/proc/{pid}/mem")
    with memory.open("rb", 0) as file:
        for line in maps.read_text().splitlines():
            span, rights, *_ = line.split()
            begin, end = (int(number, 16) for number in span.split("-"))
            if "r" not in rights or "[v" in line:
                continue
            try:
                file.seek(begin)
                found += file.read(end - begin).count(word)
            except OSError:
                continue
    return found


def rows_with(dsn: str, word: str) -> tuple[int, list[str]]:
    """Return how many rows there are in all tables, and the tables of which one has *word*."""
    found, rows = [], 0
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename)::text FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for (table,) in tables:
            query = sql.SQL("SELECT count(*), count(*) FILTER (WHERE t::text LIKE %s) FROM {} t")
            quoted = sql.SQL(table)
            counted = connection.execute(query.format(quoted), [f"%{word}%"]).fetchone()
            assert counted is not None
            rows += counted[0]
            found += [table] if counted[1] else []
    return rows, found


def test_the_key_is_with_the_server_alone(tmp_path: Path, postgres_dsn: str) -> None:
    """Not in a step's or runner's memory, environment and files; not in a row, event or log."""
    project = Project.make(tmp_path, {"ci.py": WORKFLOW})
    prompts = project.root / ".plue" / "prompts"
    prompts.mkdir()
    (prompts / "look.prompt.md").write_text(PROMPT)
    (project.root / "look.py").write_text(LOOKS)
    script = tmp_path / "turns.json"
    script.write_text(json.dumps(turns(str(project.data / "runners"))))
    with project.started("dev", "model-server", str(script), "--key", KEY) as models:
        assert models.stdout is not None
        _, _, address = models.stdout.readline().strip().partition("=")
        environment = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": address}
        with project.up("--runners", "2", "--database", postgres_dsn, **environment) as up:
            done = project.plue("workflow", "run", "ci")
            assert done.returncode == 0, done.stdout + done.stderr
            told = _told(up)
            server = up.process.pid
            others = [child.pid for child in psutil.Process(server).children(recursive=True)]
            # The evaluator and the runners that wait for the next run; the server is the proof.
            assert len(others) >= 3
            assert {pid: in_memory_of(pid, KEY.encode()) for pid in others} == dict.fromkeys(
                others, 0
            )
            assert in_memory_of(server, KEY.encode()) > 0
        said = up.said.rest() + up.complaints.rest()
    looked = json.loads(re.findall(r"LOOKED (\{.*?\}\})", told["log"])[0])
    assert looked["key"] == NOWHERE
    # It did look, and would have found it.
    assert min(looked["known"][place] for place in ("environ", "files", "memory")) > 0, looked
    assert looked["looked"]["memory"] > 0
    assert {place: KEY in text for place, text in told.items()} == dict.fromkeys(told, False)
    assert KNOWN in told["log"]
    assert "llm_token" in told["events"]
    assert KEY not in said + done.stdout + done.stderr
    rows, with_it = rows_with(postgres_dsn, KEY)
    assert (rows > 10, with_it) == (True, [])
    assert rows_with(postgres_dsn, KNOWN)[1]
    kept = [path for folder in (project.data, project.root) for path in folder.rglob("*")]
    files = [path for path in kept if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def _told(up: Up) -> dict[str, str]:
    """Return all that the API tells of the newest run, of the server and of usage."""
    paths = {
        "run": "/runs/latest",
        "plan": "/runs/latest/plan",
        "events": "/runs/latest/events?follow=false",
        "log": "/runs/latest/logs",
        "usage": "/runs/latest/usage",
        "budgets": "/runs/latest/budgets",
        "totals": "/usage",
        "server": "/info",
        "workflows": "/workflows",
    }
    told = {}
    for name, path in paths.items():
        with up.request(path) as answer:
            told[name] = answer.read().decode()
    return told
