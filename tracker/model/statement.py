"""A statement: what became of the messages of one flow and span, as a document that can be checked without a tracker.

    {"statement": {...}, "hash": "...", "public_key": "-----BEGIN PUBLIC KEY-----...", "signature": "..."}

`hash` is the sha256 of the canonical JSON of `statement`, which names the hash of the flow's statement before it; the
signature is of the same bytes. What is checked here: the document's own sums, its hash, and its place in the chain.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from tracker.model import chain
from tracker.model.errors import Invalid
from tracker.model.spec import NAME
from tracker.model.verdict import Verdict

FORMAT = "tracker-statement/1"
LISTED = 10_000
"""So many exceptions stand in the document itself; a digest covers all of them."""
SPOTS = 1_000
"""So many blind spots stand in the document; their total is said."""

ROW = ("message_id", "verdict", "hop", "stage", "kind", "status")
"""What an exception says. A message that is not delivered and has no finding has an empty hop, stage and status, and
its verdict for a kind."""


class Exceptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of messages that are not delivered, or had a finding. `messages` counts the messages, `total` the rows."""

    total: int
    messages: int
    digest: str
    kinds: dict[str, int]
    listed: list[dict[str, str]]


class BlindSpots(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Spans for which nobody vouches, in order of place and time."""

    total: int
    listed: list[dict[str, str]]


_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
_SHAPES = {
    "flow": NAME.pattern,
    "previous": "[0-9a-f]{64}",
    "key": "[0-9a-f]{16}",
    **dict.fromkeys(("start", "end", "made_at", "as_of"), _TIME),
}
"""What is shown of a statement, or compared, before anybody knows whether to trust it: no terminal codes in it."""
_WORDS = {"start": "from", "end": "to", "pass_number": "pass"}


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_WORDS):
    """What is signed. Times are RFC 3339 UTC. `settled`: the span is over and none of its messages is in flight."""

    format: str
    flow: str
    number: int
    previous: str
    key: str
    start: str
    end: str
    made_at: str
    made_by: str
    specs: list[dict[str, Any]]
    pass_number: int
    as_of: str
    settled: bool
    produced: int
    orphans: int
    delivered: int
    verdicts: dict[Verdict, int]
    conserved: bool
    exceptions: Exceptions
    blind_spots: BlindSpots


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A statement with its seal. `raw` of the statement is what was signed, so a reader must not reorder numbers."""

    statement: dict[str, Any]
    hash: str
    public_key: str
    signature: str


def read(text: str | bytes) -> tuple[Document, Statement]:
    """The document and what it says. Raises Invalid when it is no statement."""
    try:
        document = msgspec.json.decode(text, type=Document)
        said = msgspec.convert(document.statement, Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"not a statement: {error}") from None
    if said.format != FORMAT:
        raise Invalid(f"a statement of format {said.format!r}; this version reads {FORMAT!r}")
    for name, shape in _SHAPES.items():
        if not re.fullmatch(shape, getattr(said, name), re.ASCII):
            raise Invalid(f"not a statement: `{_WORDS.get(name, name)}` is {getattr(said, name)[:80]!r}")
    return document, said


def digest(rows: Iterable[Mapping[str, str]]) -> str:
    """The digest over exceptions in any order: sha256 of the rows' own sha256 (hex), sorted and joined."""
    return hashlib.sha256("".join(sorted(map(_row, rows))).encode("ascii")).hexdigest()


def _row(row: Mapping[str, str]) -> str:
    """Each value with its length before it, so that no two rows read the same."""
    values = [str(row[name]).encode() for name in ROW]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(value), value) for value in values)).hexdigest()


def faults(document: Document, said: Statement) -> list[str]:
    """What is off with one statement in itself, in words; its signature aside."""
    found = []
    if hashlib.sha256(chain.canonical(document.statement).encode("ascii")).hexdigest() != document.hash:
        found.append("its hash is not that of what it says: it was changed")
    counted = sum(said.verdicts.values())
    if said.conserved != (said.produced + said.orphans == counted):
        found.append(f"produced {said.produced} + orphans {said.orphans} against {counted} verdicts: "
                     f"`conserved` says {'yes' if said.conserved else 'no'}")  # fmt: skip
    if said.delivered != said.verdicts.get(Verdict.delivered, 0):
        found.append(f"delivered {said.delivered}, but {said.verdicts.get(Verdict.delivered, 0)} have that verdict")
    if said.settled and said.verdicts.get(Verdict.in_flight, 0):
        found.append("it calls itself settled, and messages are in flight")
    return found + _exceptions(said)


def _exceptions(said: Statement) -> list[str]:
    given = said.exceptions
    expected = min(given.total, LISTED)
    if any(set(row) != set(ROW) for row in given.listed):
        return ["an exception has other fields than " + ", ".join(ROW)]
    if len(given.listed) != expected:
        return [f"{expected} exceptions should be listed, {len(given.listed)} are"]
    if sum(given.kinds.values()) != given.total:
        return [f"exceptions by kind add up to {sum(given.kinds.values())}, not to {given.total}"]
    if given.total > LISTED:
        return []  # the rest is elsewhere: `digest` covers it
    return complete(said, given.listed)


def complete(said: Statement, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What is off when these are held to be all the exceptions of a statement: their digest and their counts."""
    if digest(rows) != said.exceptions.digest:
        return ["the digest over the exceptions is another: one was changed, added or left out"]
    verdicts = {row["message_id"]: row["verdict"] for row in rows}
    counts = Counter(verdicts.values())
    return [
        f"{said.verdicts.get(verdict, 0)} messages are {verdict}, {counts[verdict]} are listed"
        for verdict in Verdict
        if verdict != Verdict.delivered and counts[verdict] != said.verdicts.get(verdict, 0)
    ]


def breaks(chained: Sequence[tuple[Document, Statement]]) -> list[str]:
    """Where the statements of one flow do not follow each other: forks, gaps, a wrong link. One alone has none."""
    found = []
    ordered = sorted(chained, key=lambda one: one[1].number)
    for document, said in ordered:
        if (said.number == 1) != (said.previous == chain.ORIGIN):
            found.append(f"statement {said.number} names {said.previous[:12]} as the one before it: only the first "
                         "may, and must, name none")  # fmt: skip
        if document.hash == said.previous:
            found.append(f"statement {said.number} names itself as the one before it")
    for (before, earlier), (after, later) in pairwise(ordered):
        if later.number == earlier.number:
            if after.hash != before.hash:
                found.append(f"there are two different statements {later.number}: the chain forks")
        elif later.number > earlier.number + 1:
            found.append(f"statements {earlier.number + 1} to {later.number - 1} are missing: get them, too")
        elif later.previous != before.hash:
            found.append(f"statement {later.number} does not follow the statement {earlier.number} given here")
    return found
