"""The OpenAPI 3.1 document, made from the routes and the models that validate.

pydantic's JSON Schema is 2020-12, which is what OpenAPI 3.1 uses, so nothing is translated.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from plue.api.models import Problem
from plue.api.problems import PROBLEM_JSON
from plue.api.routes import JSON, PATH_PART_LIMIT, Route

__all__ = ["openapi_document"]

_REF = "#/components/schemas/{model}"
_FAULTS = (500, 503)

_PATH_PARTS = {
    "id": "A run: its id, its name (`ci-42`), its number, or `latest`.",
    "name": "A workflow's name.",
}


def _wanted(routes: Iterable[Route[Any, Any]]) -> list[tuple[type[BaseModel], Any]]:
    """Return every model that the document needs with the side it is seen from."""
    wanted: dict[tuple[type[BaseModel], Any], None] = {(Problem, "serialization"): None}
    for route in routes:
        wanted[route.query, "validation"] = None
        if route.reads_json:
            wanted[route.body, "validation"] = None
        for model in (*route.produces.values(), *route.also.values()):
            if model is not None:
                wanted[model, "serialization"] = None
    return list(wanted)


def _parameters(route: Route[Any, Any], query: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the path's and the query's parameters."""
    path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARTS.get(name, ""),
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": PATH_PART_LIMIT,
                "pattern": "^[^\\x00/]+$",
            },
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    required = set(query.get("required", ()))
    return path + [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": schema.get("description", ""),
            "schema": {k: v for k, v in schema.items() if k not in {"title", "description"}},
        }
        for name, schema in query.get("properties", {}).items()
    ]


def _statuses(route: Route[Any, Any], parameters: list[dict[str, Any]]) -> list[int]:
    """Return the error statuses that the declaration itself implies, and the route's own."""
    statuses = set(route.errors)
    if not route.public:
        statuses |= {401, *_FAULTS}
    statuses |= {403}
    if route.reads_json:
        statuses |= {400, 413, 415}
    # Unknown parameters are refused everywhere, so 422 is possible everywhere.
    statuses |= {422}
    if any(parameter["in"] == "path" for parameter in parameters):
        statuses |= {404}
    return sorted(statuses)


def _content(media: str, ref: dict[str, Any] | None) -> dict[str, Any]:
    without = {"type": "object" if media == JSON else "string"}
    return {media: {"schema": without if ref is None else ref}}


def _responses(
    route: Route[Any, Any], refs: dict[Any, dict[str, Any]], parameters: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the responses object: the good ones, and the problems."""
    content: dict[str, Any] = {}
    for media, model in route.produces.items():
        content |= _content(media, refs[model, "serialization"] if model else None)
    bodies: dict[int, dict[str, Any]] = {route.status: content}
    if route.empty:
        bodies[204] = {}
    problem = _content(PROBLEM_JSON, refs[Problem, "serialization"])
    bodies |= dict.fromkeys(_statuses(route, parameters), problem)
    if route.uploads and "text/html" in route.produces:
        # A page's form: what is wrong in its fields is said on the page.
        bodies[422] = problem | content
    for status, model in route.also.items():
        bodies[status] = _content(JSON, refs[model, "serialization"])
    responses: dict[str, Any] = {}
    for status, body in sorted(bodies.items()):
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if body:
            responses[str(status)]["content"] = body
    if route.empty:
        responses["204"]["description"] = route.empty
    if route.status == HTTPStatus.CREATED and route.reads_json:
        responses["201"]["headers"] = {
            "Location": {"schema": {"type": "string"}, "description": "Where the run is."}
        }
    return responses


def _operation(
    route: Route[Any, Any], refs: dict[Any, dict[str, Any]], query: dict[str, Any]
) -> dict[str, Any]:
    """Return the operation object of one route."""
    parameters = _parameters(route, query)
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters,
        "responses": _responses(route, refs, parameters),
    }
    if route.description:
        operation["description"] = route.description
    if route.reads_json:
        operation["requestBody"] = {
            "required": any(f.is_required() for f in route.body.model_fields.values()),
            "content": _content(JSON, refs[route.body, "validation"]),
        }
    if route.uploads:
        operation["requestBody"] = {
            "required": True,
            "content": {route.uploads: {"schema": {"type": "string", "format": "binary"}}},
        }
    if route.public:
        operation["security"] = []
    return operation


def openapi_document(routes: Iterable[Route[Any, Any]], *, version: str) -> dict[str, Any]:
    """Return the document of *routes*, as plain JSON values."""
    routes = tuple(routes)
    refs, definitions = models_json_schema(_wanted(routes), ref_template=_REF)
    schemas: dict[str, Any] = dict(definitions.get("$defs", {}))
    paths: dict[str, Any] = {}
    queries = {}
    for route in routes:
        name = refs[route.query, "validation"]["$ref"].rsplit("/", 1)[-1]
        queries[name] = schemas[name]
        operation = _operation(route, dict(refs), schemas[name])
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Plue",
            "version": version,
            "description": "Runs of workflows: made, listed, followed live, cancelled.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        # Query models are spread over parameters; as schemas of their own they would mislead.
        "components": {
            "schemas": {k: v for k, v in sorted(schemas.items()) if k not in queries},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
