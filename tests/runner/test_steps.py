"""How steps run, with real processes: order, environment, values, ends."""

import json
from pathlib import Path

import pytest
from runner.conftest import Run
from runner.scripted import Answer, ScriptedGateway, a_plan, an_assignment, argv, lit, sh
from typing_extensions import override

from plue.wire.events import EventType, Reason, RunState
from plue.wire.frames import Limits, Workspace
from plue.wire.plan import Data, End, Fail, Ref, Shell, Step, Text


def _ref(step: str, field: str, *path: str | int, **more: object) -> Text:
    return (Ref(ref=step, field=field, path=path, **more),)  # type: ignore[arg-type]


def _end(gateway: ScriptedGateway) -> tuple[RunState, Reason]:
    assert gateway.finished is not None
    return gateway.finished.state, gateway.finished.reason


async def test_run_executes_steps_in_order_and_finishes(run: Run) -> None:
    """A run of two steps gives start, output and completion of each, in order, and an end."""
    first = sh("one", "echo hello")
    second = sh("two", "echo there >&2", needs=("one",))
    gateway = await run(ScriptedGateway(an_assignment(first, second)))
    assert _end(gateway) == (RunState.SUCCEEDED, Reason.SUCCEEDED)
    assert [(event.type, event.step) for event in gateway.events] == [
        (EventType.STEP_STARTED, "one"),
        (EventType.STEP_OUTPUT, "one"),
        (EventType.STEP_COMPLETED, "one"),
        (EventType.STEP_STARTED, "two"),
        (EventType.STEP_OUTPUT, "two"),
        (EventType.STEP_COMPLETED, "two"),
    ]
    assert gateway.text("one", "stdout") == "hello\n"
    assert [type(frame).__name__ for frame in gateway.frames] == ["Hello", "Accepted", "Finished"]
    assert gateway.text("two", "stderr") == "there\n"
    completed = gateway.completed("one")
    assert completed.pop("duration_ms") in range(10_000)
    expected = {"attempt": 1, "state": "succeeded", "exit_code": 0, "tries": 1}
    assert expected == completed


async def test_steps_run_side_by_side_where_the_plan_allows(run: Run) -> None:
    """Two steps that wait for one another can only both end if they run at the same time."""
    gateway = await run(
        ScriptedGateway(
            an_assignment(
                sh("pipes", "mkfifo a b"),
                sh("left", "echo x > a; read y < b", needs=("pipes",)),
                sh("right", "read y < a; echo x > b", needs=("pipes",)),
            )
        )
    )
    assert _end(gateway) == (RunState.SUCCEEDED, Reason.SUCCEEDED)


async def test_step_sees_its_environment_and_nothing_of_the_runners(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables come from host, server, workflow, holes and step; the later one wins."""
    monkeypatch.setenv("FROM_HOST", "host")
    monkeypatch.setenv("PLUE_INTERNAL", "the runner's own")
    monkeypatch.setenv("WON", "host")
    step = sh(
        "env",
        "env; pwd; cat; cat $PLUE_EVENT_PATH",
        holes={"PLUE_V1": (Data(data="$(danger) 'x'"),)},
        env={"WON": lit("step"), "PLUE_STEP": lit("wrong")},
    )
    gateway = await run(
        ScriptedGateway(
            an_assignment(
                step,
                env={"WON": lit("workflow"), "FROM_WORKFLOW": lit("w")},
                variables={"PLUE_RUN_ID": "r", "WON": "server"},
                event={"ref": "main"},
            )
        )
    )
    lines = gateway.text("env").splitlines()
    shown = dict(line.split("=", 1) for line in lines if "=" in line)
    expected = {
        "FROM_HOST": "host",
        "FROM_WORKFLOW": "w",
        "WON": "step",
        "PLUE_RUN_ID": "r",
        "PLUE_V1": "$(danger) 'x'",
        "PLUE_STEP": "env",
        "PLUE_ATTEMPT": "1",
        "CI": "true",
    }
    assert expected == {key: shown[key] for key in expected}
    assert "PLUE_INTERNAL" not in shown
    assert shown["PLUE_WORKSPACE"] in lines
    assert not shown["TMPDIR"].startswith(shown["PLUE_WORKSPACE"])
    assert lines[-1] == '{"ref":"main"}'


async def test_values_flow_from_step_to_step(run: Run) -> None:
    """stdout, outputs, exit codes and tails reach variables, words, standard input and folders."""
    big = "x" * 5_000_000
    make = sh(
        "make",
        'mkdir -p "sub dir"; echo "sub dir"; echo err >&2\n'
        'echo version=1.2 >> "$PLUE_OUTPUT"; printf "n<<E\\na\\nb\\nE\\n" >> "$PLUE_OUTPUT"',
    )
    typed = sh("typed", """echo '{"n": 3, "o": {"a": ["x"]}}'""", output_schema={"type": "object"})
    fails = sh("fails", "echo partly=1 >> $PLUE_OUTPUT; exit 3", continue_on_error=True)
    use = sh(
        "use",
        'pwd; echo "$V/$N/$T/$A/$X/$P/$L/$D"; wc -c',
        stdin=(Data(data=big),),
        needs=("make", "typed", "fails"),
        cwd=_ref("make", "stdout"),
        env={
            "V": _ref("make", "outputs", "version"),
            "N": _ref("make", "outputs", "n"),
            "T": _ref("typed", "outputs", "n"),
            "A": _ref("typed", "outputs", "o"),
            "X": _ref("fails", "exit_code"),
            "P": _ref("fails", "outputs", "partly"),
            "L": _ref("make", "log", tail=1),
            "D": _ref("make", "outputs", "none", default="dflt"),
        },
    )
    printf = (lit("printf"), lit("%s|"), _ref("make", "outputs", "n"), lit("c d"))
    words = Step(name="words", action=Shell(argv=printf), needs=("use",))
    plan = a_plan(
        make,
        typed,
        fails,
        use,
        words,
        end=End(outputs={"v": _ref("make", "outputs", "version"), "j": {"value": [1, None]}}),
    )
    gateway = await run(ScriptedGateway(an_assignment(plan=plan)))
    pwd, *rest = gateway.text("use").splitlines()
    assert pwd.endswith("/workspace/sub dir")
    assert rest == ["1.2/a", 'b/3/{"a":["x"]}/3/1/err/dflt', "5000000"]
    assert gateway.text("words") == "a\nb|c d|"
    assert gateway.completed("make")["outputs"] == {"version": "1.2", "n": "a\nb"}
    assert gateway.finished is not None
    assert gateway.finished.outputs == {"v": "1.2", "j": [1, None]}
    assert _end(gateway) == (RunState.SUCCEEDED, Reason.SUCCEEDED)


STOPPED = [
    pytest.param(sh("x", "exit 7"), "ExitCode", "exit code 7", 1, id="exit-code"),
    pytest.param(sh("x", "kill -9 $$"), "Signal", "SIGKILL", 1, id="signal"),
    pytest.param(argv("x", "no-such-program"), "CannotStart", "'no-such-program'", 0, id="program"),
    pytest.param(sh("x", ":", using="no-shell"), "CannotStart", "shell 'no-shell'", 0, id="shell"),
    pytest.param(argv("x", "/etc/passwd"), "CannotStart", "chmod", 0, id="not-executable"),
    pytest.param(argv("x"), "CannotStart", "empty", 0, id="no-words"),
    pytest.param(sh("x", ":", cwd=lit("no/dir")), "CannotStart", "'no/dir'", 0, id="folder"),
    pytest.param(sh("x", ":", env={"A=B": lit("")}), "CannotStart", "variable", 0, id="bad-name"),
    pytest.param(
        sh("x", ":", env={"A": (Data(data="x" * 98_305),)}), "ValueTooLarge", "stdin=", 0, id="env"
    ),
    pytest.param(
        argv("x", "echo", "é" * 50_000), "ValueTooLarge", "word 2", 0, id="argument-too-large"
    ),
    pytest.param(
        argv("x", "echo", *["x" * 90_000] * 40), "ValueTooLarge", "together", 0, id="all-too-large"
    ),
    pytest.param(
        sh("x", ":", env={"A": _ref("first", "outputs", "nope")}),
        "MissingValue",
        "nope=",
        0,
        id="missing",
    ),
    pytest.param(
        sh("x", ":", env={"A": _ref("first", "stdout")}), "OutputTooLarge", "tail", 0, id="stdout"
    ),
    pytest.param(sh("x", "echo a b >> $PLUE_OUTPUT"), "InvalidOutput", "line 1", 1, id="output"),
    pytest.param(
        sh("x", "head -c 300000 /dev/zero | tr '\\0' x | sed s/^/a=/ >> $PLUE_OUTPUT"),
        "OutputTooLarge",
        "'a'",
        1,
        id="output-too-large",
    ),
    pytest.param(
        sh("x", "echo {}", output_schema={"type": "object", "required": ["v"]}),
        "InvalidOutput",
        "output.v is missing",
        1,
        id="schema",
    ),
    pytest.param(sh("x", "sleep 60", timeout_seconds=0.2), "StepTimeout", "0.2 s", 1, id="timeout"),
    pytest.param(
        sh("x", "echo x; sleep 60", idle_timeout_seconds=0.2), "IdleTimeout", "0.2", 1, id="idle"
    ),
]


async def test_every_way_to_fail_is_named_and_explained(run: Run) -> None:
    """A failing step says its reason and what to do; what could not start has no tries."""
    first = sh("first", "head -c 1048577 /dev/zero | tr '\\0' x")
    steps = [
        case.values[0].model_copy(update={"name": case.id, "needs": ("first",)}) for case in STOPPED
    ]
    gateway = await run(ScriptedGateway(an_assignment(first, *steps)))
    for case in STOPPED:
        _, reason, said, tries, *_ = case.values
        body = gateway.completed(str(case.id))
        assert ("failed", reason, tries) == (body["state"], body["reason"], body["tries"])
        assert str(said) in str(body["message"])
    assert _end(gateway) == (RunState.FAILED, Reason.STEP_FAILED)
    assert gateway.finished is not None
    assert f"(and {len(STOPPED) - 1} more)" in str(gateway.finished.message)


async def test_failed_step_shows_the_end_of_its_output(run: Run) -> None:
    """``tail`` has the last twenty lines, at most 4 KiB."""
    gateway = await run(
        ScriptedGateway(
            an_assignment(
                sh("lines", "seq 100; exit 1"),
                sh("long", "head -c 10000 /dev/zero | tr '\\0' x; exit 1"),
            )
        )
    )
    assert [str(n) for n in range(81, 101)] == str(gateway.completed("lines")["tail"]).split("\n")
    assert gateway.completed("long")["tail"] == "x" * 4096


async def test_retry_counts_the_last_try_and_keeps_the_workspace(run: Run) -> None:
    """``retry=2`` is three tries at most; outputs are emptied, the workspace is kept."""
    flaky = sh(
        "flaky",
        'echo "n=$(cat n 2>/dev/null)x" | tee -a $PLUE_OUTPUT; echo "$(cat n)x" > n\n'
        '[ "$(cat n)" = xxx ]',
        retry=5,
    )
    never = sh("never", "echo no; rm -f $PLUE_OUTPUT; mkfifo $PLUE_OUTPUT; exit 4", retry=2)
    gateway = await run(ScriptedGateway(an_assignment(flaky, never)))
    body = gateway.completed("flaky")
    assert (body["state"], body["tries"], body["outputs"]) == ("succeeded", 3, {"n": "xxx"})
    assert (
        gateway.completed("never")["state"],
        gateway.completed("never")["tries"],
    ) == ("failed", 3)
    starts = gateway.of(EventType.STEP_STARTED, "never")
    assert [event.body["try"] for event in starts] == [1, 2, 3]
    outputs = gateway.of(EventType.STEP_OUTPUT, "never")
    assert [(e.body["try"], e.body["line"]) for e in outputs] == [(1, 1), (2, 1), (3, 1)]


async def test_workflow_failure_renders_its_reason_after_its_steps(run: Run) -> None:
    """``ctx.fail`` ends the run as FailedByWorkflow with the reason's references resolved."""
    plan = a_plan(
        sh("check", "echo 3 errors"),
        fails=(Fail(reason=(*lit("found "), *_ref("check", "stdout")), needs=("check",)),),
    )
    gateway = await run(ScriptedGateway(an_assignment(plan=plan)))
    assert _end(gateway) == (RunState.FAILED, Reason.FAILED_BY_WORKFLOW)
    assert gateway.finished is not None
    assert gateway.finished.message == "found 3 errors"


async def test_failure_skips_what_depends_on_it_and_runs_cleanup(run: Run) -> None:
    """Skipped steps are recorded with their reason; clean-up runs last, newest first."""
    gateway = await run(
        ScriptedGateway(
            an_assignment(
                sh("up", "echo up >> log"),
                sh("down", "echo down >> log; cat log", needs=("up",), cleanup=True),
                sh("also", "echo also >> log", needs=("up",), cleanup=True),
                sh("test", "exit 1", needs=("up",)),
                sh("later", ":", needs=("test",)),
                sh("not", ":", needs=("later",), cleanup=True),
                sh("handler", "echo handled >> log", needs=("test",), when="failure"),
            )
        )
    )
    assert gateway.text("down") == "up\nhandled\nalso\ndown\n"
    later = gateway.completed("later")
    assert (later["state"], later["reason"], later["tries"]) == ("skipped", "DependencyFailed", 0)
    assert gateway.completed("not")["state"] == "skipped"
    assert _end(gateway) == (RunState.FAILED, Reason.STEP_FAILED)


async def test_unsupported_and_invalid_plans_end_with_a_message(run: Run) -> None:
    """What this runner cannot do ends the run at once, and says what it was."""
    endless = a_plan(end=None)
    gateway = await run(ScriptedGateway(an_assignment(plan=endless)))
    assert _end(gateway) == (RunState.FAILED, Reason.INVALID_PLAN)
    circle = an_assignment(sh("a", ":", needs=("a",)))
    gateway = await run(ScriptedGateway(circle))
    assert _end(gateway) == (RunState.FAILED, Reason.INVALID_PLAN)
    assert gateway.events == []


async def test_action_of_a_newer_server_ends_the_run_as_unsupported(run: Run) -> None:
    """A plan with a step that the runner does not know is refused by message, not by silence."""

    class Newer(ScriptedGateway):
        @override
        def encoded(self, frame: Answer) -> str:
            raw = json.loads(super().encoded(frame))
            if raw["type"] == "assign":
                raw["assignment"]["plan"]["steps"][0]["action"] = {"kind": "llm", "prompt": "x"}
            return json.dumps(raw)

    gateway = await run(Newer(an_assignment(sh("a", ":"))))
    assert _end(gateway) == (RunState.FAILED, Reason.UNSUPPORTED)
    assert gateway.finished is not None
    assert "llm" in str(gateway.finished.message)


async def test_secrets_are_masked_in_all_that_leaves(run: Run) -> None:
    """Output, outputs, commands and the run's outputs carry no secret, whole or in pieces."""
    script = (
        "printf hun; sleep 0.1; printf 'ter2\\n'; printf hunter2 | base64\n"
        'echo v=hunter2 >> $PLUE_OUTPUT; echo "$V" | wc -c; exit 1'
    )
    plan = a_plan(
        sh("say", script, continue_on_error=True),
        sh("use", 'echo "$V"', env={"V": _ref("say", "outputs", "v")}, needs=("say",)),
        end=End(outputs={"o": _ref("say", "stdout"), "s": {"value": "my hunter2"}}),
    )
    # A secret that is a word of the protocol must not break the protocol.
    secrets = {"A": "hunter2", "B": "failed"}
    gateway = await run(ScriptedGateway(an_assignment(plan=plan, secrets=secrets)))
    everything = json.dumps([e.model_dump(mode="json") for e in gateway.events])
    assert gateway.finished is not None
    everything += gateway.finished.model_dump_json()
    assert "hunter2" not in everything
    assert "aHVudGVy" not in everything
    assert gateway.text("say").startswith("***\n***")
    assert gateway.text("use") == "***\n"
    assert gateway.completed("say")["state"] == "failed"


async def test_in_place_workspace_is_used_and_left_alone(run: Run, tmp_path: Path) -> None:
    """A run in place sees and changes the tree itself; nothing of it is removed."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.txt").write_text("mine")
    where = Workspace(kind="in_place", path=str(tree))
    gateway = await run(
        ScriptedGateway(an_assignment(sh("see", "cat a.txt; echo new > b.txt"), workspace=where))
    )
    assert gateway.text("see") == "mine"
    assert {"a.txt", "b.txt"} == {file.name for file in tree.iterdir()}
    assert not (tmp_path / "home0").exists()
    gone = an_assignment(sh("a", ":"), workspace=Workspace(kind="in_place", path="/no/such"))
    gateway = await run(ScriptedGateway(gone))
    assert _end(gateway) == (RunState.FAILED, Reason.WORKSPACE_FAILED)


async def test_cleanup_is_killed_when_its_time_is_over(run: Run) -> None:
    """All of clean-up together has ``cleanup_seconds``; then the rest does not start."""
    gateway = await run(
        ScriptedGateway(
            an_assignment(
                sh("a", ":"),
                sh("never", ":", cleanup=True),
                sh("slow", "trap '' TERM; sleep 60", cleanup=True),
                limits=Limits(cleanup_seconds=0.3),
            )
        )
    )
    slow, never = gateway.completed("slow"), gateway.completed("never")
    assert (slow["state"], slow["reason"]) == ("failed", "StepTimeout")
    assert (never["state"], never["reason"]) == ("cancelled", "StepTimeout")
    assert _end(gateway) == (RunState.FAILED, Reason.STEP_FAILED)
