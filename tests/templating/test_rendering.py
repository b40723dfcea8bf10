"""Templates: what they may do, what they may not, and where the error is."""

import json
from typing import Any

import pytest

from plue.templating.budget import MAX_RENDERED
from plue.templating.faults import FaultKind, TemplateFault
from plue.templating.rendering import render
from plue.wire.plan import Template

FOLDER = ".plue/prompts/"
MAIN = FOLDER + "main.prompt.md"


def rendered(body: str, values: dict[str, Any] | None = None, **files: Template | str) -> str:
    """Render *body*, which begins in line 5 of its file, beside *files* (`a` is `a.md`)."""
    sources = {MAIN: Template(text=body, line=5)}
    for name, text in files.items():
        source = Template(text=text) if isinstance(text, str) else text
        sources[f"{FOLDER}{name}.md"] = source
    return render(MAIN, sources, values or {}, output_schema={"type": "object"})


ISSUES = [{"file": "a.py", "line": 3, "bad": True}, {"file": "b.py", "line": 9, "bad": False}]

GOOD = [
    pytest.param("Hello {{ x }}!", {"x": "W"}, "Hello W!", id="value"),
    pytest.param("{{ f }} {{ n }} {{ l }}", {"f": True, "n": 1.5, "l": [1, {"a": "é"}]},
                 'true 1.5 [1,{"a":"é"}]', id="values-render-as-in-commands"),
    pytest.param("<b>&{{ x }}", {"x": "<i>"}, "<b>&<i>", id="nothing-is-escaped"),
    pytest.param("\n\na\n\n", {}, "a", id="outer-lines-are-cut"),
    pytest.param("{% if x %}\n  a\n{% endif %}\nb", {"x": 1}, "  a\nb", id="tags-leave-no-lines"),
    pytest.param("{% if x %}a{% endif %}\n  {% if x %}b{% endif %}\nc", {"x": 1}, "a\n  b\nc",
                 id="a-tag-beside-text-keeps-its-line"),
    pytest.param("a\n  {# gone #}\n  {% set y = 1 %}{% if x -%}\n  b{% endif %}\nc", {"x": 1},
                 "a\nb\nc", id="lines-of-tags-and-comments-vanish"),
    pytest.param("{% raw %}a {% if x %}\nb{% endraw %}", {}, "a {% if x %}\nb", id="raw-is-raw"),
    pytest.param("{% for i in l %}\n- {{ i.file }}:{{ i.line }}\n{% endfor %}", {"l": ISSUES},
                 "- a.py:3\n- b.py:9", id="loop"),
    pytest.param("{% for i in [] %}{% else %}none{% endfor %}", {}, "none", id="loop-else"),
    pytest.param("{% for i in 'abc' %}{{ loop.index }}/{{ loop.length }} {% endfor %}", {},
                 "1/3 2/3 3/3 ", id="loop-variable"),
    pytest.param("{% for n in t recursive %}{{ n.v }}{{ loop(n.c) }}{% endfor %}",
                 {"t": [{"v": 1, "c": [{"v": 2, "c": []}]}]}, "12", id="recursive"),
    pytest.param("{% for k, v in x.items() %}{{ k }}={{ v }};{% endfor %}", {"x": {"a": 1}},
                 "a=1;", id="items"),
    pytest.param("{{ x.items }}", {"x": {"items": [1]}}, "[1]", id="fields-before-methods"),
    pytest.param("{{ x[1:3] }}{{ x[-1] }}{{ x[::2] }}", {"x": "abcd"}, "bcdac", id="slices"),
    pytest.param("{{ 'a' ~ 1 ~ true }}", {}, "a1true", id="concat"),
    pytest.param("{{ l | map(attribute='file') | join(', ') }}", {"l": ISSUES}, "a.py, b.py", id="map"),
    pytest.param("{{ l | selectattr('bad') | list | length }}", {"l": ISSUES}, "1", id="select"),
    pytest.param("{{ l | sum(attribute='line') }}", {"l": ISSUES}, "12", id="sum"),
    pytest.param("{{ x | tojson(2) }}", {"x": {"a": "<"}}, '{\n  "a": "<"\n}', id="tojson"),
    pytest.param("{{ x | indent(2, first=true) }}", {"x": "a\n\nb"}, "  a\n\n  b", id="indent"),
    pytest.param("{{ x | replace('a', 'b') | upper | trim }}", {"x": " a "}, "B", id="text-filters"),
    pytest.param("{{ x | truncate(6) }}", {"x": "hello world"}, "hello world"[:3] + "...", id="truncate"),
    pytest.param("{{ x or 'none' }}{{ y | default('-') }}", {"x": None}, "none-", id="defaults"),
    pytest.param("{% macro m(a, b=2) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}", {}, "[12]", id="macro"),
    pytest.param("{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}x{% endcall %}", {},
                 "<x>", id="call"),
    pytest.param("{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
                 {}, "3", id="namespace"),
    pytest.param("{% set b %}a{{ x }}{% endset %}{{ b }}{{ b }}", {"x": 1}, "a1a1", id="set-block"),
    pytest.param("{{ output_schema }}", {}, json.dumps({"type": "object"}, indent=2), id="schema"),
    pytest.param("{% for i in range(3) %}{{ i }}{% endfor %}", {}, "012", id="range"),
    pytest.param("{% raw %}{{ x }}{% endraw %}{# gone #}", {}, "{{ x }}", id="raw"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "values", "expected"), GOOD)
def test_rendering(body: str, values: dict[str, Any], expected: str) -> None:
    """The language of templates is Jinja2's, and values stand in it as they do in commands."""
    assert expected == rendered(body, values)


def test_files_of_a_prompt() -> None:
    """A prompt extends, includes and imports files by their names below the prompts' folder."""
    base = Template(text="# {% block title %}Base{% endblock %}\n{% include 'parts/style.md' %}\n"
                    "{% block body %}{% endblock %}!\n")  # fmt: skip
    child = "{% block title %}{{ super() }}d{% endblock %}{% block body %}{{ m(x) }}{% endblock %}"
    sources = {
        MAIN: Template(text="{% from 'parts/m.md' import m %}" + child, extends=FOLDER + "base.md"),
        FOLDER + "base.md": base,
        FOLDER + "parts/style.md": Template(text="Be {{ x }}.\n"),
        FOLDER + "parts/m.md": Template(text="{% macro m(x) %}<{{ x }}>{% endmacro %}"),
    }
    assert render(MAIN, sources, {"x": "kind"}) == "# Based\nBe kind.\n<kind>!"


DOUBLING = (
    "{% set ns = namespace(x=X) %}{% for i in range(60) %}{% set ns.x = Y %}{% endfor %}{{ ns.x }}"
)

HOSTILE = [
    pytest.param("{% for i in range(10**9) %}{% endfor %}", FaultKind.LIMIT, "range", id="range"),
    pytest.param("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                 FaultKind.LIMIT, "0.5 s", id="loops-in-loops"),
    pytest.param("{{ 'a' * 10**9 }}", FaultKind.LIMIT, "characters", id="repeat"),
    pytest.param("{{ 10**9 * 'a' }}", FaultKind.LIMIT, "characters", id="repeat-from-the-left"),
    pytest.param("{{ ([1] * 10**9) | length }}", FaultKind.LIMIT, "characters", id="repeat-a-list"),
    pytest.param("{{ 10 ** (10 ** 9) }}", FaultKind.LIMIT, "too large", id="power"),
    pytest.param("{{ 2 ** -99999 }}", FaultKind.LIMIT, "too large", id="negative-power"),
    pytest.param("{{ '%1000000000d' % 1 }}", FaultKind.FORBIDDEN, "format", id="percent"),
    pytest.param("{{ '{:>999999999}'.format(1) }}", FaultKind.FORBIDDEN, "out of reach", id="format"),
    pytest.param("{{ '{0.__class__}'.format(1) }}", FaultKind.FORBIDDEN, "out of reach", id="format-class"),
    pytest.param("{{ '{}'.format_map({}) }}", FaultKind.FORBIDDEN, "out of reach", id="format-map"),
    pytest.param("{{ 'a'.center(10**9) }}", FaultKind.FORBIDDEN, "out of reach", id="center"),
    pytest.param("{{ 'a'.join(x) }}", FaultKind.FORBIDDEN, "out of reach", id="join-method"),
    pytest.param("{{ x | indent(10**9) }}", FaultKind.VALUE, "200", id="indent"),
    pytest.param("{{ x | replace('a', x) }}", FaultKind.LIMIT, "characters", id="replace"),
    pytest.param("{{ x | list | join(x) }}", FaultKind.LIMIT, "characters", id="join"),
    pytest.param("{{ 1.5 | round(10**9) }}", FaultKind.VALUE, "15", id="round"),
    pytest.param("{{ x }}" * 30, FaultKind.LIMIT, "rendered", id="output"),
    pytest.param(DOUBLING.replace("X", "'abcdefgh'").replace("Y", "ns.x ~ ns.x"),
                 FaultKind.LIMIT, "characters", id="doubled-text"),
    pytest.param(DOUBLING.replace("X", "'abcdefgh'").replace("Y", "ns.x + ns.x"),
                 FaultKind.LIMIT, "characters", id="added-text"),
    pytest.param(DOUBLING.replace("X", "[1]").replace("Y", "ns.x + ns.x"),
                 FaultKind.LIMIT, "characters", id="added-lists"),
    pytest.param(DOUBLING.replace("X", "[1]").replace("Y", "[ns.x, ns.x]"),
                 FaultKind.LIMIT, "0.5 s", id="nested-lists"),
    pytest.param("{% macro m() %}{% for i in range(1000) %}" + "x" * 10000 + "{% endfor %}{% endmacro %}"
                 "{% for i in range(10000) %}{% set y = m() %}{% endfor %}",
                 FaultKind.LIMIT, "characters", id="literal-text-in-macros"),
    pytest.param("{% set a %}" + "{{ x }}" * 20 + "{% endset %}{% set b %}" + "{{ a }}" * 20 + "{% endset %}",
                 FaultKind.LIMIT, "characters", id="set-blocks"),
    pytest.param("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", FaultKind.LIMIT, "nested", id="macro-in-itself"),
    pytest.param("{% macro m(n) %}{% if n %}{% set a = m(n-1) %}{% set b = m(n-1) %}{% endif %}{% endmacro %}"
                 "{{ m(60) }}", FaultKind.LIMIT, "0.5 s", id="macro-tree"),
    pytest.param("{% include 'main.prompt.md' %}", FaultKind.LIMIT, "nested", id="include-itself"),
    pytest.param("{{ ''.__class__ }}", FaultKind.FORBIDDEN, "__class__", id="class"),
    pytest.param("{{ ''['__class__'] }}", FaultKind.FORBIDDEN, "__class__", id="class-by-item"),
    pytest.param("{{ ('_'*2 ~ 'class' ~ '_'*2) and ''['_'*2 ~ 'class' ~ '_'*2] }}",
                 FaultKind.FORBIDDEN, "__class__", id="composed-name"),
    pytest.param("{{ [''] | map(attribute='__class__') | list }}", FaultKind.FORBIDDEN, "__class__", id="map-class"),
    pytest.param("{{ [''] | map('attr', '__class__') | list }}", FaultKind.VALUE, "attr", id="map-attr"),
    pytest.param("{{ ''|attr('__class__') }}", FaultKind.SYNTAX, "attr", id="attr"),
    pytest.param("{{ self.__init__ }}", FaultKind.FORBIDDEN, "__init__", id="self"),
    pytest.param("{{ self._TemplateReference__context }}", FaultKind.FORBIDDEN, "context", id="self-context"),
    pytest.param("{{ range.__self__ }}", FaultKind.FORBIDDEN, "__self__", id="bound-method"),
    pytest.param("{{ namespace.__init__ }}", FaultKind.FORBIDDEN, "__init__", id="namespace"),
    pytest.param("{% for i in 'ab' %}{{ loop._iterator }}{% endfor %}", FaultKind.FORBIDDEN, "_iterator", id="loop"),
    pytest.param("{% macro a() %}{% endmacro %}{{ a._func }}", FaultKind.FORBIDDEN, "_func", id="macro-inside"),
    pytest.param("{{ caller.__globals__ }}", FaultKind.UNDEFINED, "caller", id="caller"),
    pytest.param("{{ x() }}", FaultKind.FORBIDDEN, "called", id="call-text"),
    pytest.param("{{ [].append(1) }}", FaultKind.UNDEFINED, "append", id="mutation"),
    pytest.param("{{ o.update({'a': 1}) }}", FaultKind.UNDEFINED, "update", id="mutation-of-an-object"),
    pytest.param("{{ cycler('a') }}", FaultKind.UNDEFINED, "cycler", id="cycler"),
    pytest.param("{{ lipsum(10**9) }}", FaultKind.UNDEFINED, "lipsum", id="lipsum"),
    pytest.param("{{ dict.mro() }}", FaultKind.UNDEFINED, "dict", id="dict"),
    pytest.param("{% include '../../../etc/passwd' %}", FaultKind.FILE, ".plue/prompts/", id="escape"),
    pytest.param("{% include '/etc/passwd' %}", FaultKind.FILE, ".plue/prompts/", id="absolute"),
    pytest.param("{% include 'a\\\\b' %}", FaultKind.FILE, ".plue/prompts/", id="backslash"),
    pytest.param("{% include 'x/../../y.md' %}", FaultKind.FILE, ".plue/prompts/", id="escape-within"),
    pytest.param("{% include 'absent.md' %}", FaultKind.FILE, "absent.md", id="absent"),
    pytest.param("{% extends x %}", FaultKind.FILE, "aaa", id="dynamic-extends"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "word"), HOSTILE)
def test_hostile_templates_end_in_time(body: str, kind: FaultKind, word: str) -> None:
    """Nothing runs for long, makes much or reaches Python; the error has the template's line."""
    with pytest.raises(TemplateFault) as caught:
        rendered(body, {"x": "a" * 100_000, "o": {}})
    fault = caught.value
    assert (fault.kind, fault.file, fault.line) == (kind, MAIN, 5), fault.message
    assert word in f"{fault.message} {fault.remedy}"


WRONG = [
    pytest.param("\n{{ absent }}", FaultKind.UNDEFINED, 6, "`absent` is not defined", id="name"),
    pytest.param("\n\n{{ o.liine }}", FaultKind.UNDEFINED, 7, "did you mean `line`", id="field"),
    pytest.param("{{ l[5] }}", FaultKind.UNDEFINED, 5, "no item 5", id="item"),
    pytest.param("{{ n }}", FaultKind.VALUE, 5, "null", id="null-has-no-text"),
    pytest.param("{% for i in n %}{% endfor %}", FaultKind.VALUE, 5, "not a list", id="null-is-no-list"),
    pytest.param("{{ 'a' + 1 }}", FaultKind.VALUE, 5, "~", id="text-and-number"),
    pytest.param("a\n{{ 1 / 0 }}", FaultKind.VALUE, 6, "zero", id="zero"),
    pytest.param("{{ m }}{% macro m() %}{% endmacro %}", FaultKind.UNDEFINED, 5, "m", id="macro-too-early"),
    pytest.param("{% macro m() %}{% endmacro %}{{ m }}", FaultKind.VALUE, 5, "no text", id="macro-uncalled"),
    pytest.param("a\n{% if %}", FaultKind.SYNTAX, 6, "expression", id="syntax"),
    pytest.param("a\n{% if x %}\n", FaultKind.SYNTAX, 6, "end of template", id="unclosed"),
    pytest.param("a\n{{ x | upcase }}", FaultKind.SYNTAX, 6, "upcase", id="filter"),
    pytest.param("{% autoescape true %}{{ x }}{% endautoescape %}<{{ x() }}", FaultKind.FORBIDDEN, 5,
                 "called", id="autoescape-is-no-way-around"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "line", "word"), WRONG)
def test_errors_have_their_line(body: str, kind: FaultKind, line: int, word: str) -> None:
    """A template's error is told with the line of its file, front matter counted."""
    with pytest.raises(TemplateFault) as caught:
        rendered(body, {"o": {"line": 1}, "l": [], "n": None, "x": "x"})
    fault = caught.value
    assert (fault.kind, fault.file, fault.line) == (kind, MAIN, line), fault.message
    assert word in f"{fault.message} {fault.remedy}"


def test_an_error_in_an_included_file_is_told_there() -> None:
    """The innermost file is named, with its own line."""
    part = Template(text="\n{{ absent }}", line=3)
    with pytest.raises(TemplateFault) as caught:
        rendered("{% include 'part.md' %}", part=part)
    assert (caught.value.file, caught.value.line) == (FOLDER + "part.md", 4)


def test_large_inputs_are_no_problem() -> None:
    """Inputs of 100 KB and more render whole."""
    values = {"diff": "é" * 100_000, "log": "line\n" * 20_000}
    text = rendered("{{ diff }}\n{% for l in log.splitlines() %}{{ l }}\n{% endfor %}", values)
    assert len(text) == 100_000 + 1 + 100_000 - 1
    assert len(rendered("{{ x }}", {"x": "a" * MAX_RENDERED})) == MAX_RENDERED
