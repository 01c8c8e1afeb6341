"""Describes the plain ASGI routes in the OpenAPI document, from the very types that parse them."""

from __future__ import annotations

from typing import Any, get_origin

import msgspec
import numpy as np
from fastapi import FastAPI

from buffer_service.api import schemas
from buffer_service.api.messages import JSON, MESSAGE_PACK, OCTETS, PROBLEM

_ROUTES: dict[str, tuple[str, type[msgspec.Struct], type[msgspec.Struct], str]] = {
    "/v1/experiences": (
        "Append experiences; durable and searchable when answered",
        schemas.AppendBody,
        schemas.AppendAnswer,
        "201",
    ),
    "/v1/search": ("The nearest experiences to one or many vectors", schemas.SearchBody, schemas.SearchAnswer, "200"),
    "/v1/sample": ("Draw a batch by priority", schemas.SampleBody, schemas.SampleAnswer, "200"),
    "/v1/priorities": ("Set priorities", schemas.PrioritiesBody, schemas.UpdatesAnswer, "200"),
    "/v1/outcomes": ("Report which experiences helped", schemas.OutcomesBody, schemas.UpdatesAnswer, "200"),
}
_PROBLEM_SCHEMA = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
    },
}


def describe_hot_paths(app: FastAPI) -> None:
    """Make the application's OpenAPI document include the plain ASGI routes."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            types = [kind for route in _ROUTES.values() for kind in route[1:3]]
            _, components = msgspec.json.schema_components(
                types, schema_hook=_vector_schema, ref_template="#/components/schemas/{name}"
            )
            document.setdefault("components", {}).setdefault("schemas", {}).update(components)
            for path, route in _ROUTES.items():
                document["paths"].setdefault(path, {})["post"] = _operation(path, *route)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the document


def _vector_schema(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - msgspec asks with whatever it does not know
    if get_origin(kind) is not np.ndarray:
        raise NotImplementedError(kind)
    return {"type": "array", "items": {"type": "number"}}


def _operation(
    path: str, summary: str, body: type[msgspec.Struct], answer: type[msgspec.Struct], status: str
) -> dict[str, Any]:
    content = {kind: {"schema": _reference(body)} for kind in (JSON, MESSAGE_PACK)}
    operation: dict[str, Any] = {
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {
            status: {"description": "Done", "content": {JSON: {"schema": _reference(answer)}}},
            "default": {"description": "Refused or failed", "content": {PROBLEM: {"schema": _PROBLEM_SCHEMA}}},
        },
    }
    if path == "/v1/search":
        operation["description"] = (
            f"As {OCTETS}: n·dimension little-endian float32 in, with ?k= and ?min_sequence=; n·k int64 ids (-1 where "
            "there are fewer) and then n·k float32 scores out, with the headers X-Sequence and X-Generation."
        )
        content[OCTETS] = {"schema": {"type": "string", "format": "binary"}}
    return operation


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
