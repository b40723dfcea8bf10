"""Steps that more than one workflow needs."""

TOOLS = {"shell": "sh -n", "text": "test -s"}


def checked(ctx, kind, files):
    """Check each file with the tool of its kind, all at the same time."""
    tool = TOOLS[kind]
    return ctx.parallel([ctx.run(name_of(kind, file), f"{tool} {file}") for file in files])


def name_of(kind, file):
    """Return a step's name for a file: names have no slash."""
    return f"{kind} {file.replace('/', ':')}"


def summary(ctx, title, lines):
    """Write a summary that the run's page shows last."""
    text = "\n".join([title, *(f"- {line}" for line in lines)])
    return ctx.run("summary", "cat", stdin=text)
