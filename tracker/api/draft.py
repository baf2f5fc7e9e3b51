"""A draft of flow specs out of what spans told: one flow per destination, to be corrected by somebody who knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import yaml

from tracker.control.sightings import Sighting
from tracker.ingest.otlp.meaning import kind_of
from tracker.model.spec import MAX_CHECKPOINTS

WITHIN = "5m"
_STAGES = {"send": "produce", "receive": "deliver", "process": "ack", "settle": "ack"}
OWN_ID = "tracker.message_id"
_ORDER = ("produce", "deliver", "ack")


def drafts(seen: Iterable[Sighting]) -> list[str]:
    """One spec (YAML) for each destination that somebody sends to or takes from, by name."""
    by_destination: dict[tuple[str, str], list[Sighting]] = {}
    for one in seen:
        if one.reason == "no_flow" and one.destination and one.service:
            by_destination.setdefault((one.system, one.destination), []).append(one)
    return [_draft(system, name, found) for (system, name), found in sorted(by_destination.items())]


def _draft(system: str, destination: str, found: Sequence[Sighting]) -> str:
    points = {(_name(one.service), _stage(one)): one.service for one in found if _stage(one)}
    ordered = sorted(points, key=lambda point: (_ORDER.index(point[1]), point[0]))[: MAX_CHECKPOINTS - 1]
    produced = [hop for hop, stage in ordered if stage == "produce"]
    checkpoints = [_point(hop, stage, points[hop, stage], system, destination, produced) for hop, stage in ordered]
    head = f"# Drafted from {sum(one.count for one in found)} spans. Right are at most the names: check who must have "
    head += "it, and how soon.\n"
    identity = {}
    if _places(destination, found):
        head += (
            f"# Consumers name places in the log, which producers do not know: have both set {OWN_ID} on their spans.\n"
        )
        identity = {"identity": {"attribute": OWN_ID}}
    spec = {"flow": _name(destination), "owner": "", **identity, "checkpoints": checkpoints}
    return head + yaml.safe_dump(spec, sort_keys=False, width=110)


def _places(destination: str, found: Sequence[Sighting]) -> bool:
    """Whether an id that was seen is topic, partition and offset, as instrumentations of Kafka put there."""
    place = re.compile(re.escape(destination) + r"\.\d+\.\d+")
    return any(place.fullmatch(sample) for one in found for sample in one.samples)


def _point(hop: str, stage: str, service: str, system: str, destination: str, produced: list[str]) -> dict[str, object]:
    match = {"service": service, "destination": destination, **({"system": system} if system else {})}
    after = (
        {"after": [f"{one}:produce" for one in produced], "within": WITHIN} if produced and stage != "produce" else {}
    )
    return {"hop": hop, "stage": stage, **after, "match": match}


def _stage(one: Sighting) -> str:
    return _STAGES.get(kind_of(one.operation, one.operation, 0), "")


def _name(text: str) -> str:
    """As flow specs want a name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "unnamed"
