"""``cache=`` in workflow code, and what the plan has of it."""

import pytest
from authoring.sandboxed import Sandbox, workflow_of

from plue.wire.plan import Data, Lit, Ref

HEAD = "from plue import cache\n"


def test_a_cache_is_part_of_its_step(sandbox: Sandbox) -> None:
    """Its key may hold values of steps, which then come before."""
    steps = sandbox.steps(
        "from plue import cache\n"
        'deps = cache(paths=["node_modules", f"~/.npm/{ctx.event.branch}"],\n'
        '             key=ctx.cache_key("deps", "*.lock"), restore_keys="deps-")\n'
        'ctx.run("install", "npm ci", cache=deps, depends_on=[])',
        event={"branch": "main"},
    )
    (cache,) = steps["install"].cache
    assert steps["install"].needs == ("hash *.lock",)
    assert cache.paths == ((Lit(text="node_modules"),), (Lit(text="~/.npm/"), Data(data="main")))
    assert cache.key == (Lit(text="deps-"), Ref(ref="hash *.lock", field="stdout"))
    assert cache.restore_keys == ((Lit(text="deps-"),),)


def test_a_step_has_several_caches(sandbox: Sandbox) -> None:
    """A list of caches, each with its own key; a cache can be used by several steps."""
    steps = sandbox.steps(
        "from plue import cache\n"
        'a, b = cache(paths="a", key="a"), cache(paths="b", key="b")\n'
        'ctx.run("one", "x", cache=[a, b])\nctx.run("two", "x", cache=a)'
    )
    assert [len(steps[name].cache) for name in ("one", "two")] == [2, 1]


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ('cache("a", key="k")', "PLU321", "paths= and key="),
        ('cache(paths="a")', "PLU321", "paths= and key="),
        ('cache(paths=[], key="k")', "PLU321", "1 to 50"),
        ('cache(paths=["a"] * 51, key="k")', "PLU321", "51 paths"),
        ('cache(paths="../a", key="k")', "PLU321", "not below the workspace"),
        ('cache(paths="~", key="k")', "PLU321", "not below the workspace"),
        ('cache(paths="/usr/lib", key="k")', "PLU321", "not below the workspace"),
        ('cache(paths="**/node_modules", key="k")', "PLU321", "is a pattern"),
        ('cache(paths="a", key="")', "PLU321", "1 to 512"),
        ('cache(paths="a", key="k\\n")', "PLU321", "printable"),
        ('cache(paths="a", key="k", restore_keys=["x"] * 11)', "PLU321", "11 restore_keys"),
        ('cache(paths="a", key="k", scope="x")', "PLU107", "paths, key, restore_keys"),
        ('cache(paths="a", key=ctx.secrets.TOKEN)', "PLU520", "cannot be a cache's key"),
        ('cache(paths=f"{ctx.secrets.TOKEN}", key="k")', "PLU520", "cannot be a path"),
        ('[cache(paths="a", key=str(i)) for i in range(11)]', "PLU321", "11 caches"),
        ("True", "PLU321", "takes a cache(...)"),
    ],
)
def test_a_wrong_cache_is_an_error_with_a_remedy(
    sandbox: Sandbox, given: str, code: str, said: str
) -> None:
    """Paths that lead out, patterns, and keys that cannot be, are told when the plan is made."""
    source = HEAD + workflow_of(f'ctx.run("a", "x", cache={given})')
    (found,) = sandbox.plan(source).diagnostics
    assert (found.code, found.line) == (code, 5)
    assert said in f"{found.message} {found.remedy}"
    assert found.remedy
