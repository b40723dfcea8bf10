"""The load of the fault harness: every kind of run there is.

Each step writes to a side journal when it begins, goes on and ends, so that what was executed is
seen from outside of Plue. A line is one write with O_APPEND: the file's order is the true order.
`salt` makes every run's plan a fresh evaluation.
"""

from plue import manual, workflow

SAID = '"$PLUE_RUN_ID $PLUE_ATTEMPT $PLUE_STEP $PLUE_TRY $$'
BEGIN = "said() { echo " + SAID + ' $1" >> "$FAULTS_JOURNAL"; }; said begin\n'
END = "\nsaid end"
TICKS = 'for i in $(seq "$TICKS"); do said tick; echo "tick $i"; sleep 0.1; done'

ANY = [manual(inputs={"salt": 0})]
TICKING = [manual(inputs={"salt": 0, "ticks": 20})]


@workflow(triggers=ANY, attempts=4)
def short(ctx):
    """Two quick steps, of which one reads the other's output."""
    one = ctx.run("one", BEGIN + 'echo "value=from one" >> "$PLUE_OUTPUT"; echo one' + END)
    ctx.run("two", BEGIN + 'echo "$GIVEN"' + END, env={"GIVEN": one.outputs.value})
    return ctx.success(value=one.outputs.value)


@workflow(triggers=TICKING, attempts=6)
def long(ctx):
    """A step that goes on for seconds, between two quick ones."""
    ctx.run("before", BEGIN + "echo before" + END)
    ctx.run("ticking", BEGIN + TICKS + END, env={"TICKS": str(ctx.inputs.ticks)})
    ctx.run("after", BEGIN + "echo after" + END)


@workflow(triggers=TICKING)
def fragile(ctx):
    """As long, but a lost runner ends it."""
    ctx.run("ticking", BEGIN + TICKS + END, env={"TICKS": str(ctx.inputs.ticks)})


@workflow(triggers=TICKING, attempts=4)
def deploy(ctx):
    """A step that must never be begun twice, whatever happens to its runner."""
    ctx.run("build", BEGIN + "echo built" + END)
    ctx.run("once", BEGIN + TICKS + END, env={"TICKS": str(ctx.inputs.ticks)}, once=True)
    ctx.run("after", BEGIN + "echo deployed" + END)


@workflow(triggers=ANY, attempts=4)
def chatty(ctx):
    """Thousands of lines on both streams, faster than anybody reads them."""
    script = """
    for part in $(seq 20); do
      seq -f "out $part line %05g of a chatty step" 200
      seq -f "err $part line %05g" 20 >&2
      sleep 0.03
    done
    """
    ctx.run("talk", BEGIN + script + END)


@workflow(triggers=ANY, attempts=4)
def failing(ctx):
    """Fails in its second step; what depends on it is skipped, clean-up happens."""
    ctx.run("good", BEGIN + "echo good" + END)
    ctx.cleanup("sweep", BEGIN + "echo swept" + END)
    ctx.run("bad", BEGIN + "echo about to fail; said end; exit 3")
    ctx.run("never", BEGIN + "echo never" + END)


@workflow(triggers=TICKING, attempts=4, cleanup_timeout="5s")
def cancelled(ctx):
    """Goes on until it is cancelled, and cleans up."""
    ctx.run("before", BEGIN + "echo before" + END)
    ctx.cleanup("sweep", BEGIN + "echo swept" + END)
    ctx.run("ticking", BEGIN + TICKS + END, env={"TICKS": str(ctx.inputs.ticks)})


@workflow(triggers=TICKING, attempts=4, timeout="3s", cleanup_timeout="5s")
def timed_out(ctx):
    """Takes longer than its run may."""
    ctx.cleanup("sweep", BEGIN + "echo swept" + END)
    ctx.run("ticking", BEGIN + TICKS + END, env={"TICKS": str(ctx.inputs.ticks)})


@workflow(triggers=ANY, attempts=4)
def step_timeout(ctx):
    """A step that takes longer than it may, hidden from nobody."""
    ctx.run("slow", BEGIN + "sleep 30" + END, timeout="0.7s", continue_on_error=True)
    ctx.run("after", BEGIN + "echo after" + END)


@workflow(triggers=TICKING, attempts=4)
def parallel(ctx):
    """Branches beside each other, and a step that waits for all."""
    ctx.parallel(
        [
            ctx.run("left", BEGIN + "echo left" + END),
            ctx.run("middle", BEGIN + TICKS + END, env={"TICKS": str(ctx.inputs.ticks)}),
            ctx.run("right", BEGIN + "sleep 0.3; echo right" + END),
        ]
    )
    ctx.run("join", BEGIN + "echo joined" + END)


@workflow(triggers=ANY, attempts=4)
def retrying(ctx):
    """Fails twice and then succeeds."""
    ctx.run("flaky", BEGIN + 'echo "try $PLUE_TRY"; said end; test "$PLUE_TRY" = 3', retry=3)


@workflow(triggers=TICKING, attempts=4, cleanup_timeout="5s")
def stubborn(ctx):
    """Ignores TERM and leaves processes that left their group behind."""
    script = """
    trap "" TERM
    (setsid bash -c 'trap "" TERM; while :; do sleep 0.2; done' > /dev/null 2>&1 &)
    """
    ctx.run("stays", BEGIN + script + TICKS + END, env={"TICKS": str(ctx.inputs.ticks)})


@workflow(triggers=ANY, attempts=4)
def staged(ctx):
    """Asks for values: the plan grows twice while the run goes on."""
    count = ctx.run("count", BEGIN + "echo 3" + END)
    for number in range(int(count.stdout)):
        ctx.run(f"part-{number}", BEGIN + "echo part; sleep 0.1" + END)
    last = ctx.run("last", BEGIN + "echo green" + END)
    if last.stdout == "green":
        ctx.run("finish", BEGIN + "echo finished" + END)


@workflow(triggers=[manual(inputs={"salt": 0, "lines": 1000})], timeout="1h")
def flood(ctx):
    """Prints as many numbered lines as it is told, as fast as it can."""
    pad = "of a flood that fills whatever there is to be filled and then goes on"
    script = f'seq -f "line %010.0f {pad}" "$LINES"'
    ctx.run("flood", BEGIN + script + END, env={"LINES": str(ctx.inputs.lines)})
