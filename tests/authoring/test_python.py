"""The Python of workflow files (35): what works, works as Python does."""

import pytest
from authoring.sandboxed import Sandbox, workflow_of

PRINTED = [
    pytest.param("print({3, 1, 2}, {1} | {2}, set(), frozenset({1}), 2 in {2})",
                 "{3, 1, 2} {1, 2} set() frozenset({1}) True", id="sets-in-order"),
    pytest.param('d = {"a": 1}\nd["a"] += 1\nprint(d)', "{'a': 2}", id="item-augmented"),
    pytest.param("class O:\n    n = 1\no = O()\no.n += 1\nprint(o.n)", "2", id="attribute-augmented"),
    pytest.param("n: int = 1\nprint(n)", "1", id="annotation"),
    pytest.param("n = 0\ndef f():\n    nonlocal n\n    n += 1\nf()\nprint(n)", "1", id="nonlocal"),
    pytest.param('match {"a": [1, 2]}:\n    case {"a": [x, *rest]} if x > 0:\n        print(x, rest)',
                 "1 [2]", id="match"),
    pytest.param("@dataclass\nclass P:\n    n: int\nprint(P(3), P(1) == P(1))", "P(n=3) True",
                 id="dataclass"),
    pytest.param('print(json.loads("[1]"), math.ceil(1.2), re.sub("a", "b", "aa"))', "[1] 2 bb",
                 id="facades"),
    pytest.param('print(list(itertools.chain([1], [2])), textwrap.dedent("  x"))', "[1, 2] x",
                 id="more-facades"),
    pytest.param("class M:\n    def __enter__(self):\n        return 1\n    def __exit__(self, kind, error, t):\n"
                 "        print(kind is None, t)\n        return True\n"
                 "with M() as m:\n    print(m)\nwith M():\n    1 / 0\nprint('after')",
                 "1\nTrue None\nFalse None\nafter", id="with"),
    pytest.param("class L:\n    def __len__(self):\n        return 2\n    def __iter__(self):\n"
                 "        return iter([1])\n    def __call__(self):\n        return 3\n"
                 "    def __bool__(self):\n        return False\n"
                 "print(len(L()), [*L()], L()(), not L())", "2 [1] 3 True", id="magic-methods"),
    pytest.param("x = 3\nprint(f'{x!r} {x:>3} {x=}')", "3   3 x=3", id="f-strings"),
    pytest.param("print([*(y for y in 'ab')], sum(x for x in range(3)))", "['a', 'b'] 3",
                 id="generators"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "printed"), PRINTED)
def test_python_is_python(sandbox: Sandbox, body: str, printed: str) -> None:
    """Sets keep their order, and a manager sees errors but no tracebacks."""
    found = sandbox.plan(workflow_of(body))
    assert found.plan is not None, found.diagnostics
    assert found.printed == printed + "\n"


@pytest.mark.parametrize("inner", ["ctx.run('-x', 'y')", "ctx.fail('no')", "ctx.read('../x')"])
def test_with_swallows_no_error_of_ours(sandbox: Sandbox, inner: str) -> None:
    """`__exit__` cannot hide what is wrong, nor go on after the end (6)."""
    body = (
        "class M:\n    def __enter__(self):\n        pass\n    def __exit__(self, *a):\n"
        f"        return True\nwith M():\n    {inner}\nctx.run('z', 'x')"
    )
    found = sandbox.plan(workflow_of(body))
    assert found.plan is None or [step.name for step in found.plan.steps] == []
