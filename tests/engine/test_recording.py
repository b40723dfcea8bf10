"""What a tree declares is kept: each version of a workflow and of a prompt once, with source."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from plue.authoring.evaluator import Evaluator
from plue.engine.service import Engine
from plue.local.tree import Tree
from plue.store.blobs import Blobs
from plue.store.database import Database
from plue.store.migrations import migrate

WORKFLOW = """from plue import manual, workflow
from lib.names import NAME

@workflow(triggers=[manual()])
def ci(ctx):
    ctx.run("a", f"echo {NAME}")
"""
PROMPT = """---
inputs:
  diff: string
output:
  approved: boolean
---
Review {{ diff }} {{ output_schema }}
"""


@dataclass
class Kept:
    """A tree, an engine that offers it, and what its store has kept."""

    engine: Engine
    dsn: str
    root: Path

    def write(self, name: str, text: str) -> None:
        """Write a file under `.plue`."""
        path = self.root / ".plue" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def rows(self, columns: str, table: str) -> list[tuple[object, ...]]:
        """Return rows of a table, oldest first."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            statement = f"SELECT {columns} FROM {table} ORDER BY created_at, name"  # noqa: S608 - a test's
            return await (await connection.execute(statement.encode())).fetchall()

    async def age(self, days: int) -> None:
        """Let everything have been seen so long ago."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            for table in ("workflow_definitions", "prompt_definitions"):
                statement = f"UPDATE {table} SET seen_at = now() - interval '{days} days'"  # noqa: S608 - a test's
                await connection.execute(statement.encode())


@contextlib.asynccontextmanager
async def an_engine(dsn: str, root: Path) -> AsyncIterator[Engine]:
    """Give an engine that offers the tree at *root*; its passes do not run."""
    database, evaluator = await Database.open(dsn, connections=4), Evaluator()
    blobs = Blobs(root.parent / "blobs")
    try:
        yield Engine(
            database=database,
            evaluator=evaluator,
            blobs=blobs,
            repository=Tree(root, blobs=blobs),
        )
    finally:
        await evaluator.close()
        await database.close()


@pytest.fixture
async def kept(postgres_dsn: str, tmp_path: Path) -> AsyncGenerator[Kept, None]:
    """Make a project of a workflow, a module and a prompt."""
    await migrate(postgres_dsn)
    root = tmp_path / "project"
    async with an_engine(postgres_dsn, root) as engine:
        made = Kept(engine, postgres_dsn, root)
        made.write("workflows/ci.py", WORKFLOW)
        made.write("lib/names.py", "NAME = 'a'\n")
        made.write("lib/unused.py", "OTHER = 'a'\n")
        made.write("prompts/review.prompt.md", PROMPT)
        yield made


async def test_versions_are_kept_with_their_source(kept: Kept) -> None:
    """A workflow with what it imports and nothing else; a prompt with its schemas."""
    description = await kept.engine.describe()
    assert description.diagnostics == []
    ((revision, name, file, files),) = await kept.rows(
        "revision, name, file, files", "workflow_definitions"
    )
    assert (revision, name) == (description.workflows[0].revision, "ci")
    assert file == ".plue/workflows/ci.py"
    assert files == {file: WORKFLOW, ".plue/lib/names.py": "NAME = 'a'\n"}
    ((digest, kind, definition, texts),) = await kept.rows(
        "digest, kind, definition, files", "prompt_definitions"
    )
    assert (digest, kind) == (description.prompts[0].digest, "llm")
    assert isinstance(definition, dict)
    assert definition["inputs_schema"]["properties"]["diff"]["type"] == "string"
    assert texts == {".plue/prompts/review.prompt.md": PROMPT}


async def test_each_version_is_kept_once(kept: Kept) -> None:
    """Looking again adds nothing, a change adds a version, and going back none."""
    for text in ("NAME = 'a'\n", "NAME = 'a'\n", "NAME = 'b'\n", "NAME = 'a'\n"):
        kept.write("lib/names.py", text)
        await kept.engine.describe()
    assert len(await kept.rows("name", "workflow_definitions")) == 2
    assert len(await kept.rows("name", "prompt_definitions")) == 1


async def test_two_engines_keep_the_same_rows(kept: Kept) -> None:
    """Whoever comes second changes nothing."""
    async with an_engine(kept.dsn, kept.root) as other:
        await asyncio.gather(kept.engine.describe(), other.describe())
    assert len(await kept.rows("name", "workflow_definitions")) == 1


async def test_a_broken_prompt_is_not_kept(kept: Kept) -> None:
    """It cannot be imported; what is right beside it is kept."""
    kept.write("prompts/bad.prompt.md", "---\ninputs: [\n---\n")
    description = await kept.engine.describe()
    assert {one.code for one in description.diagnostics} == {"PLU701"}
    assert await kept.rows("name", "prompt_definitions") == [("review",)]


async def test_what_nobody_has_met_for_long_is_forgotten(kept: Kept) -> None:
    """What is met again in time stays."""
    await kept.engine.describe()
    kept.write("workflows/ci.py", WORKFLOW.replace("echo", "printf"))
    await kept.engine.describe()
    await kept.age(10)
    async with an_engine(kept.dsn, kept.root) as later:
        await later.describe()
    assert await kept.engine.context.definitions.forget(days=9) == (1, 0)
    ((files,),) = await kept.rows("files", "workflow_definitions")
    assert isinstance(files, dict)
    assert "printf" in files[".plue/workflows/ci.py"]


async def test_a_store_that_is_away_hides_nothing(kept: Kept) -> None:
    """The list is of the tree; it is kept when the store is back."""
    await kept.engine.context.database._pool.close()
    description = await kept.engine.describe()
    assert [info.name for info in description.workflows] == ["ci"]
