"""A consuming application: `python -m tests.drills.consuming SERVERS TOPIC GROUP HOP TRACKER FOLDER`.

It acks each message for itself, and notes the ids in FOLDER/acked.txt. What it cannot handle (payloads that begin with
a text of `--refuses`) it sends to the topic of dead letters, and goes on. It ends by SIGTERM, or dies by SIGKILL.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer

from collectors.emitter import Emitter
from collectors.instrument import confluent_kafka as instrument
from collectors.instrument.observe import Observer
from tests.e2e.service import environment
from tests.servers.process import Process
from tracker.model.event import Stage

ACKED = "acked.txt"


class Application:
    """The program as a process: `start`, `stop`, `kill`, `start` again, in a folder of its own."""

    def __init__(self, folder: Path, servers: str, topic: str, group: str, hop: str, tracker: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._command = [
            sys.executable, "-m", "tests.drills.consuming", servers, topic, group, hop, tracker, str(folder),
        ]  # fmt: skip
        self._env = environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = Process(hop, self._command, folder, self._env)

    def start(self, *options: str) -> None:
        """A new life; `options` as the program takes them."""
        self.process.command[:] = [*self._command, *options]
        self.process.start(lambda: None)

    def acked(self) -> list[str]:
        """The ids that it noted, in order; one that it acked twice stands there twice."""
        path = self.folder / ACKED
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].split()  # a line that is half written, by one that was killed, is none


def consume(options: argparse.Namespace, done: threading.Event) -> None:
    """Until `done`."""
    emitter = Emitter(options.tracker, "", collector=f"{options.hop}-1", spool=options.folder / "spool")
    observer = Observer(emitter, "orders", options.hop, stages=[Stage.ack], source=options.hop)
    settings = {
        "bootstrap.servers": options.servers, "group.id": options.group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "log_level": 0,
    }  # fmt: skip
    consumer = instrument.consumer(Consumer(settings), observer)
    consumer.subscribe([options.topic])
    letters = Producer({"bootstrap.servers": options.servers, "acks": "all", "log_level": 0})
    with (options.folder / ACKED).open("a") as acked:
        while not done.is_set():
            messages = [one for one in consumer.consume(500, 0.2) if one.error() is None]
            for message in messages:
                reason = _refusal(message, options.refuses)
                if reason:
                    headers = [*(message.headers() or ()), ("kafka_dlt-exception-message", reason.encode())]
                    letters.produce(options.dead_letters, message.value(), message.key(), headers=headers)
                    letters.flush(20)
                    consumer.dead_letter(message, reason)
                else:
                    consumer.ack(message)
                    acked.write(f"{_id_of(message)}\n")
            acked.flush()
            if messages:
                consumer.commit(asynchronous=False)
    consumer.close()
    emitter.close()


def _refusal(message: Message, refused: Sequence[str]) -> str:
    """Why it cannot be handled; empty when it can."""
    text = (message.value() or b"").decode()
    return next((f"cannot handle {start!r}" for start in refused if text.startswith(start)), "")


def _id_of(message: Message) -> str:
    headers: dict[str, bytes] = dict(message.headers() or ())  # type: ignore[arg-type]
    return headers["x-message-id"].decode()


def main() -> None:
    """Consume until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("servers", "topic", "group", "hop", "tracker"):
        parser.add_argument(name)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--refuses", nargs="*", default=[])
    parser.add_argument("--dead-letters", default="")
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    consume(parser.parse_args(), done)


if __name__ == "__main__":
    main()
