"""What Grafana's HTTP API takes and answers, written down by hand from its documentation (its OpenAPI document is
`public/api-merged.json` in grafana/grafana), as far as pushing goes. It is no Grafana: it proves what is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

TOKEN = "glsa_of_a_service_account"


class Command(BaseModel):
    """A body with fields that are documented, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class CreateFolderCommand(Command):
    """POST /folders."""

    title: str = Field(min_length=1)
    uid: str = Field("", max_length=40, pattern=r"^[A-Za-z0-9_-]*$")
    parentUid: str = ""
    description: str = ""


class DataSource(Command):
    """POST /datasources: AddDataSourceCommand."""

    name: str = Field(min_length=1)
    type: str = Field(min_length=1)
    access: Literal["proxy", "direct"]
    uid: str = Field("", max_length=40, pattern=r"^[A-Za-z0-9_-]*$")
    url: str = ""
    user: str = ""
    database: str = ""
    basicAuth: bool = False
    basicAuthUser: str = ""
    withCredentials: bool = False
    isDefault: bool = False
    jsonData: dict[str, Any] = {}
    secureJsonData: dict[str, str] = {}


class UpdateDataSourceCommand(DataSource):
    """PUT /datasources/uid/{uid}."""

    version: int = 0


class SaveDashboardCommand(Command):
    """POST /dashboards/db."""

    dashboard: dict[str, Any]
    folderUid: str = ""
    folderId: int = 0
    message: str = ""
    overwrite: bool = False
    isFolder: bool = False
    userId: int = 0


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
        try:
            return self._answer(method, path.removeprefix("/grafana/api/"), body)
        except ValidationError as error:
            return 400, {"message": f"bad request data: {error}"}

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match method, path.split("/"):
            case "GET", ["folders", uid]:
                return (200, self.folders[uid]) if uid in self.folders else (404, {"message": "folder not found"})
            case "POST", ["folders"]:
                made = CreateFolderCommand.model_validate(body)
                self.folders[made.uid] = {"id": 1, "uid": made.uid, "title": made.title, "version": 1}
                return 200, self.folders[made.uid]
            case "GET", ["datasources", "uid", uid]:
                missing = 404, {"message": "Data source not found", "messageId": "", "statusCode": 404}
                return (200, self.sources[uid]) if uid in self.sources else missing
            case "POST", ["datasources"]:
                return self._source(DataSource.model_validate(body), 1)
            case "PUT", ["datasources", "uid", uid]:
                return self._source(UpdateDataSourceCommand.model_validate(body), self.sources[uid]["version"] + 1)
            case "GET", ["dashboards", "uid", uid]:
                return (200, self.boards[uid]) if uid in self.boards else (404, {"message": "Dashboard not found"})
            case "POST", ["dashboards", "db"]:
                return self._board(SaveDashboardCommand.model_validate(body))
        raise AssertionError(f"not documented: {method} {path}")

    def _source(self, made: DataSource, version: int) -> tuple[int, Any]:
        self.secrets.setdefault(made.uid, {}).update(made.secureJsonData)
        shown = made.model_dump(exclude={"secureJsonData", "version"})
        shown |= {"id": len(self.sources) + 1, "orgId": 1, "typeLogoUrl": "", "readOnly": False, "version": version}
        self.sources[made.uid] = shown | {"secureJsonFields": dict.fromkeys(self.secrets[made.uid], True)}
        return 200, {"datasource": self.sources[made.uid], "id": shown["id"], "message": "saved", "name": made.name}

    def _board(self, saved: SaveDashboardCommand) -> tuple[int, Any]:
        board = saved.dashboard
        if saved.folderUid not in self.folders:
            return 400, {"message": "folder not found", "status": "folder-not-found"}
        assert board["title"]
        assert len(board["uid"]) <= 40
        assert board.get("id") is None
        there = self.boards.get(board["uid"])
        if there and not saved.overwrite:
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        version = there["dashboard"]["version"] + 1 if there else 1
        meta = {"folderUid": saved.folderUid, "provisioned": False, "version": version}
        self.boards[board["uid"]] = {"dashboard": board | {"id": 7, "version": version}, "meta": meta}
        return 200, {"id": 7, "uid": board["uid"], "status": "success", "version": version, "slug": "", "url": ""}


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
