"""What Grafana's HTTP API takes and answers, as its official Go client has it: that is made of its OpenAPI document.

`grafana_contract.json` was written by this, from a copy that Go's module proxy gives:

    go mod download -json github.com/grafana/grafana-openapi-client-go@latest
    python -m tests.component.cli.grafana_contract FOLDER  # `Dir` of the answer
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

KEPT = Path(__file__).with_suffix(".json")
OPERATIONS = {
    "POST /folders": "folders/create_folder",
    "GET /folders/{folder_uid}": "folders/get_folder_by_uid",
    "POST /datasources": "datasources/add_data_source",
    "PUT /datasources/uid/{uid}": "datasources/update_data_source_by_uid",
    "GET /datasources/uid/{uid}": "datasources/get_data_source_by_uid",
    "POST /dashboards/db": "dashboards/post_dashboard",
    "GET /dashboards/uid/{uid}": "dashboards/get_dashboard_by_uid",
}
"""What pushing asks for, and where the client has it."""
PLAIN: dict[str, Any] = {
    "string": str, "bool": bool, "int64": int, "float64": float, "strfmt.DateTime": str, "interface{}": Any,
}  # fmt: skip
REQUIRED = "required "
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
OTHER = re.compile(r"^type (\w+) (?!struct)(\S+)$", re.M)
FIELD = re.compile(r'^\s+\w+ (\S+) `json:"([^",]+)(,omitempty)?"`', re.M)


def extracted(folder: Path) -> dict[str, Any]:
    """Operations with their bodies and answers, and every type that they are made of, from the client's source."""
    source = "".join(path.read_text("utf-8") for path in sorted((folder / "models").glob("*.go")))
    operations: dict[str, Any] = {}
    for asked, place in OPERATIONS.items():
        method, path = asked.split()
        group, _, name = place.partition("/")
        client = (folder / "client" / group / f"{group}_client.go").read_text("utf-8")
        assert re.search(rf'Method: +"{method}",\n\s+PathPattern: +"{re.escape(path)}"', client), asked
        told = (folder / "client" / place).with_name(f"{name}_responses.go").read_text("utf-8")
        taken = (folder / "client" / place).with_name(f"{name}_parameters.go").read_text("utf-8")
        source += told
        body = re.search(r"^\s+Body \*?(?:models\.)?(\w+)$", taken, re.M)
        made = dict(re.findall(r"case (\d+):\n\s+result := New(\w+)\(\)", told))
        payload = dict(re.findall(r"^type (\w+) struct \{\n\s+Payload \*?(?:models\.)?(\w+)\n\}", told, re.M))
        answers = {status: payload[kind] for status, kind in made.items() if kind in payload}
        operations[asked] = {"body": body[1] if body else None, "answers": answers}
    types: dict[str, Any] = dict(OTHER.findall(source))
    for name, fields in STRUCT.findall(source):
        types[name] = {
            key: REQUIRED + kind if kind.startswith("*") and not optional else kind
            for kind, key, optional in FIELD.findall(fields)
        }
    wanted, found = [name for one in operations.values() for name in (one["body"], *one["answers"].values())], {}
    while wanted:
        name = wanted.pop()
        if name in types and name not in found:
            found[name] = types[name]
            inner = types[name].values() if isinstance(types[name], dict) else [types[name]]
            wanted += [word for kind in inner for word in re.findall(r"\w+", kind)]
    version = folder.name.partition("@")[2]
    return {"client": f"github.com/grafana/grafana-openapi-client-go {version}", "operations": operations,
            "types": dict(sorted(found.items()))}  # fmt: skip


@cache
def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(KEPT.read_text("utf-8"))
    return kept


@cache
def model(name: str) -> type[BaseModel]:
    """A type of the contract: fields that it has and no others, of their types exactly."""
    fields: Any = {
        key: (_type(kind.removeprefix(REQUIRED), name), ... if kind.startswith(REQUIRED) else None)
        for key, kind in _kept()["types"][name].items()
    }
    return create_model(name, __config__=ConfigDict(extra="forbid", strict=True, protected_namespaces=()), **fields)


def _type(kind: str, within: str) -> Any:
    kind = kind.removeprefix("*").removeprefix("models.")
    if kind.startswith("[]"):
        return list[_type(kind[2:], within)]  # type: ignore[misc]
    if kind.startswith("map[string]"):
        return dict[str, _type(kind.removeprefix("map[string]"), within)]  # type: ignore[misc]
    if kind in PLAIN or kind == within:
        return PLAIN.get(kind, dict[str, Any])
    of = _kept()["types"][kind]
    return model(kind) if isinstance(of, dict) else _type(of, within)


def body(asked: str, given: Any) -> dict[str, Any]:
    """A request's body, held against the contract. Raises pydantic's ValidationError."""
    return model(_kept()["operations"][asked]["body"]).model_validate(given).model_dump(exclude_unset=True)


def answer(asked: str, status: int, told: Any) -> None:
    """Hold an answer against the contract. Raises pydantic's ValidationError; KeyError for a status it has not."""
    model(_kept()["operations"][asked]["answers"][str(status)]).model_validate(told)


if __name__ == "__main__":
    KEPT.write_text(json.dumps(extracted(Path(sys.argv[1])), indent=1) + "\n", "utf-8")
