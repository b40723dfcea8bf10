"""Runs from a command line: what they print, what they leave, how they end."""

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from e2e.stage import Done, Project, Said, Up, eventually, living

GRACE = 10.0
HOSTILE = "$(touch pwned) `id` \"x\" 'y' ; rm -rf / && * \\ !! ~ # é\ttab\n-n $HOME ${X:?} %s"


def run_name(done: Done) -> str:
    """Return the name of the run that `plue workflow run` has shown."""
    return done.stdout.split(maxsplit=1)[0]


def lines_of(up: Up, run: str, step: str) -> str:
    """Return the output of a step."""
    with up.request(f"/runs/{run}/logs?step={step}") as answer:
        text: str = answer.read().decode()
    return text


def test_a_run_is_shown_in_plain_lines_to_a_pipe(project: Project) -> None:
    """Steps and output as they come, then the summary with outputs and how to see it again."""
    done = project.plue("workflow", "run", "ci")
    assert done.returncode == 0, done.stderr
    name = run_name(done)
    lines = done.stdout.split("\n")
    assert lines[:3] == [
        f"{name} queued",
        f"{name} started",
        "build  > started: echo building; echo version=1.2.3 >> $PLUE_OUTPUT",
    ]
    assert "lint   | lint fine" in lines
    assert "report | version is 1.2.3" in lines
    assert lines.index("unit   | unit fine") < lines.index("report | version is 1.2.3")
    assert "  version  1.2.3" in lines
    assert f"see it again: plue run view {name}" in lines
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_machines_get_the_events(project: Project) -> None:
    """One JSON object a line, numbered without gaps; view and list are JSON too."""
    done = project.plue("workflow", "run", "ci", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "run_queued"
    assert events[-1]["type"] == "run_completed"
    detail = project.json("run", "view", events[0]["run"])
    assert detail["state"] == "succeeded"
    assert detail["outputs"] == {"version": "1.2.3"}
    assert {step["name"]: step["state"] for step in detail["steps"]} == dict.fromkeys(
        ("build", "unit", "lint", "report"), "succeeded"
    )
    (row,) = project.json("run", "list", "-L", "1")
    assert row["id"] == detail["id"]
    watched = project.plue("run", "watch", detail["name"], "--json")
    assert watched.stdout == done.stdout
    assert watched.returncode == 0


def test_the_list_shows_full_rows(project: Project) -> None:
    """Name, state, trigger, age, duration and reason, and only what is asked for."""
    failed = run_name(project.plue("workflow", "run", "failing"))
    head, *rows = project.plue("run", "list").stdout.splitlines()
    assert head.split() == ["RUN", "STATE", "TRIGGER", "AGE", "TOOK", "REASON"]
    row = rows[0].split()
    assert row[:3] == [failed, "failed", "manual"]
    assert row[-1] == "StepFailed"
    assert row[4] == row[6] == "s"
    only = project.json("run", "list", "-w", "failing", "-s", "failed")
    assert {run["workflow"] for run in only} == {"failing"}
    assert project.json("run", "list", "-w", "failing", "-s", "succeeded") == []


def test_a_failing_step_is_the_exit_code_and_its_last_lines_are_shown(project: Project) -> None:
    """What depends on it is skipped, the summary has its last 20 lines, both streams."""
    done = project.plue("workflow", "run", "failing")
    assert done.returncode == 1
    summary = done.stdout[done.stdout.index("\n\n") :]
    assert "'bad' failed: exit code 3 (StepFailed)" in summary
    assert "      line 30\n" in summary
    assert "      the reason\n" in summary
    assert "line 11\n" not in summary
    assert "skipped: 'bad' failed (DependencyFailed)" in summary
    viewed = project.plue("run", "view", run_name(done))
    assert viewed.returncode == 0
    assert "      line 30\n" in viewed.stdout


def test_inputs_and_the_event_reach_the_steps(up: Up, project: Project) -> None:
    """Typed by the workflow, from words, files and JSON."""
    notes = project.root / "notes.txt"
    notes.write_text("two\nlines")
    event = {"actor": "$(id) o'neil", "ref": "refs/heads/x; y"}
    words = ["-i", "env=production", "-i", "count=007", "-i", f"notes=@{notes}"]
    words += ["-i", "tags=a", "-i", "tags=b", "--event-file", json.dumps(event)]
    done = project.plue("workflow", "run", "deploy", *words)
    notes.unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    name = run_name(done)
    assert lines_of(up, name, "say") == "env=production count=7\n"
    assert lines_of(up, name, "notes") == "notes=two\nlines\n"
    assert lines_of(up, name, "who") == f"who={event['actor']} ref={event['ref']}\n"
    detail = up.get(f"/runs/{name}")
    assert detail["inputs"] == {
        "env": "production",
        "count": 7,
        "notes": "two\nlines",
        "tags": ["a", "b"],
    }
    assert detail["event"] == {
        "kind": "manual",
        "branch": "x; y",
        "repository": {"name": "repo"},
        **event,
    }


def test_shell_metacharacters_stay_text(up: Up, project: Project) -> None:
    """In a command, inside quotes of both kinds, as a word and as a variable: the same text."""
    done = project.plue("workflow", "run", "echo", "-i", f"text={HOSTILE}")
    assert done.returncode == 0, done.stdout + done.stderr
    name = run_name(done)
    for step, expected in {
        "say": HOSTILE,
        "list": HOSTILE,
        "quoted": f"<{HOSTILE}><{HOSTILE}>",
        "env": HOSTILE,
    }.items():
        assert lines_of(up, name, step).removesuffix("\n") == expected
    assert up.get(f"/runs/{name}")["outputs"] == {"text": HOSTILE}


def test_output_of_fifty_megabytes_on_both_streams_comes_whole(project: Project) -> None:
    """Every line of each stream is there, once and in order; the run ends."""
    watched = project.plue("workflow", "run", "loud", "--json", patience=100)
    assert watched.returncode == 0, watched.stderr
    texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for line in watched.stdout.splitlines():
        event = json.loads(line)
        if event["type"] == "step_output":
            texts[event["body"]["stream"]].append(event["body"]["text"])
    for stream, letter in (("stdout", "o"), ("stderr", "e")):
        expected = "".join(f"{letter}{n:08}" + "." * 90 + "\n" for n in range(500_000))
        same = expected == "".join(texts[stream])
        assert same, stream


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────


def test_cancel_ends_a_sleep_and_its_children_within_the_grace_time(project: Project) -> None:
    """No process is left, clean-up has run, and who watches is told; the exit code is 130."""
    mark = uuid4().hex
    with project.started("workflow", "run", "sleepy", "-i", f"mark={mark}") as watching:
        said = Said(watching.stdout)
        name = said.until("queued").split()[0]
        said.until("sleep | asleep")
        assert len(living(mark)) == 3
        done = project.plue("run", "cancel", name, "--reason", "enough")
        assert (done.returncode, done.stdout) == (0, f"{name} will end\n")
        assert watching.wait(GRACE) == 130
    eventually(lambda: not living(mark), "the sleeps have ended", 5)
    shown = said.rest()
    assert "tidy  | tidied" in shown
    assert "cancelled" in shown
    assert "enough" in shown
    again = project.plue("run", "cancel", name)
    assert (again.returncode, again.stdout) == (0, f"{name} has ended: cancelled\n")


def test_a_step_that_refuses_to_end_is_killed(project: Project) -> None:
    """TERM is ignored by all of it; `--now` does not wait for the grace time."""
    mark = uuid4().hex
    name = project.plue("workflow", "run", "stubborn", "-i", f"mark={mark}", "--detach")
    with project.started("run", "watch", name.stdout.strip()) as watching:
        said = Said(watching.stdout)
        said.until("stay | staying")
        project.plue("run", "cancel", name.stdout.strip(), "--now")
        assert watching.wait(GRACE) == 130
    eventually(lambda: not living(mark), "the sleeps have ended", 5)


def test_a_second_run_is_like_the_first(up: Up, project: Project) -> None:
    """`rerun` takes the same revision and inputs, and says whose run it is."""
    first = up.post("/runs", {"workflow": "echo", "inputs": {"text": "again"}})
    again = project.plue("run", "rerun", first["name"])
    assert again.returncode == 0, again.stderr
    detail = up.get(f"/runs/{run_name(again)}")
    assert detail["outputs"] == {"text": "again"}
    assert detail["rerun_of"] == first["id"]


def test_who_watches_leaves_and_the_run_goes_on(up: Up, project: Project) -> None:
    """Ctrl-C of `plue run watch` is not the run's."""
    name = project.plue("workflow", "run", "ticking", "--detach").stdout.strip()
    with project.started("run", "watch", name) as watching:
        Said(watching.stdout).until("tick 2")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
    assert up.get(f"/runs/{name}")["state"] == "running"
    up.post(f"/runs/{name}/cancel", {"now": True})


def test_the_reader_of_a_pipe_may_leave(up: Up, project: Project) -> None:
    """`plue run logs | head` ends without a traceback."""
    name = up.post("/runs", {"workflow": "ticking"})["name"]
    up.post(f"/runs/{name}/cancel", {"now": True})
    script = '"$@" | head -n 1; exit "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *project.words("run", "logs", name)],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in {0, 1}


# ── curl ─────────────────────────────────────────────────────────────────────────────────────────


def sse(answer: Any) -> Iterator[dict[str, str]]:
    """Yield server-sent events, comments left out."""
    fields: dict[str, str] = {}
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if not line:
            if fields:
                yield fields
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def test_a_stream_resumes_where_it_was_cut(up: Up, project: Project) -> None:
    """As `curl -N` would: with `Last-Event-ID` nothing comes twice and nothing is missing."""
    made = up.post("/runs", {"workflow": "ticking"})
    path = f"/runs/{made['id']}/events"
    accept = {"Accept": "text/event-stream"}
    got: list[dict[str, str]] = []
    while not got or got[-1]["event"] != "run_completed":
        more = {"Last-Event-ID": got[-1]["id"]} if got else {}
        with up.request(path, headers={**accept, **more}) as answer:
            for count, event in enumerate(sse(answer)):
                if "id" in event:
                    got.append(event)
                if count == 20:
                    break
        if len(got) > 30:
            project.plue("run", "cancel", made["name"], "--now")
    assert [int(event["id"]) for event in got] == list(range(1, len(got) + 1))
    with up.request(path, headers=accept) as answer:
        assert got == [event for event in sse(answer) if "id" in event]
