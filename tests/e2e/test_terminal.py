"""A person at a terminal: the live tree, Ctrl-C, and output that would steer the terminal."""

from uuid import uuid4

from e2e.stage import Project, eventually, living, on_a_terminal


def test_the_tree_is_live_and_ends_with_the_summary(project: Project) -> None:
    """Steps and their last output are painted while they run, and the cursor comes back."""
    with on_a_terminal(project, ["workflow", "run", "ticking"]) as terminal:
        terminal.until("ticks  running")
        terminal.until("tick 3")
        terminal.until("tick 9")
        assert "\x1b[?25l" in terminal.painted
        terminal.press("\x03")
        assert terminal.end() == 130
    painted = terminal.painted
    assert "cancelling; Ctrl-C again leaves" in painted
    assert "see it again: plue run view ticking-" in painted
    assert painted.rindex("\x1b[?25h") > painted.rindex("\x1b[?25l")


def test_ctrl_c_cancels_the_run_that_one_started(project: Project) -> None:
    """Its processes end, and the run's record says that it was cancelled."""
    mark = uuid4().hex
    with on_a_terminal(project, ["workflow", "run", "sleepy", "-i", f"mark={mark}"]) as terminal:
        terminal.until("    asleep")
        terminal.press("\x03")
        assert terminal.end(20) == 130
    eventually(lambda: not living(mark), "the sleeps have ended", 5)
    (run,) = project.json("run", "list", "-L", "1")
    assert (run["workflow"], run["state"], run["reason"]) == ("sleepy", "cancelled", "Cancelled")


def test_a_second_ctrl_c_leaves(project: Project) -> None:
    """Even when the step refuses to end."""
    mark = uuid4().hex
    with on_a_terminal(project, ["workflow", "run", "stubborn", "-i", f"mark={mark}"]) as terminal:
        terminal.until("    staying")
        terminal.press("\x03")
        terminal.until("cancelling")
        terminal.press("\x03")
        assert terminal.end(5) == 130
        assert "left; see plue run view stubborn-" in terminal.painted
    project.plue("run", "cancel", "latest", "--now")
    eventually(lambda: not living(mark), "the sleeps have ended", 10)


def test_nothing_that_a_step_prints_steers_the_terminal(project: Project) -> None:
    """Titles, clipboards, clearing: gone; the words stay, and colours in `logs` end with a line."""
    for words in (["workflow", "run", "steering"], ["run", "watch"], ["run", "view"]):
        with on_a_terminal(project, words) as terminal:
            terminal.end()
        assert "red end" in terminal.painted
        for sequence in ("\x1b]", "\x1b[2J", "\x1b[31mred"):
            assert sequence not in terminal.painted
    with on_a_terminal(project, ["run", "logs"]) as terminal:
        terminal.end()
    assert "\x1b[31mred\x1b[0m end\x1b[0m\r\n" in terminal.painted
    assert "\x1b]" not in terminal.painted
    # In a file the bytes stay.
    assert "\x1b]0;title\x07" in project.plue("run", "logs").stdout


def test_a_small_terminal_is_enough(project: Project) -> None:
    """Four lines of twenty columns: cropped, not torn."""
    with on_a_terminal(project, ["workflow", "run", "ci"], size=(4, 20)) as terminal:
        assert terminal.end() == 0
    assert "succeeded" in terminal.painted
