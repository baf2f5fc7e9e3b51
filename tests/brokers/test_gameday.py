"""`tracker canary` and `tracker drill`, run as a user runs them, with real brokers: what was done to canaries is what
is found, by id, and the business beside them sees nothing of it. What docs/gameday.md shows is what they print."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.brokers.gameday import FILES, PAGE, Installation, on_kafka, on_rabbitmq
from tests.docs.pages import ROOT
from tracker.cli.errors import CommandError
from tracker.cli.main import app

pytestmark = pytest.mark.brokers
PRINTED = dict(re.findall(r'^```(?:text|markdown) title="([^"]+)"\n(.*?)^```$', PAGE, re.M | re.S))


@pytest.fixture(scope="module")
def kafka(kafka_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """With a log, of which a replay can be made."""
    with on_kafka(kafka_server, tmp_path_factory.mktemp("gameday-kafka")) as made:
        yield made


@pytest.fixture(scope="module")
def rabbitmq(rabbitmq_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """With queues, which keep no copy."""
    with on_rabbitmq(rabbitmq_server, tmp_path_factory.mktemp("gameday-rabbitmq")) as made:
        yield made


def undisturbed(made: Installation, run: str) -> None:
    """The business knows of no canary of this run."""
    known = made.service.get(f"/v1/flows/{made.flow}/messages", limit=1000)["items"]
    assert not [one for one in known if one["message_id"].startswith(run)]
    assert made.service.get("/v1/quarantine")["items"] == []


def kind_of(printed: str) -> list[str]:
    """Its lines, whatever their numbers, times and ids are."""
    text = re.sub(r"(drill|canary|r)-[0-9a-fT-]+", r"\1-ID", printed)
    return [re.sub(r"[\d:.]*\d", "N", line).strip() for line in text.splitlines() if line.strip()]


def test_what_a_consumer_skips_is_named_and_replayed(kafka: Installation, tmp_path: Path) -> None:
    """On Kafka the log holds the canaries, so a replay brings them back; the report is as the page shows it."""
    assert kafka.draft == FILES["canary.yaml"]
    file = tmp_path / "drill.md"
    report = kafka.drill("skip", "--messages", "9", "--report", str(file))
    assert report["found"] == report["hit"]
    assert len(report["found"]) == 3
    assert report["replay"].startswith("r-")
    assert report["rpo"] == {"messages": 0, "no_hop_held": 0}
    times = report["times"]
    order = [times[name] for name in ("fault_began", "known", "found_first", "replay_asked", "recovered")]
    assert order == sorted(order)
    assert json.loads((tmp_path / "drill.json").read_text()) == report
    assert kind_of(file.read_text()) == kind_of(PRINTED["drill.md"])
    undisturbed(kafka, report["run"])


def test_canaries_for_a_while(rabbitmq: Installation) -> None:
    """On RabbitMQ: each is sent, persisted, consumed and delivered, and the objective of the lane counts them."""
    ran = rabbitmq.run("canary", rabbitmq.lane, "--for", "3s", "--rate", "5/s", "--consume", "billing", "--json")
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    last = json.loads(ran.stdout.splitlines()[-1])
    assert last["ended"]
    assert last["sent"] > 5
    assert last["delivered"] + last["late"] == last["sent"]
    assert last["missing"] == {}
    assert 0 < last["latency_p50_s"] <= last["latency_p99_s"]
    [slo] = [row for row in rabbitmq.service.get("/v1/slos")["items"] if row["flow"] == rabbitmq.lane]
    assert slo["good"] + slo["bad"] >= last["sent"]
    undisturbed(rabbitmq, last["run"])


@pytest.mark.parametrize(("words", "said"), [
    (["canary", "orders"], "not marked as a flow of canaries"),
    (["drill", "orders", "--fault", "skip", "--consume", "billing"], "not marked as a flow of canaries"),
    (["drill", "orders.canary", "--fault", "skip"], "--consume HOP"),
    (["drill", "orders.canary", "--fault", "fire"], "one of skip, withhold"),
    (["drill", "orders.canary", "--fault", "drop"], "say --yes"),
    (["drill", "orders.canary", "--fault", "drop", "--longest", "5s", "--yes"], "--longest is 5 s"),
    (["canary", "orders.canary", "--consume", "mail"], "has acks at billing"),
    (["canary", "orders.canary", "--rate", "1000/s"], "50/s at most"),
    (["canary", "orders.canary", "--hops", "same.yaml"], "the same place as 'kafka-eu'"),
    (["canary", "orders.canary", "--hops", "empty.yaml"], "is not there"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a command leaves its connection to the end of its process
def test_what_is_refused(
    kafka: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    """Before anything is sent, and in words that help."""
    hops = yaml.safe_load(kafka.hops.read_text())
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(hops | {"kafka-eu.canary": hops["kafka-eu"]}))
    (tmp_path / "empty.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKER_URL", kafka.service.url)
    monkeypatch.setenv("TRACKER_HOPS", str(kafka.hops))
    ran = CliRunner().invoke(app, words)
    assert isinstance(ran.exception, CommandError), ran.output
    assert said in str(ran.exception)
    assert ran.exception.code == 2
    del ran
    gc.collect()


@pytest.mark.long
def test_a_canary_that_is_stopped(rabbitmq: Installation) -> None:
    """SIGTERM: no more are sent, what is on its way is waited for, and sources are signed off."""
    words = ["--rate", "5/s", "--consume", "billing", "--every", "1s", "--json"]
    with rabbitmq.started("canary", rabbitmq.lane, *words) as canary:
        assert canary.stdout is not None
        first = json.loads(canary.stdout.readline())
        canary.terminate()
        last = json.loads(canary.communicate(timeout=60)[0].splitlines()[-1])
    assert canary.returncode == 0
    assert not first["ended"]
    assert (last["ended"], last["in_flight"], last["missing"]) == (True, 0, {})
    rows = rabbitmq.service.get("/v1/coverage", flow=rabbitmq.lane, limit=1000)["items"]
    newest = {row["hop"]: row for row in reversed(rows) if row["collector"].startswith("canary.")}
    assert set(newest) == {"checkout", "billing"}
    assert all(row["closed"] for row in newest.values())


@pytest.mark.long
def test_canaries_that_stray_stop_at_the_first(kafka: Installation, tmp_path: Path) -> None:
    """A file of hops that leads into the topic of the business, and does not say so: one canary shows it."""
    place = yaml.safe_load(kafka.hops.read_text())["kafka-eu"]
    (tmp_path / "hops.yaml").write_text(yaml.safe_dump({"kafka-eu.canary": place}))
    ran = kafka.run("canary", kafka.lane, "--rate", "50/s", "--for", "5s", hops=tmp_path / "hops.yaml")
    assert ran.returncode == 2, ran.stdout
    assert "flow orders counts canaries" in ran.stderr
    known = kafka.service.get("/v1/flows/orders/messages", limit=1000)["items"]
    assert len([one for one in known if one["message_id"].startswith("canary-")]) == 1


@pytest.mark.long
@pytest.mark.parametrize(("fault", "count", "gone"), [
    ("withhold", 3, 0), ("drop", 3, 3), ("duplicate", 0, 0), ("corrupt", 3, 0), ("blind", 0, 0),
])  # fmt: skip
def test_each_fault_on_kafka(kafka: Installation, fault: str, count: int, gone: int) -> None:
    """Every expectation of every fault holds, by id."""
    report = kafka.drill(fault, "--messages", "9")
    assert len(report["hit"]) == 3
    assert len(report["found"]) == count
    assert report["rpo"] == {"messages": 0, "no_hop_held": gone}
    undisturbed(kafka, report["run"])


@pytest.mark.long
@pytest.mark.parametrize(("fault", "count"), [("skip", 3), ("withhold", 3), ("drop", 3), ("blind", 0)])
def test_each_fault_on_rabbitmq(rabbitmq: Installation, fault: str, count: int) -> None:
    """The same; a queue keeps no copy, so who produced them sends again what was skipped."""
    report = rabbitmq.drill(fault, "--messages", "9")
    assert len(report["hit"]) == 3
    assert len(report["found"]) == count
    assert not report["replay"]
    undisturbed(rabbitmq, report["run"])


@pytest.mark.long
def test_a_broker_that_the_operator_kills(kafka_factory: Any, tmp_path: Path) -> None:
    """`manual`: whatever was confirmed is acked in the end, named meanwhile, or not known; nothing else is named."""
    broker = kafka_factory()
    with on_kafka(broker.bootstrap, tmp_path) as made:
        words = ["--fault", "manual", "--yes", "--json", "--consume", "billing", "--messages", "60", "--within", "30s"]
        with made.started("drill", made.lane, *words) as drill:
            assert drill.stdin is not None
            assert drill.stderr is not None
            for line in drill.stderr:
                if "press Enter when it has begun" in line:
                    drill.stdin.write("\n")
                    drill.stdin.flush()
                    broker.kill()
                    time.sleep(6)  # longer than the lane's deadlines
                    broker.start()
                    drill.stdin.write("\n")
                    drill.stdin.close()
                    break
            report = json.loads(drill.stdout.read())
        assert report["good"], report["checks"]
        assert report["canaries"]["sent"] > 40
        assert report["rpo"]["messages"] == 0
        undisturbed(made, report["run"])


@pytest.mark.long
def test_a_consumer_of_the_applications_own(kafka: Installation, tmp_path: Path) -> None:
    """As on the page: it acks canaries, and does nothing else with them."""
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    hops = yaml.safe_load(kafka.hops.read_text())
    for hop, name in (("kafka-eu.canary", "orders.canary"), ("kafka-eu", "orders")):
        program = program.replace(f'"{name}"]', f'"{hops[hop]["topic"]}"]')
    program = program.replace('(["orders",', f'(["{hops["kafka-eu"]["topic"]}",')
    settings = {"bootstrap.servers": hops["kafka-eu"]["url"].removeprefix("kafka://"), "group.id": "the-application",
                "auto.offset.reset": "earliest", "enable.auto.commit": False}  # fmt: skip
    file = tmp_path / "application.py"
    file.write_text(
        f"{program}\n\nfrom collectors.emitter import Emitter\n\n"
        f"emitter = Emitter({kafka.service.url!r}, collector='billing-1', spool={str(tmp_path / 'spool')!r})\n"
        f"work({settings!r}, emitter, lambda message: print('processed', message.value(), flush=True))\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, file], env=env, stdout=subprocess.PIPE, text=True) as application:
        ran = kafka.run("canary", kafka.lane, "--for", "5s", "--rate", "5/s", "--json")
        application.kill()
        assert application.communicate()[0] == ""
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert json.loads(ran.stdout.splitlines()[-1])["delivered"] > 10


@pytest.mark.long
def test_canaries_and_a_plan_as_the_page_shows_them(kafka: Installation) -> None:
    """For people, not for programs."""
    ran = kafka.run("canary", kafka.lane, "--consume", "billing", "--for", "12s", "--every", "5s")
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    shown, printed = kind_of(PRINTED["tracker canary"]), kind_of(ran.stdout)
    assert len(printed) >= len(shown) - 1  # one less, when none is on its way at the end
    assert [shown[0], shown[-1]] == [printed[0], printed[-1].replace(", N late", "")]
    ran = kafka.run("drill", kafka.lane, "--fault", "skip", "--consume", "billing", "--messages", "9", "--dry-run")
    assert kind_of(ran.stdout) == kind_of(PRINTED["tracker drill --dry-run"])
