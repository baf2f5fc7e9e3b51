"""Grafana's HTTP API as far as pushing goes: bodies and answers are held against those of its official client
(`grafana_contract`). It is no Grafana: it proves what is sent, and that what comes back is understood."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import ValidationError

from tests.component.cli import grafana_contract as contract

TOKEN = "glsa_of_a_service_account"


class Grafana:
    """What it has, and every request that came: (method, path, body)."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}
        self.sources: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.boards: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.refusing: tuple[int, dict[str, str]] | None = None
        self.url = ""

    def writes(self) -> list[tuple[str, str]]:
        """What would have changed something."""
        return [(method, path) for method, path, _ in self.requests if method != "GET"]

    def answer(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, Any]:
        """Status and JSON."""
        self.requests.append((method, path, body))
        if self.refusing:
            return self.refusing
        if authorization != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        pattern, uid = _pattern(path.removeprefix("/grafana/api"))
        asked = f"{method} {pattern}"
        try:
            given = contract.body(asked, body) if body is not None else {}
        except ValidationError as error:
            return 400, {"message": f"bad request data: {error}"}
        status, told = self._answer(asked, uid, given)
        contract.answer(asked, status, told)
        return status, told

    def _answer(self, asked: str, uid: str, given: dict[str, Any]) -> tuple[int, Any]:
        match asked:
            case "GET /folders/{folder_uid}":
                return (200, self.folders[uid]) if uid in self.folders else (404, {"message": "folder not found"})
            case "POST /folders":
                self.folders[given["uid"]] = {"id": 1, "uid": given["uid"], "title": given["title"], "version": 1}
                return 200, self.folders[given["uid"]]
            case "GET /datasources/uid/{uid}":
                missing = 404, {"message": "Data source not found"}
                return (200, self.sources[uid]) if uid in self.sources else missing
            case "POST /datasources":
                return self._source(given, 1)
            case "PUT /datasources/uid/{uid}":
                return self._source(given, self.sources[uid]["version"] + 1)
            case "GET /dashboards/uid/{uid}":
                return (200, self.boards[uid]) if uid in self.boards else (404, {"message": "Dashboard not found"})
        return self._board(**given)

    def _source(self, given: dict[str, Any], version: int) -> tuple[int, Any]:
        uid, name = given["uid"], given["name"]
        self.secrets.setdefault(uid, {}).update(given.get("secureJsonData", {}))
        shown = {key: value for key, value in given.items() if key not in ("secureJsonData", "version")}
        shown |= {"id": len(self.sources) + 1, "orgId": 1, "typeLogoUrl": "", "readOnly": False, "version": version}
        self.sources[uid] = shown | {"secureJsonFields": dict.fromkeys(self.secrets[uid], True)}
        return 200, {"datasource": self.sources[uid], "id": shown["id"], "message": "saved", "name": name}

    def _board(self, dashboard: Any, folderUid: str, overwrite: bool = False, message: str = "") -> tuple[int, Any]:
        board = dashboard
        if folderUid not in self.folders:
            return 400, {"message": "folder not found", "status": "folder-not-found"}
        assert board["title"]
        assert len(board["uid"]) <= 40
        assert board.get("id") is None
        there = self.boards.get(board["uid"])
        if there and not overwrite:
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        version = there["dashboard"]["version"] + 1 if there else 1
        meta = {"folderUid": folderUid, "provisioned": False, "version": version}
        self.boards[board["uid"]] = {"dashboard": board | {"id": 7, "version": version}, "meta": meta}
        told = {"id": 7, "uid": board["uid"], "title": board["title"], "status": "success", "url": "/d/x"}
        return 200, told | {"version": version}


def _pattern(path: str) -> tuple[str, str]:
    """(the path as the contract has it, the uid in it)."""
    match path.split("/"):
        case ["", "folders", uid]:
            return "/folders/{folder_uid}", uid
        case ["", "datasources" | "dashboards" as kind, "uid", uid]:
            return f"/{kind}/uid/{{uid}}", uid
    return path, ""


@contextmanager
def grafana() -> Iterator[Grafana]:
    """It listens on a port of 127.0.0.1, below the path /grafana."""
    state = Grafana()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, told = state.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            text = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/grafana"
        yield state
        server.shutdown()
