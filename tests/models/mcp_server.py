"""A small MCP server for tests: what it does wrong is told by its argument."""

import json
import os
import sys
import time
from pathlib import Path

HOW = sys.argv[1]
VERSION_META = "io.modelcontextprotocol/protocolVersion"


def schema(**properties: str) -> dict[str, object]:
    """Return an input schema."""
    return {"type": "object", "properties": {n: {"type": k} for n, k in properties.items()}}


TOOLS = [
    {"name": "echo", "description": "Say it again", "inputSchema": schema(text="string")},
    {"name": "env", "description": "Environment", "inputSchema": schema()},
    {"name": "hang", "inputSchema": schema()},
    {"name": "crash", "inputSchema": schema()},
    {"name": "huge", "inputSchema": schema()},
    {"name": "wrong.result", "inputSchema": schema()},
    {"name": "fails", "inputSchema": schema()},
    {"name": "raises", "inputSchema": schema()},
    {"name": "picture", "inputSchema": schema()},
    {"name": "bad-schema", "inputSchema": {"type": "string"}},
    {"name": "one-of", "inputSchema": {"type": "object", "oneOf": [{}]}},
    {"name": "field", "inputSchema": schema(größe="string")},
]


def send(message: dict[str, object]) -> None:
    """Say one line."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(said: str, **more: object) -> dict[str, object]:
    """Return a result of text."""
    return {"result": {"content": [{"type": "text", "text": said}], **more}}


def called(name: str, given: dict[str, str]) -> dict[str, object]:  # noqa: PLR0911 - a table
    """Return a tool's answer."""
    match name:
        case "echo":
            send({"id": "ours", "method": "ping"})
            return text(given["text"])
        case "env":
            here = sorted(path.name for path in Path().iterdir())
            return text(json.dumps(dict(os.environ) | {"cwd": here}))
        case "hang":
            time.sleep(600)
        case "crash":
            sys.stderr.write("I fall over\n")
            sys.stderr.flush()
            os._exit(7)
        case "huge":
            return text("x" * 5_000_000)
        case "wrong.result":
            return {"result": {"content": "text"}}
        case "fails":
            return text("no such ticket", isError=True)
        case "picture":
            blocks = [
                {"type": "image", "data": ""},
                {"type": "resource", "resource": {"text": "t"}},
            ]
            return {"result": {"content": blocks}}
    return {"error": {"code": -32000, "message": f"cannot {name}"}}


def answer(method: str, params: dict[str, object]) -> dict[str, object]:
    """Return what a request is answered with."""
    if method == "initialize":
        if HOW == "new":
            return {"error": {"code": -32022, "message": "no handshake", "data": {"supported": []}}}
        return {"result": {"protocolVersion": params["protocolVersion"], "capabilities": {}}}
    if HOW == "new":
        assert VERSION_META in params["_meta"]  # type: ignore[operator] # a mapping
    if method == "tools/list":
        if HOW == "bad-list":
            return {"result": {"tools": "none"}}
        if "cursor" in params:
            return {"result": {"tools": TOOLS[1:]}}
        return {"result": {"tools": TOOLS[:1], "nextCursor": "more"}}
    return called(str(params["name"]), params["arguments"])  # type: ignore[arg-type]


if HOW == "ends":
    sys.exit("cannot find the tickets")
if HOW == "silent":
    time.sleep(600)
sys.stdout.write("this line is no message\n")
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked and "method" in asked:
        send({"id": asked["id"], **answer(asked["method"], asked.get("params", {}))})
