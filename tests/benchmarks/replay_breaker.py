"""What a dead target gets from a replay: a real Kafka killed in the middle, and started again. One line of JSON.

    python -m tests.benchmarks.replay_breaker --json

Two brokers: one holds the copies, the other is the target and is killed. The sender is the tracker's own, with its
control database, its limits and the real publisher; what that is asked for is counted. The ledger is a list of what was
produced: this is about what the target is asked to do, not about what becomes of it.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collectors.kafka.publisher import KafkaPublisher, publisher
from collectors.kafka.source import source
from tests.benchmarks import collecting
from tests.benchmarks.watch import load
from tests.brokers.kafka_topic import Topic
from tests.component.replay.scene import ANN, Scene
from tests.drills.scene import started_kafka
from tracker.control import Control
from tracker.model.carry import Copy, Locator, Sent
from tracker.model.event import Event, Stage
from tracker.replay import Keeper, Replays, Selection
from tracker.replay.backoff import FLOOR, SHARE
from tracker.replay.breaker import State
from tracker.store.findings import Finding

SPEC = """flow: orders
checkpoints:
  - {{hop: checkout, stage: produce}}
  - {{hop: kafka, stage: persist, after: checkout, within: 5s}}
  - {{hop: billing, stage: ack, after: kafka, within: 10s}}
replay: {{sources: [log: kafka], mode: auto, budget: 10000000/h, rate: {rate}/s, in_flight: 1000000}}
"""


class Counted:
    """The real publisher; `asked`: when it was handed how many copies, and when it answered with how many confirmed."""

    def __init__(self, real: KafkaPublisher) -> None:
        self._real = real
        self.asked: list[tuple[float, int, float, int]] = []

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """As the real one."""
        began = time.monotonic()
        answers = self._real.publish(copies)
        self.asked.append((began, len(copies), time.monotonic(), sum(not one.error for one in answers)))
        return answers

    def close(self) -> None:
        """As the real one."""
        self._real.close()


class Produced(Scene):
    """What a store would say, of messages that lie in a real topic; nothing of the target is seen."""

    def put_into(self, topic: Topic, count: int) -> None:
        """Messages that billing lacks."""
        names = [f"m-{number}" for number in range(count)]
        topic.put(names)
        for number, name in enumerate(names):
            at: dict[str, Any] = {"partition": f"{topic.name}/0", "offset": number}
            seen = Event(flow="orders", message_id=name, hop="kafka", stage=Stage.persist, observed_at=self.now, **at)
            self.events[name].append(seen)
            self.find(name)

    def findings(self, *chosen: Any, message_ids: Sequence[str] | None = None, **more: Any) -> list[Finding]:
        """As a scene has them, quickly."""
        if message_ids is not None:
            return [self.found[one] for one in message_ids]
        return super().findings(*chosen, **more)

    def locators(self, flow: str, message_ids: Sequence[str], hop: str) -> list[Locator]:
        """Where the source topic has them."""
        return [Locator(one, hop, seen[0].partition, seen[0].offset or 0)
                for one in message_ids if (seen := self.events.get(one))]  # fmt: skip


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Replay, kill, wait, start again, wait until all is sent."""
    empty = folder / "empty.db"
    Control.open(f"sqlite:///{empty}").close()
    with started_kafka(folder / "copies") as copies, started_kafka(folder / "target") as target:
        origin, goal = Topic(copies.bootstrap, "orders"), Topic(target.bootstrap, "orders")
        origin.create(1)
        goal.create(1)
        scene = Produced(folder, "auto", empty)
        scene.now = time.time_ns() // 1000
        scene.put(SPEC.format(rate=options.rate))
        scene.put_into(origin, options.messages)
        reader = source({"url": origin.url})
        writer = Counted(publisher({"url": goal.url, "topic": "orders", "timeout": options.timeout}))
        replays = Replays(scene, scene.control, {Keeper("log", "kafka"): reader}, {"kafka": writer})
        worker = replays.worker()
        replays.create(Selection(flow="orders"), ANN)
        stop = threading.Event()
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        time.sleep(options.before)
        target.kill()
        killed = time.monotonic()
        opened = None
        while time.monotonic() < killed + options.outage:
            there = worker.sender.targets["kafka"]
            if opened is None and there.circuit is State.open:
                opened = time.monotonic() - killed
            time.sleep(0.005)
        target.start()
        up = time.monotonic()
        closed = None
        while closed is None and time.monotonic() < up + 120:
            if worker.sender.targets["kafka"].circuit is State.closed:
                closed = time.monotonic() - up
            time.sleep(0.01)
        stop.set()
        thread.join()
        reader.close()
        writer.close()
        scene.close()
    during = [
        (began - killed, asked) for began, asked, _, _ in writer.asked if killed <= began < killed + options.outage
    ]
    last = [asked for began, asked, ended, done in writer.asked if began < killed <= ended and done < asked]
    failed = [ended - killed for _, asked, ended, done in writer.asked if ended > killed and done < asked]
    return {
        "messages": options.messages,
        "rate": options.rate,
        "confirmed": sum(done for *_, done in writer.asked),
        "outage_s": options.outage,
        "first_failure_after_s": round(failed[0], 3) if failed else None,
        "opened_after_s": None if opened is None else round(opened, 3),
        "under_way_when_killed": sum(last),
        "requests_until_opened": sum(began < (opened or options.outage) for began, _ in during),
        "messages_until_opened": sum(asked for began, asked in during if began < (opened or options.outage)),
        "requests_while_open": sum(opened is not None and began >= opened for began, _ in during),
        "messages_while_open": sum(asked for began, asked in during if opened is not None and began >= opened),
        "retry_budget_of_the_outage": round(min(FLOOR, SHARE * options.rate) * options.outage),
        "at_the_rate": round(options.rate * options.outage),
        "closed_after_s": None if closed is None else round(closed, 2),
        "load_average": load(),
    }


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=1000.0, help="messages per second")
    parser.add_argument("--before", type=float, default=5.0, help="seconds until the target is killed")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds until it is started again")
    parser.add_argument("--timeout", type=float, default=30.0, help="of the publisher, seconds")
    parser.add_argument("--folder", type=Path, help="where the data goes; default a temporary folder")
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="breaker-") as name:
        result = run(Path(name), options)
    collecting.told(result, options.json)


if __name__ == "__main__":
    main()
