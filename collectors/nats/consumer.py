"""One durable consumer that is followed: what it says, and what it was given."""

from __future__ import annotations

from collections.abc import Iterator

from collectors.errors import ConfigInvalid, Unavailable
from collectors.nats.acks import stream_of
from collectors.nats.config import Followed
from collectors.nats.feed import Feed
from collectors.nats.link import NO_CONSUMER, NO_STREAM, Link, Refused
from collectors.nats.unread import Given, Unread


class Consumer:
    """`feed`: the stream of ours that catches what it says. `given`: None where there is no such consumer."""

    def __init__(self, followed: Followed, remember: int) -> None:
        self.followed, self.feed = followed, Feed(stream_of(followed))
        self.unread = Unread(remember)
        self.given: Given | None = None

    @property
    def source(self) -> str:
        """As coverage names it."""
        return f"{self.followed.stream}/{self.followed.consumer}"

    @property
    def reached(self) -> int:
        """The last message that it was given; 0 where it is not there."""
        return self.given.last if self.given else 0

    def look(self, link: Link) -> None:
        """Ask what it was given. Raises `ConfigInvalid` for a consumer whose acks stand for others."""
        try:
            info = link.ask(f"CONSUMER.INFO.{self.followed.stream}.{self.followed.consumer}")
        except Refused as error:
            if error.code not in (NO_CONSUMER, NO_STREAM):
                raise Unavailable(str(error)) from None
            self.given = None
            return
        about = info["config"]
        if about.get("ack_policy") != "explicit":
            raise ConfigInvalid(
                f"{link.what}: consumer {self.followed.consumer!r} of {self.followed.stream} has ack_policy "
                f"{about.get('ack_policy')}: what it acks cannot be told message by message; take it out of "
                "`consumers`, and instrument its clients"
            )
        wanted = tuple(about.get("filter_subjects") or [about.get("filter_subject") or ">"])
        waits = max([about.get("ack_wait", 0), *(about.get("backoff") or ())]) // 1000
        self.given = Given(int(info["delivered"]["stream_seq"]), waits, wanted)

    def gone(self, first: int, stream: Feed, now: int) -> Iterator[tuple[int, int]]:
        """Of what lies before `first` that which it will never get, as stretches; `now`: a tick. Of what was read
        before this process began only that is known which it was not given yet."""
        if self.given is None:
            return
        start, end = max(stream.first, self.given.last + 1), min(first, stream.began)
        if start < end:
            yield start, end
        yield from self.unread.gone(first, self.given, now)
