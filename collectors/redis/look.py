"""Looking at a stream as any client may: what it holds, what its groups were given, and what is pending. This is how
reading begins, how it goes on where the stream of writes was cut off, and all there is where nobody may be a replica.

What each group is done with follows from two questions: it was given all up to its last delivered id, and what is not
in its pending list any more, and stood in the stream meanwhile, was acked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from collectors.errors import ConfigInvalid, Unavailable
from collectors.redis.books import DELETED, RESTARTED, TRIMMED, Books, Said
from collectors.redis.entry import NO_ID, Fields, Id, id_of, id_text

PAGE = 500
Since = Literal["same", "ended", "other", "replaced"]
"""What lies between this look and what was read before: the same server, of which something was not read; a server that
ended, and of which everything was read; another one, of which nobody knows what it did; or something was done to the
stream that is not understood: it may be one that was elsewhere before, with groups that are beyond what we know."""


class State(NamedTuple):
    """A stream at one moment. `deleted`: the highest id that XDEL took; `added`: how many it ever had, None: not
    told."""

    first: Id | None
    last: Id
    deleted: Id
    added: int | None
    groups: dict[str, Id]


@contextmanager
def client_errors(what: str) -> Iterator[None]:
    """redis-py's exceptions as ours."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise ConfigInvalid(f"{what}: {error}") from None
    except exceptions.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            raise ConfigInvalid(f"{what}: `streams` names a key that is no stream") from None
        raise Unavailable(f"{what}: {error}") from None
    except (exceptions.RedisError, OSError) as error:
        raise Unavailable(f"{what}: {error}") from None


def connected(url: str, timeout: float) -> redis.Redis:
    """A client that gives bytes, tries nothing again by itself, and connects when it is first asked."""
    return redis.Redis.from_url(
        url, protocol=2, decode_responses=False, retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout, socket_connect_timeout=timeout,
    )  # fmt: skip


def state_of(client: redis.Redis, key: str, known: bool) -> State | None:
    """None where there is no such stream; also where something else is now, and a stream was `known`."""
    with client.pipeline(transaction=True) as asked:
        asked.xinfo_stream(key)
        asked.xinfo_groups(key)
        info, groups = asked.execute(raise_on_error=False)
    if isinstance(info, exceptions.ResponseError):
        why = str(info)
        if "no such key" in why or (known and why.startswith("WRONGTYPE")):
            return None
    for answer in (info, groups):
        if isinstance(answer, Exception):
            raise answer
    first, added = info["first-entry"], info.get("entries-added")
    return State(
        id_of(first[0]) if first else None,
        id_of(info["last-generated-id"]),
        id_of(info.get("max-deleted-entry-id", b"0-0")),
        added,
        {group["name"].decode("utf-8", "backslashreplace"): id_of(group["last-delivered-id"]) for group in groups},
    )


def entries(client: redis.Redis, key: str, after: Id, to: Id) -> Iterator[list[tuple[Id, Fields]]]:
    """Page by page."""
    while after < to:
        page: Any = client.xrange(key, f"({id_text(after)}", id_text(to), count=PAGE)
        found = [(id_of(name), fields) for name, fields in page]
        if not found:
            return
        yield found
        after = found[-1][0]


def entry_at(client: redis.Redis, key: str, entry: Id) -> Fields | None:
    """One entry; None where the stream holds it no more."""
    found: Any = client.xrange(key, id_text(entry), id_text(entry))
    return found[0][1] if found else None


def pending(client: redis.Redis, key: str, group: str) -> dict[Id, tuple[str, int]]:
    """Who has what, and for the how manieth time."""
    found: dict[Id, tuple[str, int]] = {}
    begin = "-"
    while True:
        page: Any = client.xpending_range(key, group, begin, "+", PAGE)
        for one in page:
            consumer = one["consumer"].decode("utf-8", "backslashreplace")
            found[id_of(one["message_id"])] = (consumer, one["times_delivered"])
        if len(page) < PAGE:
            return found
        begin = f"({page[-1]['message_id'].decode()}"


def looked(client: redis.Redis, books: Books, key: str, since: Since, from_end: bool = False) -> Iterator[list[Said]]:
    """What a stream holds beyond what the books have of it, and what its groups did since; bit by bit. What cannot be
    told goes to `books.unsure`. `from_end`: of a stream that was never read only what comes from now on."""
    stream = books.streams[key]
    state = state_of(client, key, known=stream.added is not None)
    if state is None:
        if stream.last != NO_ID:
            yield _without(books, key, set(stream.entries), since)
        books.begin_anew(key)
        return
    if from_end and stream.added is None and stream.last == NO_ID:
        stream.last = state.last
    if state.last < stream.last:  # made anew, or it came back with less
        yield _without(books, key, {entry for entry in stream.entries if entry > state.last}, since)
        stream.last, stream.added = state.last, None
    known, first_time = stream.last, stream.added is None
    for page in entries(client, key, known, state.last):
        for entry, fields in page:
            yield [books.added(key, entry, fields)]
    untold = state.added is None and known != NO_ID and state.last > known and (state.first or state.last) > known
    if untold or (not first_time and stream.added != state.added):
        books.unsure.add((key, ""))
    stream.last, stream.added = max(stream.last, state.last), state.added
    books.changed.add((key, None))
    yield from _owed_again(client, books, key, known)
    gone = _gone(client, books, key, state, since)
    if since != "same" and gone:
        yield _without(books, key, gone, since)
    for group in stream.groups:
        yield list(_group(client, books, key, group, state, gone, since))
    for entry in sorted(gone):
        reason = TRIMMED if state.first is None or entry < state.first else DELETED
        yield list(books.gone(key, entry, reason))


def _owed_again(client: redis.Redis, books: Books, key: str, to: Id) -> Iterator[list[Said]]:
    """What a group that was made, or set back, has before it, though others are done with it."""
    behind = [last for last in books.streams[key].groups.values() if last is not None and last < to]
    if key in books.stale and behind:
        for page in entries(client, key, min(behind), to):
            for entry, fields in page:
                if message_id := books.named(key, fields):
                    books.owe(key, entry, message_id)
            yield []


def _gone(client: redis.Redis, books: Books, key: str, state: State, since: Since) -> set[Id]:
    """Which of the entries that are owed the stream held no more. A server that came back may have lost its newest and
    been written on: then they are missed in the middle, and nobody deleted them."""
    owed = [entry for entry in books.streams[key].entries if entry <= state.last]
    gone = {entry for entry in owed if state.first is None or entry < state.first}
    perhaps = [entry for entry in owed if entry not in gone and (since != "same" or entry <= state.deleted)]
    for at in range(0, len(perhaps), PAGE):
        with client.pipeline(transaction=False) as asked:
            for entry in perhaps[at : at + PAGE]:
                asked.xrange(key, id_text(entry), id_text(entry))
            found = asked.execute()
        gone |= {entry for entry, there in zip(perhaps[at : at + PAGE], found, strict=True) if not there}
    return gone


def _without(books: Books, key: str, gone: set[Id], since: Since) -> list[Said]:
    """Of a server that ended we had read all: what was not acked then, and is not there now, never will be. Of anything
    else nobody knows what happened before."""
    if since == "ended":
        return [said for entry in sorted(gone) for said in books.gone(key, entry, RESTARTED, unread_only=False)]
    for entry in gone:
        for group in list(books.streams[key].entries[entry].owed):
            books.forgotten(key, entry, group)
    books.unsure.add((key, ""))
    return []


def _group(
    client: redis.Redis, books: Books, key: str, group: str, state: State, gone: set[Id], since: Since
) -> Iterator[Said]:
    stream = books.streams[key]
    known, last = stream.groups[group], state.groups.get(group)
    owing = [entry for entry, owed in stream.entries.items() if group in owed.owed]
    if last is None:
        stream.groups[group] = None
        books.changed.add((key, None))
        for entry in (one for one in owing if group in stream.entries[one].pending):
            books.unsure.add((key, group))
            books.forgotten(key, entry, group)
        return
    held = pending(client, key, group)
    for entry in owing:
        if entry in held:
            if stream.entries[entry].pending.get(group) != held[entry]:
                yield from books.taken(key, entry, group, *held[entry])
        elif entry <= last:
            if known is not None and entry not in gone and since != "replaced":
                yield from books.acked(key, entry, group)
            else:  # it may have been passed over when the group was made, or when the entry was gone
                books.unsure.add((key, group))
                books.forgotten(key, entry, group)
    stream.groups[group] = last
    books.changed.add((key, None))
