"""A flow that heals itself, and people who are asked where it may not: tracker, Kafka and collector are processes."""

import json
import re
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from tests.docs.pages import ROOT, blocks
from tests.e2e.service import Service, now_us
from tests.e2e.story.brokers import own_topic
from tests.e2e.story.process import collectors
from tracker.model.carry import MESSAGE_ID, REPLAY_ID

SKIPPED = {"m-3", "m-7"}
COLLECTORS = """tracker: {url: %s, token: "${TOKEN}"}
spool: %s
collectors:
  - {name: tail, kind: kafka, url: "kafka://%s", topics: [{topic: %s, flow: orders, hop: kafka-eu}]}
"""


def example(**changes: str) -> str:
    """The flow that docs/replay.md shows for `auto`, with other texts in the place of some."""
    [text] = [block for block in blocks(ROOT / "docs/replay.md", "yaml") if "mode: auto" in block]
    for old, new in changes.items():
        text, count = re.subn(rf"^  {old}: .*$", f"  {old}: {new}", text, flags=re.MULTILINE)
        assert count == 1, old
    return text


class Billing:
    """Reads the topic in a thread and tells the tracker what it has done; of some it thinks nothing at first sight."""

    def __init__(self, service: Service, topic, token: str) -> None:
        self._service, self._topic, self._token = service, topic, token
        self.seen: list[tuple[str, str]] = []
        self._stop, self.joined = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        settings = {"bootstrap.servers": self._topic.servers, "group.id": "b", "auto.offset.reset": "earliest"}
        with Consumer(settings) as consumer:
            consumer.subscribe([self._topic.name], on_assign=lambda *_: self.joined.set())
            while not self._stop.is_set():
                message = consumer.poll(0.2)
                if message is None or message.error():
                    continue
                headers = dict(message.headers() or ())
                one, replay = headers[MESSAGE_ID].decode(), headers.get(REPLAY_ID, b"").decode()
                self.seen.append((one, replay))
                if one not in SKIPPED or replay:
                    event = {"flow": "orders", "message_id": one, "hop": "billing", "stage": "ack"}
                    event |= {"observed_at": now_us(), "delivery": str(message.offset()), "replay_id": replay}
                    self._service.send([event], Authorization=f"Bearer {self._token}")

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(30)


class World:
    """Tokens of three people, a topic, and what happens in it."""

    def __init__(self, folder: Path, topic) -> None:
        hops = folder / "hops.yaml"
        hops.write_text(f'kafka-eu: {{kind: kafka, url: "{topic.servers}", topic: {topic.name}}}\n')
        self.topic, self.service = topic, Service(folder, TRACKER_HOPS=str(hops)).start()
        self.ingest = self.token("apps", "ingest")
        self.clerk, self.chief = self.token("clerk", "read", "replay"), self.token("chief", "read", "replay")
        self.guest, self.admin = self.token("guest", "read"), self.token("root", "admin")
        self.service.http.headers["Authorization"] = f"Bearer {self.admin}"
        config = folder / "collectors.yaml"
        config.write_text(COLLECTORS % (self.service.url, folder / "collecting", topic.servers, topic.name))
        self.collectors = collectors(config, self.ingest)
        self.billing = Billing(self.service, topic, self.ingest)

    def token(self, name: str, *scopes: str) -> str:
        """A token of somebody."""
        options = [word for scope in scopes for word in ("--scope", scope)]
        made = self.service.cli("token", "create", name, *options, "--json")
        assert made.returncode == 0, made.stderr
        return str(json.loads(made.stdout)["token"])

    def produce(self, *ids: str) -> None:
        """They go out: told, then sent."""
        producer = Producer({"bootstrap.servers": self.topic.servers})
        for one in ids:
            at = {"observed_at": now_us(), "origin_at": now_us()}
            event = {"flow": "orders", "message_id": one, "hop": "checkout", "stage": "produce", **at}
            self.service.send([event], Authorization=f"Bearer {self.ingest}")
            producer.produce(self.topic.name, one.encode(), headers={MESSAGE_ID: one.encode()})
        assert producer.flush(30) == 0

    def watched(self) -> bool:
        """Whether the collector has announced itself for the log."""
        return any(row["hop"] == "kafka-eu" for row in self.service.get("/v1/coverage", flow="orders")["items"])

    def statuses(self) -> dict[str, str]:
        """The findings."""
        return {one["message_id"]: one["status"] for one in self.service.get("/v1/findings", flow="orders")["items"]}

    def close(self) -> None:
        """End all."""
        self.billing.close()
        self.collectors.stop()
        self.service.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, kafka_server):
    """All of it runs, and the log is watched before anything is sent."""
    with own_topic(kafka_server) as topic:
        made = World(tmp_path_factory.mktemp("policy"), topic)
        try:
            made.service.http.put("/v1/flows", content=example(after="1s")).raise_for_status()
            made.collectors.begin()
            made.service.until(made.watched, bool)
            assert made.billing.joined.wait(60)
            yield made
        finally:
            made.close()


@pytest.mark.brokers
@pytest.mark.long
def test_a_flow_heals_itself_and_asks_people_beyond_its_bounds(world):
    """Billing skips two of ten: they come back without anybody asking, and it shows who did it and why. When the budget
    is nothing any more, a person's request awaits another one, who has the scope."""
    service = world.service
    began = time.monotonic()
    world.produce(*(f"m-{n}" for n in range(10)))
    service.until(world.statuses, lambda found: found == dict.fromkeys(SKIPPED, "recovered"))
    print(f"healed after {time.monotonic() - began:.1f} s")
    again = [(one, replay) for one, replay in world.billing.seen if replay]
    assert {one for one, _ in again} == SKIPPED
    assert len(again) == len(SKIPPED)
    replays = service.get("/v1/replays", flow="orders")["items"]
    assert {(one["requested_by"], one["approved_by"]) for one in replays} == {("policy", "policy auto")}
    assert all("not back by itself" in one["reason"] for one in replays)
    [incident] = service.get("/v1/incidents", flow="orders")["items"]
    told = [(line["who"], line["what"]) for line in service.get(f"/v1/incidents/{incident['id']}")["timeline"]]
    assert any(who == "policy" and what.startswith(f"replay {replays[0]['id']} asked for") for who, what in told), told
    assert "policy" in service.cli("replay", "list", token=world.clerk).stdout
    left = 'tracker_replay_policy_budget_left{flow="orders"} 998.0'
    service.until(lambda: service.http.get("/metrics").text, lambda shown: left in shown)

    service.http.put("/v1/flows", content=example(after="1s", kinds="lost")).raise_for_status()
    SKIPPED.add("m-11")
    world.produce("m-11")
    service.until(world.statuses, lambda found: found.get("m-11") == "open")
    shown = service.cli("replay", "orders", token=world.clerk).stdout
    assert "unacknowledged: not among the flow's `kinds` (lost)" in " ".join(shown.split())
    asked = service.cli("replay", "orders", "--yes", "--json", token=world.clerk)
    made = json.loads(asked.stdout)
    assert (made["status"], made["detail"]) == (
        "awaiting_approval", "unacknowledged: not among the flow's `kinds` (lost)")  # fmt: skip
    for nobody in (world.clerk, world.guest):
        assert service.cli("replay", "approve", made["id"], token=nobody).returncode != 0
        answer = service.http.post(f"/v1/replays/{made['id']}/approve", headers={"Authorization": f"Bearer {nobody}"})
        assert answer.status_code == 403
    assert service.get(f"/v1/replays/{made['id']}")["status"] == "awaiting_approval"
    assert service.cli("replay", "approve", made["id"], token=world.chief).returncode == 0
    service.until(world.statuses, lambda found: found["m-11"] == "recovered")
    assert service.get(f"/v1/replays/{made['id']}")["approved_by"] == "chief"
