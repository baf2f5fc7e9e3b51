"""One durable consumer that is followed: what it says, and what it was given."""

from __future__ import annotations

from collectors.errors import ConfigInvalid, Unavailable
from collectors.nats.acks import stream_of
from collectors.nats.config import Followed
from collectors.nats.feed import Feed
from collectors.nats.link import NO_CONSUMER, NO_STREAM, Link, Refused
from collectors.nats.records import fits
from collectors.nats.unread import Given


class Consumer:
    """`feed`: the stream of ours that catches what it says. `given`: None where there is no such consumer."""

    def __init__(self, followed: Followed) -> None:
        self.followed, self.feed = followed, Feed(stream_of(followed))
        self.given: Given | None = None
        self._subjects: tuple[str, ...] = (">",)

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
        self._subjects = tuple(about.get("filter_subjects") or [about.get("filter_subject") or ">"])
        waits = max([about.get("ack_wait", 0), *(about.get("backoff") or ())]) // 1000
        self.given = Given(int(info["delivered"]["stream_seq"]), waits)

    def wants(self, subject: str) -> bool:
        """Whether such messages are for it; all, until it was there."""
        return any(fits(each, subject) for each in self._subjects)
