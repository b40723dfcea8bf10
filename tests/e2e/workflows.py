"""The workflow file of the end-to-end repository."""

__all__ = ["WORKFLOWS"]

WORKFLOWS = r'''
import textwrap
from plue import enum, manual, optional, push, workflow


@workflow(triggers=[push(), manual()])
def ci(ctx):
    """Build, test twice at once, report."""
    build = ctx.run("build", "echo building; echo version=1.2.3 >> $PLUE_OUTPUT")
    ctx.parallel([ctx.run("unit", "echo unit fine"), ctx.run("lint", "echo lint fine >&2")])
    ctx.run("report", f"echo version is {build.outputs.version}")
    return ctx.success(version=build.outputs.version)


@workflow(triggers=[manual(inputs={"env": enum("staging", "production"), "count": int, "notes": optional(str), "tags": optional(list(str))})])
def deploy(ctx):
    ctx.run("say", f"echo env={ctx.inputs.env} count={ctx.inputs.count}")
    ctx.run("notes", f"printf 'notes=%s\\n' {ctx.inputs.notes or ''}", when=ctx.inputs.notes is not None)
    ctx.run("who", f"printf 'who=%s ref=%s\\n' {ctx.event.actor} {ctx.event.ref}")


@workflow(triggers=[manual(inputs={"text": str})])
def echo(ctx):
    said = ctx.run("say", f"printf '%s' {ctx.inputs.text}")
    ctx.run("list", ["printf", "%s", said.stdout])
    ctx.run("quoted", f"""printf '%s' "<{said.stdout}>" '<{ctx.inputs.text}>'""")
    ctx.run("env", "printf '%s' \"$T\"", env={"T": ctx.inputs.text})
    return ctx.success(text=said.stdout)


@workflow
def failing(ctx):
    ctx.run("bad", "for i in $(seq 30); do echo line $i; done; echo the reason >&2; exit 3")
    ctx.run("never", "echo never")


@workflow(triggers=[manual(inputs={"mark": str})])
def sleepy(ctx):
    ctx.run("sleep", "echo asleep; sleep 600 & sleep 600", env={"MARK": ctx.inputs.mark})
    ctx.cleanup("tidy", "echo tidied")


@workflow(triggers=[manual(inputs={"mark": str})])
def stubborn(ctx):
    ctx.run("stay", "trap '' TERM INT; echo staying; sleep 600 & sleep 600", env={"MARK": ctx.inputs.mark})


@workflow(timeout="10m")
def loud(ctx):
    ctx.run("big", textwrap.dedent("""
        import sys, threading
        def write(file, letter):
            for start in range(0, 500_000, 1000):
                lines = (letter + str(n).zfill(8) + "." * 90 for n in range(start, start + 1000))
                file.write("".join(line + chr(10) for line in lines))
        one = threading.Thread(target=write, args=(sys.stdout, "o"))
        one.start(); write(sys.stderr, "e"); one.join()
    """), shell="python")


@workflow
def ticking(ctx):
    ctx.run("ticks", "for i in $(seq 60); do echo tick $i; sleep 0.1; done")


@workflow
def lost(ctx):
    ctx.run("nowhere", "echo never", cwd="no/such/folder", continue_on_error=True)
    ctx.run("nothing", ["no-such-program-anywhere", "x"], continue_on_error=True)
    ctx.run("denied", ["./.plue/workflows/ci.py"], continue_on_error=True)


@workflow(triggers=[manual(inputs={"until": str})])
def filling(ctx):
    ctx.run("fill", f"""
        head -c 1G /dev/zero > hog || echo full
        for i in $(seq 200); do echo line $i $(head -c 20000 /dev/zero | tr '\\0' x); done
        until [ -e {ctx.inputs.until} ]; do sleep 0.1; done
        rm hog; echo freed
    """)


@workflow
def steering(ctx):
    ctx.run("steer", r"printf '\033]0;title\007\033[2J\033[31mred\033[0m\033]52;c;Zm9v\007 end\n'; printf 'a\000b\377c\n'; exit 1")
'''
