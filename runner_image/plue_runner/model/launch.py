"""Calls one function of a repository's tool file: a whole program, read as text by the runner.

It runs with the python3 that the run's commands have, which knows nothing of Plue, so this uses the
standard library only. ``launch.py SOURCE NAME FUNCTION RESULT``: the arguments' JSON is standard
input; RESULT is written as ``{"ok": ..., "text": ...}``, text null when the function gave nothing.
"""

import json
import linecache
import os
import sys
import traceback
import types


def tool(function=None, **_options):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN003, ANN201
    """Stand in for `plue.tool`: the marks were read by who planned the run."""
    return function if function is not None else lambda marked: marked


def told(value: object) -> "str | None":
    """Return what the model is told of a function's result."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def failed(error: BaseException, name: str) -> str:
    """Return an error with the frames of the tool's own file."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
    where = "".join(traceback.format_list(frames))
    said = "".join(traceback.format_exception_only(type(error), error))
    return f"{said}{where}".rstrip()


def main() -> None:
    """Call the function and write what came of it."""
    source, name, function, result = sys.argv[1:]
    arguments = json.load(sys.stdin)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    with open(source, encoding="utf-8") as file:  # noqa: PTH123 - any Python 3
        text = file.read()
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    plue = types.ModuleType("plue")
    plue.tool = tool  # type: ignore[attr-defined]
    sys.modules["plue"] = plue
    module = types.ModuleType("plue_tools")
    module.__file__ = name
    sys.modules["plue_tools"] = module
    sys.path[0] = os.getcwd()  # noqa: PTH109
    try:
        exec(compile(text, name, "exec"), module.__dict__)  # noqa: S102 - the repository's own code
        answer = {"ok": True, "text": told(getattr(module, function)(**arguments))}
    except Exception as error:  # noqa: BLE001 - all of them are told
        answer = {"ok": False, "text": failed(error, name)}
    sys.stdout.flush()
    with open(result, "w", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        json.dump(answer, file)


if __name__ == "__main__":
    main()
