"""What is made of topics that were found, without a cluster."""

from __future__ import annotations

import pytest

from collectors.draft import Asked, Found
from collectors.kafka.discover import Topic, _found

USUAL = Topic("orders", 3, "delete", 7 * 86_400_000, -1, "LogAppendTime", ["billing"], 20, 20, ["x-message-id"])


def found(*topics: Topic) -> Found:
    """As it is drafted."""
    return _found("Kafka h:1", [], topics, "kafka://h:1", Asked())


def test_nothing_is_said_where_all_is_well() -> None:
    """A topic with ids, a long retention and the broker's times needs no word; its group is followed."""
    tail, groups = found(USUAL).collectors
    assert tail.notes == []
    assert groups.values["groups"] == [
        {"group": "billing", "topic": "orders", "flow": "orders", "hop": "billing", "log": "kafka"}
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"with_id": 19}, "1 of 20 records looked at have no header x-message-id; seen: x-message-id"),
        ({"sampled": 0, "with_id": 0}, "no record to look at"),
        ({"policy": "compact,delete"}, "compacted"),
        ({"retention_ms": 3_600_000}, "retention 60 min"),
        ({"retention_bytes": 1000}, "retention by size (1000 bytes a partition)"),
        ({"timestamps": "CreateTime"}, "CreateTime"),
    ],
)
def test_what_somebody_should_know(change: dict[str, object], said: str) -> None:
    """Each of these stands above the topic's collector, in one note that names the topic."""
    topic = Topic(**{**{name: getattr(USUAL, name) for name in USUAL.__struct_fields__}, **change})
    notes = [note for note in found(topic).collectors[0].notes if said in note]
    assert len(notes) == 1
    assert "topic orders:" in notes[0]


def test_topics_that_all_lack_ids() -> None:
    """No configuration is drafted, and it is said why."""
    none = found(Topic("clicks", 1, sampled=5, headers=["app-id"]))
    assert (none.collectors, none.flows) == ([], [])
    assert any("5 of 5 records looked at have no header" in note for note in none.notes)
