"""What tests of archives share: records, an archive that is quick, a key."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from collectors.archive.config import ArchiveConfig
from collectors.archive.writer import Archive, Pace
from collectors.base import Content, Raw
from collectors.carried import digest_of
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
QUICK = Pace(backoff=(0.001, 0.01), patience=0.05, idle=1e6)
LOG = SourceRef("orders", "log", "persist", "t/0")
PATIENCE = 20.0


def key_file(folder: Path, *keys: str) -> str:
    """A provider of these, the first is the present one."""
    (folder / "key").write_text("\n".join(keys or (KEY,)) + "\n")
    return f"file:{folder / 'key'}"


def config(folder: Path, **more: Any) -> ArchiveConfig:
    """Of flow `orders`, in `folder/archive`, a segment as soon as there is something."""
    said = {"url": f"file://{folder / 'archive'}", "flows": ["orders"], "every": 0.001, **more}
    return ArchiveConfig(**({} if "key" in said or "unencrypted" in said else {"key": key_file(folder)}), **said)


def place(folder: Path, **more: Any) -> dict[str, Any]:
    """The same archive as a reader names it."""
    return {"url": f"file://{folder / 'archive'}", "key": f"file:{folder / 'key'}", **more}


def archive(folder: Path, name: str = "one", most: int = 1000, pace: Pace = QUICK, **more: Any) -> Archive:
    """Not started."""
    return Archive(name, config(folder, **more), content, folder, most, pace=pace, chance=lambda: 1.0)


def content(raw: Raw, event: Event) -> Content:
    """As a log's collector gives it."""
    return Content(raw.key, raw.value, raw.headers)


def record(number: int, at: int | None = None, value: bytes | None = None, **more: Any) -> tuple[Raw, Event]:
    """Message m-`number` at that offset, observed at `at` (default: 1000 + number), and its record."""
    held = b"value %d" % number if value is None else value
    observed = 1000 + number if at is None else at
    said = {"flow": "orders", "message_id": f"m-{number}", "hop": "log", "partition": "t/0", "offset": number, **more}
    event = Event(stage=said.pop("stage", Stage.persist), observed_at=observed, digest=digest_of(held), **said)
    return Raw(held, {"x-message-id": event.message_id.encode()}, b"k", number, observed), event


def records(numbers: Iterable[int], **more: Any) -> tuple[list[Raw], list[Event]]:
    """Some of them."""
    pairs = [record(number, **more) for number in numbers]
    return [raw for raw, _ in pairs], [event for _, event in pairs]


def keep(folder: Path, batches: Sequence[Iterable[int]], name: str = "one", reached: int = 0, **more: Any) -> None:
    """A run of an archive that keeps these, one segment for each batch, and ends in order."""
    kept = archive(folder, name, **more)
    kept.start()
    try:
        for batch in batches:
            number = kept.add(*records(batch))
            kept.vouch([LOG], reached or None)
            assert kept.wait(number, PATIENCE), kept.archived
            kept.vouch([LOG], reached or None)  # the first may have come before its manifest was read
    finally:
        kept.close()


def files(folder: Path, ending: str = ".segment") -> list[Path]:
    """Of the archive, in order."""
    return sorted((folder / "archive").rglob(f"*{ending}"))
