"""Dashboards, their folder and their data sources, put into a Grafana by its HTTP API. What is there already as it
should be is left alone.

`Api` is what is used of `grafana_client.GrafanaApi`; the caller makes it, and tells its errors apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tracker.dashboards.generate import DASHBOARDS
from tracker.dashboards.panel import CLICKHOUSE, PROMETHEUS
from tracker.dashboards.variables import DATABASE, TRACKER_URL

FOLDER, FOLDER_TITLE = "tracker", "Tracker"
Json = dict[str, Any]
Absent = Callable[[Callable[[], Json]], Json | None]
"""Calls what it is given, and gives None where Grafana says that there is no such thing."""


class Folders(Protocol):
    """https://grafana.com/docs/grafana/latest/developers/http_api/folder/"""

    def get_folder(self, uid: str) -> Json:
        """Raises when it is not there."""

    def create_folder(self, title: str, uid: str) -> Json:
        """A new one."""


class Sources(Protocol):
    """https://grafana.com/docs/grafana/latest/developers/http_api/data_source/"""

    def get_datasource_by_uid(self, datasource_uid: str) -> Json:
        """Raises when it is not there."""

    def create_datasource(self, datasource: Json) -> Json:
        """A new one."""

    def update_datasource_by_uid(self, datasource_uid: str, datasource: Json) -> Json:
        """All of it anew, but for secrets that are not named."""


class Boards(Protocol):
    """https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/"""

    def get_dashboard(self, dashboard_uid: str) -> Json:
        """`dashboard` and `meta`. Raises when it is not there."""

    def update_dashboard(self, dashboard: Json) -> Json:
        """A new one, or a new version."""


class Api(Protocol):
    """A Grafana."""

    @property
    def folder(self) -> Folders:
        """Folders."""

    @property
    def datasource(self) -> Sources:
        """Data sources."""

    @property
    def dashboard(self) -> Boards:
        """Dashboards."""


@dataclass(frozen=True, slots=True)
class Sought:
    """How Grafana's own server reaches what the dashboards ask. Without an address, a data source is somebody else's
    business. `token`: of the tracker, with scope `read`. `console`: the tracker as people reach it, for links."""

    prometheus: str = ""
    host: str = ""
    port: int = 0
    path: str = "clickhouse"
    tls: bool = False
    token: str = ""
    console: str = TRACKER_URL


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done with one thing, or was."""

    kind: Literal["folder", "data source", "dashboard"]
    name: str
    does: Literal["create", "update", "nothing"]


def sources(sought: Sought) -> list[Json]:
    """The data sources as Grafana keeps them, without secrets."""
    made: list[Json] = []
    if sought.prometheus:
        made.append(
            {
                "uid": "tracker-prometheus",
                "name": "Tracker: Prometheus",
                "type": PROMETHEUS["type"],
                "access": "proxy",
                "url": sought.prometheus,
                "jsonData": {"httpMethod": "POST"},
            }
        )
    if sought.host:
        asked = {"host": sought.host, "port": sought.port, "path": sought.path, "protocol": "http"}
        asked |= {"secure": sought.tls, "username": "grafana", "defaultDatabase": DATABASE}
        made.append(
            {
                "uid": "tracker-views",
                "name": "Tracker",
                "type": CLICKHOUSE["type"],
                "access": "proxy",
                "jsonData": asked,
            }
        )
    return made


def push(api: Api, sought: Sought, absent: Absent, do: bool, again: bool = False) -> Iterator[Step]:
    """Step by step: folder, data sources, dashboards. Without `do` nothing is changed. `again`: secrets are
    sent even where one is kept, since nobody can read which it is. What the API raises goes through."""
    if absent(lambda: api.folder.get_folder(FOLDER)) is None:
        if do:
            api.folder.create_folder(FOLDER_TITLE, uid=FOLDER)
        yield Step("folder", FOLDER_TITLE, "create")
    else:
        yield Step("folder", FOLDER_TITLE, "nothing")
    for source in sources(sought):
        yield _source(api, source, sought.token, absent, do, again)
    for name in DASHBOARDS:
        yield _dashboard(api, DASHBOARDS[name].json(sought.console), absent, do)


def _source(
    api: Api,
    wanted: Json,
    token: str,
    absent: Absent,
    do: bool,
    again: bool,
) -> Step:
    there = absent(lambda: api.datasource.get_datasource_by_uid(wanted["uid"]))
    secret = {"secureJsonData": {"password": token}} if token and wanted["type"] == CLICKHOUSE["type"] else {}
    if there is None:
        if do:
            api.datasource.create_datasource(wanted | secret)
        return Step("data source", wanted["name"], "create")
    unknown = secret and (again or not there.get("secureJsonFields", {}).get("password"))
    if there.get("readOnly") or (includes(there, wanted) and not unknown):  # read only: from a provisioning file
        return Step("data source", wanted["name"], "nothing")
    if do:
        kept = {"isDefault": there.get("isDefault", False), "jsonData": there.get("jsonData", {}) | wanted["jsonData"]}
        merged = wanted | kept | (secret if unknown else {})
        api.datasource.update_datasource_by_uid(wanted["uid"], merged)
    return Step("data source", wanted["name"], "update")


def _dashboard(api: Api, wanted: Json, absent: Absent, do: bool) -> Step:
    there = absent(lambda: api.dashboard.get_dashboard(wanted["uid"]))
    own = {key: value for key, value in wanted.items() if key != "version"}  # Grafana counts versions itself
    if there and there["meta"].get("folderUid") == FOLDER and includes(there["dashboard"], own):
        return Step("dashboard", wanted["title"], "nothing")
    if do:
        message = "tracker dashboards push"
        api.dashboard.update_dashboard({"dashboard": own, "folderUid": FOLDER, "overwrite": True, "message": message})
    return Step("dashboard", wanted["title"], "update" if there else "create")


def includes(there: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there, in the same order. Grafana may add fields of its own to an object."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(key in there and includes(there[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(includes(*pair) for pair in zip(there, wanted, strict=True))
        )
    return bool(there == wanted)
