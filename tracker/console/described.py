"""An OpenAPI document as rows for a page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TITLES = {
    "ingest": "Events in",
    "coverage": "Coverage",
    "flows": "Flows",
    "messages": "Messages and books",
    "findings": "Findings and incidents",
    "replays": "Replays",
    "slos": "Objectives",
    "operations": "The service itself",
}
"""Groups, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of a request: where it goes, what it is."""

    name: str
    where: str
    kind: str
    text: str
    required: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path."""

    method: str
    path: str
    text: str
    parameters: list[Parameter]
    body: list[Parameter]
    answers: list[str]


def operations(document: Mapping[str, Any]) -> list[tuple[str, list[Operation]]]:
    """(title, operations) per group."""
    groups: dict[str, list[Operation]] = {tag: [] for tag in TITLES}
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            tag = (said.get("tags") or ["operations"])[0]
            groups.setdefault(tag, []).append(_operation(document, method.upper(), path, said))
    return [(TITLES.get(tag, tag), found) for tag, found in groups.items() if found]


def _operation(document: Mapping[str, Any], method: str, path: str, said: Mapping[str, Any]) -> Operation:
    parameters = [
        Parameter(p["name"], p["in"], _kind(p["schema"]), p.get("description", ""), p.get("required", False))
        for p in said.get("parameters", [])
    ]
    answers = [code for code in said.get("responses", {}) if code != "422"]
    return Operation(method, path, said.get("description", ""), parameters, _body(document, said), answers)


def _body(document: Mapping[str, Any], said: Mapping[str, Any]) -> list[Parameter]:
    content = said.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for part in [content, *content.get("anyOf", []), *content.get("allOf", [])]:
        if "$ref" in part:
            schema = document["components"]["schemas"][part["$ref"].rpartition("/")[2]]
            needed = schema.get("required", [])
            return [
                Parameter(name, "body", _kind(field), field.get("description", ""), name in needed)
                for name, field in schema.get("properties", {}).items()
            ]
    return []


def _kind(schema: Mapping[str, Any]) -> str:
    """`string`, `integer`, `list of string`, alternatives joined by `or`."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(part) for part in schema["anyOf"] if part.get("type") != "null"))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "object"))
