"""The audit log as an export: one line per entry, chained by hash, and last a signed head. Checked without a tracker.

    {"at": 1769860800000000, "detail": "{}", "hash": "...", "number": 1, "previous": "000...", "subject": "...", ...}
    {"head": {"format": "tracker-audit/1", "number": 1, "hash": "...", "key": "...", "made_at": "..."},
     "public_key": "-----BEGIN PUBLIC KEY-----...", "signature": "..."}

Each line is canonical JSON (keys sorted, no spaces, ASCII). The hash of an entry is the sha256 of its line without
`hash`; `previous` is the hash of the entry before it. The signature is of the canonical JSON of `head`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tracker.model import chain
from tracker.model.errors import Invalid

FORMAT = "tracker-audit/1"
BODY = ("number", "at", "who", "what", "why", "subject", "detail", "previous")
"""What the hash of an entry covers. `at` in µs; `detail` is JSON as a text, byte for byte as it was written."""

Signed = Callable[[str, object, str], bool]
"""(public key, body, signature): `tracker.model.seal.signed`."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest entry of an export, as it is signed. `key` names the public key beside it."""

    format: str
    number: int
    hash: str
    key: str
    made_at: str


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line of an export. `head` is kept as it was read: that is what was signed."""

    head: dict[str, Any]
    public_key: str
    signature: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at an export found. `broken`: the number of the first entry that is missing or is not as it was
    written; None where the chain is whole. `problems`: in words, empty where all is good."""

    entries: int = 0
    head: Head | None = None
    broken: int | None = None
    problems: list[str] = []


def line(entry: dict[str, Any]) -> str:
    """An entry, with its hash, as a line of an export, without its end."""
    return chain.canonical(entry)


def check(lines: Iterable[str], signed: Signed, key_id: Callable[[str], str], kept: Head | None = None) -> Checked:
    """Check an export. `kept` is the head of an earlier one: what it names must still be there, unchanged, which shows
    a log that was cut off or made anew. Reads line by line; nothing is kept."""
    previous, last, seen = chain.ORIGIN, 0, kept is None or kept.number == 0
    lines = iter(lines)
    for text in lines:
        try:
            entry = json.loads(text)
        except ValueError:
            told = f"line {last + 1} is not JSON: cut off, or changed"
            return Checked(entries=last, broken=last + 1, problems=[told])
        if isinstance(entry, dict) and "head" in entry:
            return _closed(entry, previous, last, seen, kept, signed, key_id, next(lines, None))
        fault = _fault(entry, last + 1, previous)
        if fault:
            return Checked(entries=last, broken=last + 1, problems=[f"entry {last + 1}: {fault}"])
        previous, last = entry["hash"], last + 1
        if kept is not None and kept.number == last:
            if kept.hash != previous:
                told = f"entry {last}: it is another one than when its head was kept: the log was written anew"
                return Checked(entries=last, broken=last, problems=[told])
            seen = True
    told = f"it ends after entry {last} without a signed head: its end was cut off"
    return Checked(entries=last, broken=last + 1, problems=[told])


def _fault(entry: Any, number: int, previous: str) -> str:
    """What is off with an entry that should have this number and follow on this hash; empty when nothing is."""
    if not isinstance(entry, dict) or set(entry) != {*BODY, "hash"}:
        return "it has not the fields of one"
    if entry["number"] != number:
        return f"it is missing: entry {entry['number']} stands in its place"
    if entry["previous"] != previous:
        return "it does not follow on the one before it"
    body = {name: entry[name] for name in BODY if name != "previous"}
    return "" if chain.link(previous, body) == entry["hash"] else "it is not as it was written"


def _closed(
    entry: dict[str, Any],
    previous: str,
    last: int,
    seen: bool,
    kept: Head | None,
    signed: Signed,
    key_id: Callable[[str], str],
    more: str | None,
) -> Checked:
    try:
        sealed = msgspec.convert(entry, Sealed)
        head = msgspec.convert(sealed.head, Head)
        named = key_id(sealed.public_key)
        good = head.format == FORMAT and signed(sealed.public_key, sealed.head, sealed.signature)
    except (msgspec.ValidationError, Invalid) as error:
        return Checked(entries=last, broken=last + 1, problems=[f"its head cannot be read: {error}"])
    problems, broken = [], None
    if named != head.key:
        problems.append(f"the public key beside its head is not the one that it names ({head.key})")
    elif not good:
        problems.append("the signature of its head is not of what it says: it was changed, or another signed it")
    if head.number != last or (last and head.hash != previous):
        broken = min(last, head.number) + 1
        problems.append(f"its head names entry {head.number}, the last one is {last}: entries are missing or added")
    if not seen and kept is not None:
        broken = last + 1
        problems.append(f"entry {kept.number}, the head that was kept, is not there: the end of the log was cut off")
    if more is not None:
        problems.append("something stands after its head")
    return Checked(entries=last, head=head, broken=broken, problems=problems)


def head_of(text: str) -> Head:
    """The head in the last line of an export. Raises Invalid when there is none."""
    try:
        return msgspec.convert(msgspec.json.decode(text, type=Sealed).head, Head)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the last line is no head of an audit log: {error}") from None
