"""SARIF 2.1.0: what its schema requires of a log with results, and what we put into it."""

import re

import pytest
from authoring.sandboxed import Sandbox
from jsonschema import Draft7Validator

from plue.authoring.results import Diagnostic
from plue.authoring.sarif import sarif_of

TEXT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 1}},
}
REGION = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "startLine": {"type": "integer", "minimum": 1},
        "startColumn": {"type": "integer", "minimum": 1},
        "endLine": {"type": "integer", "minimum": 1},
        "endColumn": {"type": "integer", "minimum": 1},
        "snippet": TEXT,
    },
}
LOCATION = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": -1},
        "message": TEXT,
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string", "format": "uri-reference"}},
                },
                "region": REGION,
            },
        },
    },
}
# The part of the OASIS schema (sarif-schema-2.1.0.json, draft 7) that covers what we write: the
# required members, the types and the closed sets of values of each object.
SHAPE = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"enum": ["2.1.0"]},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "properties": {
                                                "id": {"type": "string"},
                                                "name": {"type": "string"},
                                                "shortDescription": TEXT,
                                                "fullDescription": TEXT,
                                                "help": TEXT,
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message"],
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": -1},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": TEXT,
                                "locations": {"type": "array", "items": LOCATION},
                                "relatedLocations": {
                                    "type": "array",
                                    "uniqueItems": True,
                                    "items": LOCATION,
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def test_what_lint_finds_is_valid_sarif(sandbox: Sandbox) -> None:
    """Every result has its rule, its place in characters and its remedy."""
    source = "import os\nfrom plue import workflow\n@workflow()\ndef ci(ctx):\n    é = 1; naem\n"
    found = sandbox.describe(source, source.replace("os", "sys")).diagnostics
    log = sarif_of(found, version="1.2.3")
    Draft7Validator(SHAPE).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["PLU010", "PLU012", "PLU102"][: len(rules)]
    assert len(run["results"]) == len(found) >= 4
    for result, one in zip(run["results"], found, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == one.code
        assert one.remedy is not None
        assert one.remedy in result["message"]["text"]
    named = next(r for r in run["results"] if r["ruleId"] == "PLU012")
    place = named["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == ".plue/workflows/a.py"
    assert (place["region"]["startLine"], place["region"]["startColumn"]) == (5, 12)
    assert place["region"]["snippet"]["text"] == "    é = 1; naem"


def test_a_second_place_is_a_related_location() -> None:
    """Duplicates and replays point at both places."""
    one = Diagnostic("PLU102", "x", "a b.py", 3, related=("c.py", 9))
    log = sarif_of([one], version="1")
    Draft7Validator(SHAPE).validate(log)
    result = log["runs"][0]["results"][0]
    related = result["relatedLocations"][0]["physicalLocation"]
    assert (related["artifactLocation"]["uri"], related["region"]["startLine"]) == ("c.py", 9)
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20b.py"


@pytest.mark.parametrize("code", ["PLU010", "PLU012"])
def test_rules_carry_their_explanation(code: str) -> None:
    """A code host shows what `plue explain` shows."""
    log = sarif_of([Diagnostic(code, "x", "a.py", 1)], version="1")
    (rule,) = log["runs"][0]["tool"]["driver"]["rules"]
    assert re.search(r"Wrong:\n\n```python\n.*Right:", rule["help"]["markdown"], re.DOTALL)


def test_nothing_wrong_is_an_empty_list() -> None:
    """A clean project gives a log too: code hosts close what is no longer reported."""
    log = sarif_of([], version="1")
    Draft7Validator(SHAPE).validate(log)
    assert log["runs"][0]["results"] == []
