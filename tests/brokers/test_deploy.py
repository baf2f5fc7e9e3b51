from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT
from tracker.alerting.generate import FILE
from tracker.alerting.rules import alerts
from tracker.cli.settings import ServiceSettings, described
from tracker.dashboards import variables
from tracker.dashboards.panel import CLICKHOUSE, PROMETHEUS
from tracker.dashboards.push import Sought, sources

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _mounts(service: str) -> list[tuple[str, str]]:
    """(source, target) of what a service mounts."""
    return [(v.split(":")[0], v.split(":")[1]) for v in SERVICES[service].get("volumes", ())]


def _inside(service: str, path: str) -> Path:
    """The file of this checkout that a service sees at `path`."""
    source, target = next((s, t) for s, t in _mounts(service) if path == t or path.startswith(f"{t}/"))
    return (DEPLOY / source / path.removeprefix(target).lstrip("/")).resolve()


@pytest.mark.parametrize("name", SERVICES)
def test_everything_that_a_service_needs_is_there(name: str) -> None:
    """Files that are mounted exist, volumes and other services that are named are declared, an image is pinned."""
    service = SERVICES[name]
    for source, _ in _mounts(name):
        assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    image = service["image"].split(":-")[-1].rstrip("}")
    assert image == "message-tracker" or re.search(r":v?\d+", image), image


def test_keys_are_those_of_the_compose_specification() -> None:
    """A key that Compose does not know would stop it: https://github.com/compose-spec/compose-spec, schema."""
    assert set(COMPOSE) <= {"name", "services", "volumes"}
    known = {"build", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image", "ports", "restart",
             "stop_grace_period", "ulimits", "user", "volumes"}  # fmt: skip
    for service in SERVICES.values():
        assert set(service) <= known
        assert set(service.get("healthcheck", ())) <= {"test", "interval", "timeout", "retries"}
        assert set(service.get("build", ())) <= {"context", "dockerfile"}


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_listens_beyond_loopback(name: str) -> None:
    """Every port is published on 127.0.0.1: passwords have defaults."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


def test_who_is_waited_for_can_say_that_it_is_ready() -> None:
    """A service that others wait for until it is healthy has a health check."""
    waited = {
        other
        for service in SERVICES.values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert waited
    assert all("healthcheck" in SERVICES[name] for name in waited)


def test_the_tracker_is_told_what_it_knows() -> None:
    """Every TRACKER_ variable is a setting; the store and the control database are those of the file."""
    told = SERVICES["tracker"]["environment"]
    assert set(told) <= {name for name, _, _ in described(ServiceSettings)}
    assert "@clickhouse:8123/" in told["TRACKER_STORE"]
    assert "@postgres:5432/" in told["TRACKER_CONTROL"]


def test_the_image_has_what_the_file_uses() -> None:
    """The image installs the extras for a ClickHouse server, PostgreSQL and the brokers, and copies what the wheel
    carries."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    copied = set(re.findall(r"^COPY (?!--from)([\w/. ]+) [\w./]+$", text, re.M))
    assert {"tracker", "collectors", "dashboards", "alerts", "docs/runbooks", "scripts"} <= copied
    assert ".[server,grpc,postgres,kafka,rabbitmq,nats]" in text
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8")
    sources = {name for line in copied for name in line.split()}
    assert all(f"!{name}" in ignored for name in sources)


def test_prometheus_finds_rules_token_and_tracker(promtool: str, tmp_path: Path) -> None:
    """promtool accepts the configuration with the files at the places where the container has them, and finds every
    alert; the job is the one that TrackerDown looks for."""
    text = (DEPLOY / "prometheus/prometheus.yml").read_text("utf-8")
    config = yaml.safe_load(text)
    [rules] = config["rule_files"]
    assert _inside("prometheus", rules) == FILE
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "tracker")
    token = job["authorization"]["credentials_file"]
    assert ("token", str(Path(token).parent)) in _mounts("prometheus")
    assert job["static_configs"][0]["targets"] == ["tracker:8000"]
    (tmp_path / "token").write_text("t")
    (tmp_path / "prometheus.yml").write_text(text.replace(rules, str(FILE)).replace(token, str(tmp_path / "token")))
    checked = _checked(promtool, "check", "config", str(tmp_path / "prometheus.yml"))
    assert f"{len(alerts())} rules found" in checked


def _option(service: str, name: str) -> str:
    """What a service's command is given as --NAME=."""
    return next(word.partition("=")[2] for word in SERVICES[service]["command"] if word.startswith(f"--{name}="))


def test_prometheus_takes_reloads() -> None:
    """`tracker alerts apply` can put rules in force; the configuration is the one that is mounted."""
    assert "--web.enable-lifecycle" in SERVICES["prometheus"]["command"]
    assert _inside("prometheus", _option("prometheus", "config.file")) == DEPLOY / "prometheus/prometheus.yml"


def test_the_token_is_put_where_prometheus_reads_it() -> None:
    """The one-shot container writes into the volume that Prometheus mounts, under the name that it reads."""
    [(volume, folder)] = _mounts("token")
    assert volume == "token"
    command = SERVICES["token"]["command"][0]
    assert f"> {folder}/prometheus" in command
    assert "--scope read" in command
    assert SERVICES["prometheus"]["depends_on"]["token"] == {"condition": "service_completed_successfully"}


def test_alertmanager_accepts_its_routes(amtool: str) -> None:
    """amtool accepts the configuration; it is the one that the container is told of, and all goes to operations."""
    path = _inside("alertmanager", _option("alertmanager", "config.file"))
    assert "SUCCESS" in _checked(amtool, "check-config", str(path))
    for severity in ("page", "ticket"):
        routed = _checked(
            amtool, "config", "routes", "test", f"--config.file={path}", f"severity={severity}", "flow=orders"
        )
        assert routed.splitlines()[0] == "operations"


def test_grafana_gets_both_data_sources_and_the_dashboards() -> None:
    """Data sources are of the plugins that panels ask, their hosts are services; the provider looks where they are
    mounted; the plugin is installed."""
    sources = yaml.safe_load((DEPLOY / "grafana/datasources.yaml").read_text("utf-8"))["datasources"]
    assert {source["type"] for source in sources} == {CLICKHOUSE["type"], PROMETHEUS["type"]}
    views = next(source for source in sources if source["type"] == CLICKHOUSE["type"])
    assert (views["jsonData"]["host"], views["jsonData"]["port"]) == ("tracker", 8000)
    assert "8000:8000" in SERVICES["tracker"]["ports"][0]
    assert views["jsonData"]["defaultDatabase"] == variables.DATABASE
    [provider] = yaml.safe_load((DEPLOY / "grafana/dashboards.yaml").read_text("utf-8"))["providers"]
    assert _inside("grafana", provider["options"]["path"]) == ROOT / "dashboards"
    told = SERVICES["grafana"]["environment"]
    assert CLICKHOUSE["type"] in told["GF_PLUGINS_PREINSTALL_SYNC"]
    assert _inside("grafana", told["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()


def test_files_and_push_make_the_same_data_sources() -> None:
    """Who begins with files and pushes later, or the other way round, gets no second data source."""
    kept = yaml.safe_load((DEPLOY / "grafana/datasources.yaml").read_text("utf-8"))["datasources"]
    pushed = sources(Sought("http://prometheus:9090", "tracker", 8000))
    for one in (*kept, *pushed):
        one["jsonData"] = {
            k: v for k, v in one["jsonData"].items() if k not in ("timeInterval", "httpMethod", "secure")
        }
        one.pop("secureJsonData", None)
        one.pop("isDefault", None)
    assert kept == pushed


def test_grafana_may_only_read() -> None:
    """Its password is the token with scope `read` that the one-shot container left in the volume that it mounts."""
    source = yaml.safe_load((DEPLOY / "grafana/datasources.yaml").read_text("utf-8"))["datasources"][1]
    assert source["secureJsonData"] == {"password": "$GRAFANA_TRACKER_TOKEN"}
    [(_, folder)] = _mounts("token")
    assert f"token create grafana --scope read > {folder}/grafana" in SERVICES["token"]["command"][0]
    assert ("token", folder) in _mounts("grafana")
    assert f"GRAFANA_TRACKER_TOKEN=$$(cat {folder}/grafana)" in SERVICES["grafana"]["command"][0]
    assert SERVICES["grafana"]["depends_on"]["token"] == {"condition": "service_completed_successfully"}


def _checked(*command: str) -> str:
    """What the tool says; AssertionError when it refuses."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr
