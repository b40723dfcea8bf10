"""Diagnostics as SARIF 2.1.0 (OASIS), for code hosts and editors that show them in place."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from plue.authoring.code_examples import examples
from plue.authoring.codes import EXPLANATIONS, Code, Explanation
from plue.authoring.results import Diagnostic

__all__ = ["SCHEMA", "sarif_of"]

SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

Json = dict[str, Any]


def sarif_of(diagnostics: Sequence[Diagnostic], *, version: str) -> Json:
    """Return one run of Plue's linter with a result for each of *diagnostics*.

    Files are URIs relative to the project (``%SRCROOT%``); columns count characters. A rule is
    listed for every code that occurs.
    """
    codes = sorted({one.code for one in diagnostics})
    rules = {code: index for index, code in enumerate(codes)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Plue",
                        "version": version,
                        "semanticVersion": version,
                        "rules": [_rule(code) for code in codes],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {
                    "%SRCROOT%": {"description": {"text": "The root of the project."}}
                },
                "results": [_result(one, rules[one.code]) for one in diagnostics],
            }
        ],
    }


def _rule(code: str) -> Json:
    explanation = EXPLANATIONS.get(Code(code)) if code in set(Code) else None
    if explanation is None:
        return {"id": code}
    return {
        "id": code,
        "name": explanation.code.name.title().replace("_", ""),
        "shortDescription": {"text": explanation.title},
        "fullDescription": {"text": explanation.text},
        "help": _help(explanation),
    }


def _help(explanation: Explanation) -> Json:
    example = examples().get(explanation.code)
    if example is None:
        return {"text": explanation.text}
    wrong, right = example.wrong.shown(), example.right.shown()
    text = f"{explanation.text}\n\nWrong:\n\n{wrong}\n\nRight:\n\n{right}\n"
    fenced = f"```python\n{wrong}\n```", f"```python\n{right}\n```"
    markdown = f"{explanation.text}\n\nWrong:\n\n{fenced[0]}\n\nRight:\n\n{fenced[1]}\n"
    return {"text": text, "markdown": markdown}


def _result(one: Diagnostic, rule: int) -> Json:
    remedy = f" Remedy: {one.remedy}." if one.remedy else ""
    found: Json = {
        "ruleId": one.code,
        "ruleIndex": rule,
        "level": one.severity,
        "message": {"text": f"{one.message}.{remedy}"},
        "locations": [_location(one.file, _region(one))],
    }
    if one.related:
        place = _location(one.related[0], {"startLine": one.related[1]})
        found["relatedLocations"] = [{"id": 1, "message": {"text": "see also"}, **place}]
    return found


def _location(file: str, region: Json) -> Json:
    artifact = {"uri": quote(file), "uriBaseId": "%SRCROOT%"}
    return {"physicalLocation": {"artifactLocation": artifact, "region": region}}


def _region(one: Diagnostic) -> Json:
    region: Json = {"startLine": max(one.line, 1), "startColumn": max(one.column, 1)}
    if one.end_column is not None and one.end_column > one.column:
        region |= {"endLine": region["startLine"], "endColumn": one.end_column}
    if one.source is not None:
        region["snippet"] = {"text": one.source}
    return region
