"""Every command of every runbook is run, as pasted, against a tracker in trouble and a real Kafka."""

from __future__ import annotations

import gc
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from collectors.base import Collector
from collectors.kafka.tail import tail
from tests.brokers.kafka_topic import Topic, own_topic, read_to_now
from tests.docs.pages import HEADINGS, ROOT
from tests.e2e.service import Service, environment, now_us
from tests.servers.ports import free_port
from tests.servers.process import Process
from tests.servers.prometheus import Alertmanager, Prometheus
from tests.unit.collectors import archiving
from tracker.alerting import routing
from tracker.alerting.receivers import Receivers
from tracker.alerting.watchdog import NAME as WATCHDOG
from tracker.assets import folder
from tracker.cli.errors import CommandError
from tracker.cli.main import app

pytestmark = [
    pytest.mark.brokers,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # a command leaves its connection to the end of its process
]

SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka-eu, stage: persist,   after: checkout, within: 1s}
  - {hop: kafka-us, stage: replicate, after: kafka-eu, within: 1s, same_payload: true}
  - {hop: billing,  stage: ack,       after: kafka-eu, within: 1s}
objectives:
  delivery: {target: 99%, window: 1d}
replay: {sources: [log: kafka-eu, snapshot: kafka-eu]}
"""
WAITING = """flow: waiting
checkpoints:
  - {hop: kafka-eu, stage: persist}
  - {hop: billing, stage: ack, after: kafka-eu, within: 1s}
replay: {sources: [log: kafka-eu]}
"""
FLOWS = {"orders": SPEC, "waiting": WAITING}
HOPS = """
kafka-eu:
  kind: kafka
  url: "{url}"
  topic: {eu}
  snapshot: {{kind: archive, url: "file://{home}/archive", key: "file:{home}/key", hop: log}}
kafka-us: {{kind: kafka, url: "{url}", topic: {us}}}
billing:
  dead_letter: {{kind: kafka, url: "{url}", topic: {dead}}}
"""
COLLECTORS = """tracker: {{url: "{tracker}"}}
spool: {home}/spool
listen: {listen}
collectors:
  - name: archive
    kind: memory
    topics: [{{topic: orders, flow: orders, hop: archive}}]
    archive: {{url: "file://{home}/kept", unencrypted: true, flows: [orders]}}
"""
RUN = [sys.executable, "-m", "collectors.main", "run"]
PLACEHOLDERS = {
    "incident": "inc-000000000000",
    "replay": "r-000000000000",
    "listen": "127.0.0.1:9464",
    "prometheus": "http://127.0.0.1:9090",
    "alertmanager": "http://127.0.0.1:9093",
    "pid": "4711",
    "config": "/etc/message-tracker/collectors.yaml",
}


class Trouble:
    """Messages on their way over a real Kafka: billing skipped m-7 and put m-8 aside, the mirror skipped m-3 and
    spoiled m-5; m-13 and m-14 were produced and never came to the log, and an archive holds m-14. `running`: where
    `collectors run` shows how it is, and its process id."""

    def __init__(self, service: Service, topics: Mapping[str, Topic], running: dict[str, str]) -> None:
        self.service, self.running, self._topics, self._reports = service, running, topics, 0
        self._tails = {
            hop: self._tailed(hop, stage) for hop, stage in (("kafka-eu", "persist"), ("kafka-us", "replicate"))
        }
        made = [f"m-{n}" for n in range(10)]
        topics["kafka-eu"].put(made)
        topics["kafka-us"].put([name for name in made if name not in ("m-3", "m-5")])
        topics["kafka-us"].put(["m-5"], value=b"spoiled")
        topics["billing"].put(["m-8"], headers={"kafka_dlt-exception-fqcn": b"Boom"})
        for flow, spec in FLOWS.items():
            service.http.put(f"/v1/flows/{flow}", content=spec).raise_for_status()
        self.report()
        service.send(self._event(name, "checkout", "produce") for name in [*made, "m-13", "m-14"])
        self.observe()
        service.send(self._event(name, "billing", "ack") for name in made if name not in ("m-7", "m-8"))
        service.send([self._event("m-8", "billing", "dead_letter", reason="Boom")])
        place = {"partition": f"{topics['kafka-eu'].name}/0", "offset": 0}
        service.send([self._event(f"w-{n}", "kafka-eu", "persist", flow="waiting", **place) for n in range(4)])
        wrong = {"lost", "unacknowledged", "dead_lettered", "under_replicated", "divergent"}
        service.until(self.open_findings, lambda found: {f["kind"] for f in found} == wrong)
        service.until(self.incidents, lambda found: {i["kind"] for i in found} == wrong)  # a moment behind its findings

    def close(self) -> None:
        """Let go of the broker."""
        for one in self._tails.values():
            one.close()

    def _tailed(self, hop: str, stage: str) -> Collector:
        topic = self._topics[hop]
        return tail(hop, {"url": topic.url, "topics": [
            {"topic": topic.name, "flow": "orders", "hop": hop, "stage": stage}]})  # fmt: skip

    def _event(self, name: str, hop: str, stage: str, **more: Any) -> dict[str, Any]:
        return {"flow": "orders", "message_id": name, "hop": hop, "stage": stage, "observed_at": now_us(), **more}

    def report(self) -> None:
        """Everybody vouches for everything until now."""
        self._reports += 1
        places = [("orders", "checkout", "produce"), ("orders", "kafka-us", "replicate")]
        places += [(f, *place) for f in FLOWS for place in (("kafka-eu", "persist"), ("billing", "ack"))]
        sources = [{"flow": flow, "hop": hop, "stage": stage, "source": "s"} for flow, hop, stage in places]
        body = {"collector": "c", "epoch": 1, "sequence": self._reports, "sources": sources}
        self.service.http.post("/v1/coverage", content=json.dumps(body)).raise_for_status()

    def observe(self) -> None:
        """Send what the tails of the topics see. What a replay brings to the log is mirrored and taken."""
        seen = self._read("kafka-eu")
        again = [event for event in seen if event.get("replay_id")]
        if "m-14" in [event["message_id"] for event in again]:
            self._topics["kafka-us"].put(["m-14"], value=archiving.record(14)[0].value)
        seen += [
            self._event(e["message_id"], "billing", "ack", replay_id=e["replay_id"], delivery=f"offset {e['offset']}")
            for e in again
        ]
        self.service.send([*seen, *self._read("kafka-us")])

    def _read(self, hop: str) -> list[dict[str, Any]]:
        tailed = self._tails[hop]
        return [msgspec.to_builtins(event) for raw in read_to_now(tailed) for event in tailed.decode(raw)]

    def until_recovered(self, kind: str, name: str) -> None:
        """Wait until a replay brought the message, and it was seen where it was missing: recovered by that."""

        def found() -> list[dict[str, Any]]:
            self.observe()
            self.report()
            return [f for f in self.service.get("/v1/findings", kind=kind, message_id=name)["items"] if not f["cause"]]

        self.service.until(found, lambda all_: [(f["status"], f["by"]) for f in all_] == [("recovered", "replay")])

    def open_findings(self, flow: str = "orders") -> list[dict[str, Any]]:
        """Findings that are open now."""
        self.report()
        return list(self.service.get("/v1/findings", status="open", flow=flow)["items"])

    def incidents(self) -> list[dict[str, Any]]:
        """Every incident of the flow, newest first."""
        return list(self.service.get("/v1/incidents", flow="orders")["items"])

    def incident(self, kind: str) -> str:
        """The incident of this kind; any where there is none."""
        found = self.incidents()
        return str(next((i["id"] for i in found if i["kind"] == kind), found[0]["id"]))


@pytest.fixture(scope="module")
def trouble(kafka_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """A tracker that is connected to the Kafka that holds the messages."""
    home = tmp_path_factory.mktemp("runbooks")
    archiving.keep(home, [[14]])
    with own_topic(kafka_server) as eu, own_topic(kafka_server) as us, own_topic(kafka_server) as dead:
        hops = home / "hops.yaml"
        hops.write_text(HOPS.format(url=kafka_server, eu=eu.name, us=us.name, dead=dead.name, home=home))
        service = Service(home, "--insecure", TRACKER_HOPS=str(hops)).start()
        listen = f"127.0.0.1:{free_port()}"
        config = home / "collectors.yaml"
        config.write_text(COLLECTORS.format(tracker=service.url, home=home, listen=listen))
        process = Process("collectors", [*RUN, str(config)], home)

        def lives() -> None:
            httpx.get(f"http://{listen}/healthz").raise_for_status()

        process.start(lives)
        running = {"listen": listen, "pid": str(process.pid), "config": str(config)}
        made = Trouble(service, {"kafka-eu": eu, "kafka-us": us, "billing": dead}, running)
        yield made
        process.stop()
        made.close()
        service.close()


class Shell:
    """Somebody who pastes block after block, and copies ids where the runbook says so."""

    def __init__(self, trouble: Trouble, home: Path, copied: dict[str, str], quick: bool = False) -> None:
        self._trouble, self._home, self._quick = trouble, home, quick
        self._copied = trouble.running | copied
        self._set: dict[str, str] = {}

    def paste(self, block: str) -> list[subprocess.CompletedProcess[str]]:
        """Run the lines of a block; what each said."""
        said = []
        for line in filter(None, map(str.strip, block.splitlines())):
            assignment = re.fullmatch(r"(\w+)=(\S+)", line)
            if assignment:
                name, value = assignment.groups()
                self._set[name] = self._copied.get(name, value) if value == PLACEHOLDERS.get(name) else value
                continue
            said.append(
                self._here(line) if self._quick and re.fullmatch(r"tracker [^|;&>]*", line) else self._run(line)
            )
            started = re.search(r"\b(r-[0-9a-f]{12})\b", said[-1].stdout)
            if started:
                self._copied["replay"] = started[1]
        return said

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        env = environment(TRACKER_URL=self._trouble.service.url, **self._set)
        env["PATH"] = f"{ROOT / '.venv/bin'}:{env['PATH']}"
        self._trouble.report()
        return subprocess.run(["sh", "-c", line], cwd=self._home, env=env, capture_output=True, text=True, timeout=60)

    def _here(self, line: str) -> subprocess.CompletedProcess[str]:
        """The same command in this process: starting Python costs more than all the rest."""
        expanded = re.sub(r"\$\{?(\w+)\}?", lambda match: self._set[match[1]], line)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRACKER_URL", self._trouble.service.url)
            ran = CliRunner().invoke(app, shlex.split(expanded)[1:])
        code, error = ran.exit_code, ran.stderr
        if isinstance(ran.exception, CommandError):
            code, error = ran.exception.code, str(ran.exception)
        said = subprocess.CompletedProcess([expanded], code, ran.stdout, error)
        del ran
        gc.collect()
        return said


def _parts(name: str) -> dict[str, list[str]]:
    """The shell blocks of a runbook under each of its headings."""
    pieces = re.split(r"^## (.+)$", (folder("runbooks") / f"{name}.md").read_text("utf-8"), flags=re.M)
    return {
        heading: re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
        for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def _worked(said: list[subprocess.CompletedProcess[str]]) -> None:
    """Each ran to its end: 0, or 1 where `reconcile` says that something is missing."""
    for one in said:
        allowed = (0, 1) if "reconcile" in one.args[-1] else (0,)
        assert one.returncode in allowed, f"{one.args[-1]}\n{one.stdout}{one.stderr}"


REPLAYED = {
    "unacknowledged": ("m-7", ["kafka-eu, kafka-us still hold a copy", "log: kafka-eu"]),
    "dead_lettered": ("m-8", ["dead_letter: billing"]),
    "under_replicated": ("m-3", ["peer: kafka-eu"]),
    "divergent": ("m-5", ["peer: kafka-eu"]),
    "lost": ("m-14", ["snapshot: kafka-eu", "no copy"]),
}
"""By kind of finding: the message that its runbook brings back, and what the runbook's commands show on the way."""


@pytest.mark.parametrize("kind", REPLAYED)
def test_a_runbook_leads_from_the_alert_to_recovery(trouble: Trouble, tmp_path: Path, kind: str) -> None:
    """Pasted block by block it names the message, shows a plan that sends nothing, replays from the source that it
    chose, and ends with the message seen where it was missing. What no source holds is named as lost and given up."""
    name, shown = REPLAYED[kind]
    shell, parts = Shell(trouble, tmp_path, {"incident": trouble.incident(kind)}, quick=True), _parts(kind)
    looked = [said for heading in ("Look here", "Do") for block in parts[heading] for said in shell.paste(block)]
    _worked(looked)
    told = "".join(said.stdout for said in looked)
    assert [one for one in (name, "nothing was sent", *shown) if one not in told] == [], told
    trouble.until_recovered(kind, name)
    verified = [said for block in parts["Verify"] for said in shell.paste(block)]
    _worked(verified)
    if kind == "lost":
        assert re.search(r"1 lost for good .* 1 gone", "".join(said.stdout for said in verified))
        assert "m-13" in "".join(said.stdout for said in verified)
    else:
        assert "no finding matches" in "".join(said.stdout for said in verified)

    def incident() -> dict[str, Any]:
        trouble.report()
        [found] = [one for one in trouble.incidents() if one["kind"] == kind]
        return dict(found)

    ended = trouble.service.until(incident, lambda one: one["status"] == "resolved")
    assert (ended["recovered"] - ended["recovered_by_itself"], ended["abandoned"]) == (1, int(kind == "lost"))


def test_replay_waiting_leads_from_the_alert_to_a_decision(trouble: Trouble, tmp_path: Path) -> None:
    """One that waits is approved, one that is paused goes on, one that is not wanted ends: each as pasted."""
    trouble.service.until(lambda: trouble.open_findings("waiting"), lambda found: len(found) == 4)
    decided = []
    for n, block in enumerate(_parts("replay-waiting")["Do"]):
        ids = [f"w-{n}", "w-3"] if "resume" in block else [f"w-{n}"]  # two at this rate are still under way then
        body = {"flow": "waiting", "message_ids": ids, "dry_run": False, "rate": 0.01}
        replay = trouble.service.http.post("/v1/replays", json=body).raise_for_status().json()["id"]
        if "resume" in block:
            for step in ("approve", "pause"):
                trouble.service.http.post(f"/v1/replays/{replay}/{step}", json={"why": ""}).raise_for_status()
        shell = Shell(trouble, tmp_path, {"replay": replay}, quick=True)
        said = [one for part in ("Look here",) for b in _parts("replay-waiting")[part] for one in shell.paste(b)]
        said += shell.paste(block) + [one for b in _parts("replay-waiting")["Verify"] for one in shell.paste(b)]
        _worked(said)
        decided.append((block.split()[2], trouble.service.get(f"/v1/replays/{replay}")["status"]))
    assert [word for word, _ in decided] == ["approve", "resume", "cancel"]
    assert all(status in ("approved", "running", "done") for _, status in decided[:2])
    assert decided[2][1] == "cancelled"


APART = (*REPLAYED, "replay-waiting", "watchdog")
OTHERS = sorted(path.stem for path in folder("runbooks").glob("*.md") if path.stem not in APART)


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_command_runs_as_pasted(trouble: Trouble, tmp_path: Path, name: str) -> None:
    """No command is refused."""
    shell = Shell(trouble, tmp_path, {"incident": trouble.incident(name)}, quick=True)
    for heading in HEADINGS:
        _worked([said for block in _parts(name).get(heading, ()) for said in shell.paste(block)])


def test_the_watchdogs_commands_show_whether_it_is_told(
    trouble: Trouble,
    tmp_path: Path,
    prometheus_server: Callable[[str], Prometheus],
    alertmanager_server: Callable[[str], Alertmanager],
) -> None:
    """Asked of a Prometheus and its Alertmanager they show that the one knows the other, and the other the alert."""
    alertmanager = alertmanager_server(routing.rendered((), Receivers()))
    target = f"127.0.0.1:{alertmanager.port}"
    prometheus = prometheus_server(f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{target}']}}]}}]}}")
    firing = [{"labels": {"alertname": WATCHDOG}}]  # as Prometheus sends it: the first one is sent once a minute only
    httpx.post(f"{alertmanager.url}/api/v2/alerts", json=firing).raise_for_status()
    servers = {"prometheus": prometheus.url, "alertmanager": alertmanager.url}
    shell, parts = Shell(trouble, tmp_path, servers, quick=True), _parts("watchdog")
    [look], [do] = parts["Look here"], parts["Do"]

    def shown() -> list[subprocess.CompletedProcess[str]]:
        said = shell.paste(look)
        _worked(said)
        return said

    said = trouble.service.until(shown, lambda said: target in said[1].stdout)
    assert '"alertname":"Watchdog"' in said[-1].stdout
    _worked(shell.paste(do))
