"""The endpoint's description for clients that are generated: OpenAPI 3.1 (spec.openapis.org/oas/v3.1.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tledge.serving.bodies import FORM

# Status and reason of each error that /predict answers with.
ERRORS = {
    400: "The body is empty, stopped half-way, or is not the form it says",
    401: "The token is missing or wrong",
    408: "The body took too long",
    413: "The body is too large",
    421: "No token, and another host was named",
    422: "The body is no image, or would take too long to decode",
    429: "The queue is full",
    504: "No answer in time",
}


def document(version: str, labels: Sequence[str], *, token: bool) -> dict[str, Any]:
    """Return the description of an endpoint whose model knows `labels`; `token`: whether it asks for one."""
    text, probability = {"type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}
    optional = {"type": ["string", "null"]}
    label = {"type": "string", "enum": list(labels)}
    known = {"type": ["string", "null"], "enum": [*labels, None]}
    top = _object({"label": label, "probability": probability})
    prediction = _object(
        {
            "file": text,
            "label": known,
            "index": {"type": ["integer", "null"], "minimum": 0},
            "probability": {**probability, "type": ["number", "null"]},
            "top": {"type": "array", "items": top},
            "error": optional,
            "rejected": {"type": "boolean"},
        }
    )
    answer = _object(
        {"predictions": {"type": "array", "items": prediction}, "variant": text, "backend": text}
    )
    error = _object({"error": _object({"kind": text, "message": text, "hint": optional, "path": optional})})
    responses = {
        "200": _json("The label of each image, in order; in a form `error` says why one has none", answer),
        **{str(status): _json(reason, error) for status, reason in ERRORS.items()},
    }
    file = {"type": "string", "format": "binary"}
    form = _object({"images": {"type": "array", "items": file, "minItems": 1}})
    body = {"required": True, "content": {"image/*": {"schema": file}, FORM: {"schema": form}}}
    health = _object({"status": text, "variant": text, "backend": text})
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "tledge", "version": version},
        "paths": {
            "/predict": {
                "post": {"summary": "Label an image, or several", "requestBody": body, "responses": responses}
            },
            "/health": {"get": {"summary": "What is run", "responses": {"200": _json("Ready", health)}}},
        },
    }
    if token:
        described["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        described["paths"]["/predict"]["post"]["security"] = [{"token": []}]
    return described


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
