"""What a replay asks of the store and of other replays' books. Each answer is for the messages of one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import xxhash

from tracker.control import Books, Control
from tracker.control.messages import Passage
from tracker.control.replays import ENDED, Replay
from tracker.model.carry import Locator
from tracker.model.coverage import Coverage
from tracker.model.event import Event
from tracker.model.spec import FlowSpec, load_spec
from tracker.replay.plan import Past, Selection, Wanted, order_of
from tracker.replay.policy import APPROVER
from tracker.replay.routes import LOG, Keeper, Missing
from tracker.store.findings import OPEN, SUPERSEDED, Finding, cursor_of

PAGE = 1000
MOST_FINDINGS = 64
"""Of one message: a finding belongs to a checkpoint, and a flow has at most so many."""
AT_IT = frozenset({"claimed", "in_doubt", "sent"})
"""States in which a message is being seen to, whatever became of its replay as a whole."""
CLAIMING = ("running", "paused", "cancelled", "failed")
"""Statuses of a replay that may have such messages; one that is done has none."""

Item = TypeVar("Item")


class Ledger(Protocol):
    """The part of `tracker.store.Store` that replays use."""

    def findings(
        self,
        flow: str | None = None,
        hop: str | None = None,
        kind: str | None = None,
        status: str | None = None,
        incident: str | None = None,
        *,
        message_ids: Sequence[str] | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Finding]:
        """Findings that match all that is given, newest first, after a cursor."""
        ...

    def oldest_open(
        self, flow: str, kinds: Sequence[str], until: int, after: tuple[int, str], limit: int
    ) -> list[Finding]:
        """Open findings of these kinds, their own cause, opened until then, oldest first, behind a place."""
        ...

    def events_of(self, flow: str, ids: Sequence[str], bounds: Any) -> dict[str, list[Event]]:
        """All events of these messages (`bounds` None), by message."""
        ...

    def carrying(
        self,
        flow: str,
        message_ids: Sequence[str],
        key_hash: int | None,
        reason: str | None,
        attributes: Mapping[str, str],
    ) -> list[str]:
        """Those of these messages of which events carry all that is given."""
        ...

    def coverage(self, spec: FlowSpec) -> Coverage:
        """What is vouched for in the flow."""
        ...

    def keys(self, flow: str, message_ids: Sequence[str]) -> dict[str, str]:
        """The key of each message, or its hash; those without one are left out."""
        ...

    def locators(self, flow: str, message_ids: Sequence[str], hop: str) -> list[Locator]:
        """The newest place of each message in the log of `hop`."""
        ...


def spec_of(control: Control, flow: str) -> FlowSpec:
    """The newest spec of a flow. Raises `NotFound` for a flow that never was or was deleted."""
    return _loaded(control.flows.get(flow).text)


def last_spec_of(control: Control, flow: str) -> FlowSpec:
    """The newest spec, of a deleted flow too: what was sent for it is still followed up."""
    return _loaded(control.flows.versions(flow)[-1].text)


@lru_cache(256)
def _loaded(text: str) -> FlowSpec:
    """A spec does not change once it is loaded, and every batch asks for it."""
    return load_spec(text)


def wanted(ledger: Ledger, selection: Selection, salt: int = 0) -> list[Wanted]:
    """The messages that have open findings in the selection, and those asked for by id that have none. `salt`: the seed
    of the hash by which keys are stored."""
    missing: dict[str, list[Missing]] = {message_id: [] for message_id in selection.message_ids}
    kinds: dict[str, set[str]] = {}
    origins: dict[str, int] = {}
    for finding in _open(ledger, selection):
        if _of_time(finding, selection):
            missing.setdefault(finding.message_id, []).append(Missing(*finding.key))
            origins[finding.message_id] = finding.origin_at
            if not finding.cause:
                kinds.setdefault(finding.message_id, set()).add(finding.kind)
    if selection.asks_events:
        key = None if selection.key is None else key_hash(selection.key, salt)
        asked = key, selection.dropped_as, selection.attributes
        left = {one for some in chunks(list(missing)) for one in ledger.carrying(selection.flow, some, *asked)}
        missing = {message_id: found for message_id, found in missing.items() if message_id in left}
    return [
        Wanted(one, tuple(found), frozenset(kinds.get(one, ())), origins.get(one, 0)) for one, found in missing.items()
    ]


def key_hash(key: str, salt: int) -> int:
    """A key as it is stored; `salt` as in `wanted`."""
    return xxhash.xxh3_64_intdigest(key.encode(), seed=salt)


def _of_time(finding: Finding, selection: Selection) -> bool:
    after = selection.since is None or finding.origin_at >= selection.since
    return after and (selection.until is None or finding.origin_at < selection.until)


def _open(ledger: Ledger, selection: Selection) -> Iterator[Finding]:
    chosen = {"flow": selection.flow, "hop": selection.hop, "kind": selection.kind, "incident": selection.incident}
    for ids in chunks(selection.message_ids) if selection.message_ids else [None]:
        after = None
        while True:
            found = ledger.findings(**chosen, status=OPEN, message_ids=ids, after=after, limit=PAGE)
            yield from found
            if len(found) < PAGE:
                break
            after = cursor_of(found[-1])


def statuses(ledger: Ledger, flow: str, ids: Sequence[str]) -> dict[str, dict[Missing, str]]:
    """The status of every finding of these messages, by message. One that is superseded has that of the finding which
    took its place: the same checkpoint waits there, under another name."""
    found: dict[str, dict[Missing, Finding]] = {message_id: {} for message_id in ids}
    for some in chunks(ids):
        for finding in ledger.findings(flow, message_ids=some, limit=len(some) * MOST_FINDINGS):
            found[finding.message_id][Missing(*finding.key)] = finding
    return {
        message_id: {missing: _heir(mine, missing).status for missing in mine} for message_id, mine in found.items()
    }


def _heir(found: Mapping[Missing, Finding], missing: Missing) -> Finding:
    """The finding that speaks for `missing` now. A place has one kind at a time, so whoever is not superseded is it."""
    finding = found[missing]
    for _ in range(len(found)):
        if finding.status == SUPERSEDED:
            finding = found.get(missing._replace(kind=finding.by), finding)
    return finding


def of_message(known: Mapping[Missing, str], missing: Iterable[Missing]) -> list[tuple[Missing, str]]:
    """Each finding with its status; one that the store no longer has counts as open."""
    return [(one, known.get(one, OPEN)) for one in missing]


def places(ledger: Ledger, flow: str, ids: Sequence[str], hops: Iterable[str]) -> dict[Keeper, dict[str, Locator]]:
    """Where the log of each hop was seen to hold these messages: by keeper, then by message."""
    found: dict[Keeper, dict[str, Locator]] = {}
    for hop in hops:
        places = (place for some in chunks(ids) for place in ledger.locators(flow, some, hop))
        found[Keeper(LOG, hop)] = {place.message_id: place for place in places}
    return found


def left(books: Books, spec: FlowSpec, now: int) -> int:
    """Messages that the flow's budget still has; 0 unless its mode is `auto`."""
    if spec.replay.mode != "auto":
        return 0
    messages, span = spec.replay.budget
    return max(0, messages - books.replays.spent(spec.flow, APPROVER, now - span))


def keys(ledger: Ledger, spec: FlowSpec, ids: Sequence[str]) -> dict[str, str]:
    """The keys of these messages, where the flow asks for order by key."""
    if order_of(spec) != "key":
        return {}
    return {one: key for some in chunks(ids) for one, key in ledger.keys(spec.flow, some).items()}


def pasts(control: Control, flow: str, ids: Iterable[str]) -> dict[str, Past]:
    """What replays did with these messages so far; those that none ever touched are left out."""
    if not control.replays.page(flow=flow, limit=1).items:
        return {}
    return {message_id: _past(past) for message_id, past in control.messages.passages(flow, list(ids)).items()}


def _past(passages: Sequence[Passage]) -> Past:
    at_it = next((one for one in passages if busy(one)), None)
    attempts = max(one.message.attempt for one in passages)
    return Past(attempts, at_it.message.replay_id, at_it.status in ENDED) if at_it else Past(attempts)


def rivals(control: Control, replay: Replay) -> dict[str, int]:
    """The other replays of the flow that may have messages under way: creation time by id. Ask after claiming: one
    that is not here yet has claimed nothing, and will see our claim."""
    found: dict[str, int] = {}
    cursor = ""
    while True:
        page = control.replays.page(status=CLAIMING, flow=replay.flow, cursor=cursor)
        found |= {other.id: other.created_at for other in page.items if other.id != replay.id}
        cursor = page.cursor
        if not cursor:
            return found


def busy(one: Passage) -> bool:
    """Whether a replay is seeing to the message, or is going to."""
    return one.message.state in AT_IT or (one.message.state == "planned" and one.status not in ENDED)


def chunks(items: Sequence[Item], size: int = PAGE) -> Iterator[Sequence[Item]]:
    """The items in groups of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
