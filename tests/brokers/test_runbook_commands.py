"""Every command of every runbook is run, as pasted, against a tracker in trouble and a real Kafka."""

from __future__ import annotations

import gc
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from collectors.base import Collector
from collectors.kafka.tail import tail
from tests.brokers.kafka_topic import own_topic, read_to_now
from tests.docs.pages import HEADINGS, ROOT
from tests.e2e.service import Service, environment, now_us
from tests.servers.ports import free_port
from tests.servers.process import Process
from tracker.assets import folder
from tracker.cli.errors import CommandError
from tracker.cli.main import app

pytestmark = pytest.mark.brokers

SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 1s}
  - {hop: billing,  stage: ack,     after: kafka-eu, within: 1s}
objectives:
  delivery: {target: 99%, window: 1d}
replay: {sources: [log: kafka-eu]}
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
    "pid": "4711",
    "config": "/etc/message-tracker/collectors.yaml",
}


class Trouble:
    """Ten messages in a topic, of which billing skipped m-7; m-13 was produced and never came to the topic. `running`:
    where `collectors run` shows how it is, and its process id."""

    def __init__(self, service: Service, collector: Collector, running: dict[str, str]) -> None:
        self.service, self.running, self._collector, self._reports = service, running, collector, 0
        service.http.put("/v1/flows/orders", content=SPEC).raise_for_status()
        self.report()
        made = [f"m-{n}" for n in range(10)]
        service.send(self._event(name, "checkout", "produce") for name in [*made, "m-13"])
        self.observe()
        service.send(self._event(name, "billing", "ack") for name in made if name != "m-7")
        both = {"lost", "unacknowledged"}
        service.until(self.open_findings, lambda found: {f["kind"] for f in found} == both)
        service.until(self.incidents, lambda found: {i["kind"] for i in found} == both)  # a moment behind its findings

    def _event(self, name: str, hop: str, stage: str, **more: Any) -> dict[str, Any]:
        return {"flow": "orders", "message_id": name, "hop": hop, "stage": stage, "observed_at": now_us(), **more}

    def report(self) -> None:
        """Everybody vouches for everything until now."""
        self._reports += 1
        places = (("checkout", "produce"), ("kafka-eu", "persist"), ("billing", "ack"))
        sources = [{"flow": "orders", "hop": hop, "stage": stage, "source": "s"} for hop, stage in places]
        body = {"collector": "c", "epoch": 1, "sequence": self._reports, "sources": sources}
        self.service.http.post("/v1/coverage", content=json.dumps(body)).raise_for_status()

    def observe(self) -> list[dict[str, Any]]:
        """Send what the topic's tail sees; returns it."""
        raws = read_to_now(self._collector)
        seen = [msgspec.to_builtins(event) for raw in raws for event in self._collector.decode(raw)]
        self.service.send(seen)
        return seen

    def consume_replays(self) -> None:
        """Wait until a replay put m-7 into the topic again, and process it this time."""

        def again() -> list[dict[str, Any]]:
            self.report()
            return [event for event in self.observe() if event.get("replay_id")]

        for event in self.service.until(again, bool):
            assert event["message_id"] == "m-7"
            self.service.send([self._event("m-7", "billing", "ack", replay_id=event["replay_id"])])
        self.service.until(self.open_findings, lambda found: all(f["kind"] == "lost" for f in found))

    def open_findings(self) -> list[dict[str, Any]]:
        """Findings that are open now."""
        self.report()
        return list(self.service.get("/v1/findings", status="open")["items"])

    def incidents(self) -> list[dict[str, Any]]:
        """Every incident, newest first."""
        return list(self.service.get("/v1/incidents")["items"])

    def incident(self, kind: str) -> str:
        """The incident of this kind; any where there is none."""
        found = self.incidents()
        return str(next((i["id"] for i in found if i["kind"] == kind), found[0]["id"]))


@pytest.fixture(scope="module")
def trouble(kafka_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """A tracker that is connected to the Kafka that holds the messages."""
    home = tmp_path_factory.mktemp("runbooks")
    with own_topic(kafka_server) as topic:
        topic.put([f"m-{n}" for n in range(10)])
        hops = home / "hops.yaml"
        hops.write_text(f'kafka-eu: {{kind: kafka, url: "{kafka_server}", topic: {topic.name}}}\n')
        service = Service(home, "--insecure", TRACKER_HOPS=str(hops)).start()
        route = {"topic": topic.name, "flow": "orders", "hop": "kafka-eu"}
        collector = tail("runbooks", {"url": topic.url, "topics": [route]})
        listen = f"127.0.0.1:{free_port()}"
        config = home / "collectors.yaml"
        config.write_text(COLLECTORS.format(tracker=service.url, home=home, listen=listen))
        process = Process("collectors", [*RUN, str(config)], home)

        def lives() -> None:
            httpx.get(f"http://{listen}/healthz").raise_for_status()

        process.start(lives)
        yield Trouble(service, collector, {"listen": listen, "pid": str(process.pid), "config": str(config)})
        process.stop()
        collector.close()
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


def test_unacknowledged_leads_from_the_alert_to_recovery(trouble: Trouble, tmp_path: Path) -> None:
    """Following the runbook names m-7, replays it from the log, and ends with nothing open."""
    shell = Shell(trouble, tmp_path, {"incident": trouble.incident("unacknowledged")})
    parts = _parts("unacknowledged")
    looked = [said for block in parts["Look here"] for said in shell.paste(block)]
    _worked(looked)
    assert "m-7" in looked[0].stdout
    assert "kafka-eu still holds a copy" in looked[0].stdout
    assert "unacknowledged" in looked[-1].stdout
    done = [said for block in parts["Do"] for said in shell.paste(block)]
    _worked(done)
    assert "nothing was sent" in done[1].stdout
    trouble.consume_replays()
    verified = [said for block in parts["Verify"] for said in shell.paste(block)]
    _worked(verified)
    assert "no finding matches" in verified[1].stdout
    [recovered] = trouble.service.get("/v1/findings", status="recovered")["items"]
    assert (recovered["message_id"], recovered["by"]) == ("m-7", "replay")


def test_lost_names_what_only_the_producer_can_send(trouble: Trouble, tmp_path: Path) -> None:
    """Following the runbook gives a file with m-13, and the plan says that no copy is known."""
    shell = Shell(trouble, tmp_path, {"incident": trouble.incident("lost")})
    for heading in ("Look here", "Do"):
        _worked([said for block in _parts("lost")[heading] for said in shell.paste(block)])
    assert {finding["message_id"] for finding in json.loads((tmp_path / "lost.json").read_text())} == {"m-13"}
    _worked([said for block in _parts("lost")["Verify"] for said in shell.paste(block)])


OTHERS = sorted(path.stem for path in folder("runbooks").glob("*.md") if path.stem not in ("unacknowledged", "lost"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a command leaves its connection to the end of its process
@pytest.mark.parametrize("name", OTHERS)
def test_every_other_command_runs_as_pasted(trouble: Trouble, tmp_path: Path, name: str) -> None:
    """No command is refused for what it is: only a decision on a replay may meet a state that does not allow it."""
    copied = {"incident": trouble.incident(name)}
    replays = trouble.service.get("/v1/replays")["items"]
    if replays:
        copied["replay"] = replays[0]["id"]
    shell = Shell(trouble, tmp_path, copied, quick=True)
    for heading in HEADINGS:
        for said in (said for block in _parts(name).get(heading, ()) for said in shell.paste(block)):
            command = said.args[-1]
            if re.search(r"tracker replay (approve|resume|cancel|status)", command):
                assert not re.search(r"Usage|No such", said.stderr), command
            else:
                _worked([said])
