"""Which ranges lie over a place: the same as if all were looked at, with a look at few."""

from __future__ import annotations

from random import Random

from msgspec import structs

from tests.unit.model.test_judge_ranges import GONE, PASSED, PLACED
from tracker.model.event import Event, Range, Stage
from tracker.model.facts import HOLDING
from tracker.model.places import Places


class Looked(int):
    """An offset that counts how often it is compared."""

    times = 0

    def __ge__(self, other: int) -> bool:
        Looked.times += 1
        return int(self) >= other

    def __lt__(self, other: int) -> bool:
        Looked.times += 1
        return int(self) < other


def over(told: Range, event: Event) -> bool:
    """Each condition by itself."""
    lies = event.stage in HOLDING and (event.hop, event.partition) == (told.log, told.partition)
    return lies and event.offset is not None and event.offset in range(told.offset, told.offset_to)


def test_the_same_as_if_all_were_looked_at() -> None:
    """Beside one another, over one another, equal, empty, of several logs and partitions: in the order given."""
    random = Random(7)
    for _ in range(300):
        ranges = [
            structs.replace(
                random.choice([PASSED, GONE]), log=random.choice(["kafka", "copy"]), partition=random.choice("ab"),
                offset=low, offset_to=low + random.choice([0, 1, 2, 30]), observed_at=number,
            )
            for number, low in enumerate(random.choices(range(40), k=random.randrange(25)))
        ]  # fmt: skip
        events = [
            structs.replace(
                PLACED, hop=random.choice(["kafka", "copy", "shop"]), partition=random.choice("ab"),
                offset=random.choice([None, *range(45)]), stage=random.choice([*HOLDING, Stage.ack]),
            )
            for _ in range(4)
        ]  # fmt: skip
        assert Places(ranges).over(events) == [r for r in ranges if any(over(r, e) for e in events)]


def test_few_of_many_are_looked_at() -> None:
    """Also where a large range lies over thousands of small ones, and where they all begin before the place."""
    small = [structs.replace(GONE, offset=n * 10, offset_to=n * 10 + 10) for n in range(10_000)]
    places = Places([*small, structs.replace(GONE, offset=0, offset_to=100_000)])
    for place, found in ((50_005, 2), (99_999, 2), (3, 2), (200_000, 0)):
        Looked.times = 0
        assert len(places.over([structs.replace(PLACED, offset=Looked(place))])) == found
        assert 0 < Looked.times < 150
