"""Instrumentation of stomp.py: produce when the broker has it, deliver, and what the application says of each message.

One line: `connection = instrument.connection(stomp.Connection12(...), observer)`, in place of the connection. An
observation is in the spool before the broker is told. What is sent or said in a transaction is told at its commit.
Listeners stay the application's own; they see the receipts, too, that are asked for here (`tracker-1`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from itertools import count
from typing import Any, NamedTuple

from collectors.carried import Carried, carried, new_message_id
from collectors.clock import now_micros
from collectors.instrument.observe import Observer
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Stage

REMEMBERED = 100_000
"""Messages that were given out and not settled: of more than that the oldest are forgotten."""
OURS = "tracker-"
"""How the receipts begin that we ask for."""


def connection(connection: Any, observer: Observer, *, destinations: Collection[str] | None = None) -> Any:
    """The same connection, observed. Only messages of one of `destinations` (`/queue/orders`) are; None: all."""
    return ObservedConnection(connection, observer, destinations)


class _Given(NamedTuple):
    """A message that the application has: how an ack calls it, of which subscription, and what its events share."""

    key: str
    subscription: str
    shared: bytes | None


class _Said(NamedTuple):
    """What was done in a transaction. `given`: None for what was sent, at that moment (µs)."""

    stage: Stage
    shared: bytes | None
    at: int = 0
    given: _Given | None = None


class ObservedConnection:
    """A connection of stomp.py whose messages are observed; all that is not here is its own."""

    def __init__(self, connection: Any, observer: Observer, destinations: Collection[str] | None) -> None:
        self._connection, self._observer, self._destinations = connection, observer, destinations
        self._mutex, self._receipts = threading.Lock(), count(1)
        self._modes: dict[str, str] = {}
        self._given: OrderedDict[str, _Given] = OrderedDict()
        self._sent: dict[str, list[tuple[bytes | None, int]]] = {}  # by the receipt that will say that it is there
        self._open: dict[str, list[_Said]] = {}  # by transaction
        self._now: bytes | None = None  # what the receiver thread hands to listeners at this moment
        connection.set_listener(f"!tracker-{id(self)}", _Before(self))  # called in the order of their names
        connection.set_listener(f"~tracker-{id(self)}", _After(self))

    def __getattr__(self, name: str) -> Any:
        """Everything else: the connection's own."""
        return getattr(self._connection, name)

    def subscribe(self, destination: str, id: Any, ack: str = "auto", headers: Any = None, **more: Any) -> None:
        """As the connection."""
        self._modes[str(id)] = ack
        self._connection.subscribe(destination, id, ack, headers, **more)

    def send(
        self, destination: str, body: Any, content_type: str | None = None, headers: Any = None, **more: Any
    ) -> None:
        """As the connection, with message id and origin time set where absent. Records `produce` when the broker says
        that it has it, `nack` when it refuses; for that it is asked for a receipt, where the application does not."""
        if not self._watches(destination):
            self._connection.send(destination, body, content_type, headers, **more)
            return
        at, receipt = now_micros(), ""
        try:
            headers = {**(headers or {}), **more}
            headers.setdefault(ORIGIN_AT, str(at))
            if not self._said(headers).message_id:
                headers[self._observer.identity_header] = new_message_id(at)
            value = body.encode() if isinstance(body, str) else body
            shared = self._observer.share(None, value, said=self._said(headers))
            if transaction := headers.get("transaction"):
                self._open.setdefault(transaction, []).append(_Said(Stage.produce, shared, at))
            else:
                receipt = headers.setdefault("receipt", f"{OURS}{next(self._receipts)}")
                with self._mutex:
                    self._sent[receipt] = [(shared, at)]
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._observer.cannot(error)
            self._observer.tell(Stage.produce, None)
        try:
            self._connection.send(destination, body, content_type, headers)
        except BaseException:
            with self._mutex:
                self._sent.pop(receipt, None)
            raise

    def ack(self, id: str, *args: Any, **options: Any) -> None:
        """As the connection; `ack` is recorded before the broker is told, of each message that it stands for."""
        self._settle(Stage.ack, id, args, options)
        self._connection.ack(id, *args, **options)

    def nack(self, id: str, *args: Any, **options: Any) -> None:
        """As the connection; `dead_letter` is recorded before the broker is told: ActiveMQ makes one of it."""
        self._settle(Stage.dead_letter, id, args, options)
        self._connection.nack(id, *args, **options)

    def commit(self, transaction: str | None = None, headers: Any = None, **more: Any) -> None:
        """As the connection; what was said in the transaction is recorded before, what was sent when it is done."""
        parts = self._open.pop(transaction or "", [])
        for said in parts:
            if said.given:
                self._tell(said.stage, said.shared)
        sent = [(said.shared, said.at) for said in parts if said.given is None]
        if sent:
            headers = {**(headers or {}), **more}
            receipt = headers.setdefault("receipt", f"{OURS}{next(self._receipts)}")
            with self._mutex:
                self._sent[receipt] = sent
            more = {}
        self._connection.commit(transaction, headers, **more)

    def abort(self, transaction: str, *args: Any, **options: Any) -> None:
        """As the connection; what was done in it has not been done, and what was acked may be acked again."""
        with self._mutex:
            for said in self._open.pop(transaction, ()):
                if said.given:
                    self._given[said.given.key] = said.given
        self._connection.abort(transaction, *args, **options)

    # -- what the receiver thread says -----------------------------------------------------------------------------

    def delivered(self, frame: Any) -> None:
        """Records `deliver`."""
        headers, self._now = frame.headers, None
        if not self._watches(headers.get("destination", "")):
            return
        try:
            body = frame.body.encode() if isinstance(frame.body, str) else frame.body
            own, subscription = headers.get("message-id", ""), headers.get("subscription", "")
            said = self._said(headers)
            shared = self._observer.share(
                None, body, said=said, message_id=said.message_id or own, delivery=_delivery(headers, own)
            )
            if self._modes.get(subscription) == "auto":
                self._now = shared
            else:
                key = headers.get("ack") or own
                with self._mutex:
                    self._given[key] = _Given(key, subscription, shared)
                    if len(self._given) > REMEMBERED:
                        self._given.popitem(last=False)
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._observer.cannot(error)
            shared = None
        self._observer.tell(Stage.deliver, shared)

    def handled(self) -> None:
        """All listeners returned: where the broker waits for no ack, that was it."""
        if self._now is not None:
            self._observer.tell(Stage.ack, self._now)

    def answered(self, receipt: str, refused: bool) -> None:
        """The broker has what was sent, or does not want it."""
        with self._mutex:
            sent = self._sent.pop(receipt, [])
        for shared, at in sent:
            if refused:
                self._observer.tell(Stage.nack, shared, observed_at=at, attributes={"refused_by": "broker"})
            else:
                self._observer.tell(Stage.produce, shared, observed_at=at)

    def gone(self) -> None:
        """The connection is cut: nobody will say any more what became of what was sent; and the broker gives again what
        it gave."""
        with self._mutex:
            self._sent.clear()
            self._given.clear()
        self._open.clear()

    def _settle(self, stage: Stage, key: str, args: Any, options: Any) -> None:
        place = 1 if self._connection.version == "1.1" else 0  # there the subscription comes before it
        transaction = options.get("transaction") or (args[place] if len(args) > place else None)
        for given in self._settled(key, stage):
            if transaction:
                self._open.setdefault(transaction, []).append(_Said(stage, given.shared, given=given))
            else:
                self._tell(stage, given.shared)

    def _settled(self, key: str, stage: Stage) -> list[_Given]:
        """Each message that an ack of this one stands for. ActiveMQ takes a nack for that one alone, whatever STOMP
        says."""
        with self._mutex:
            last = self._given.get(key)
            if last is None:
                return []
            keys = [key]
            if stage is Stage.ack and self._modes.get(last.subscription) == "client":  # for all before it
                until = list(self._given).index(key) + 1
                keys = [one for one in list(self._given)[:until] if self._given[one].subscription == last.subscription]
            return [self._given.pop(one) for one in keys]

    def _said(self, headers: Any) -> Carried:
        identity = self._observer.identity_header
        return carried(headers, identity if headers.get(identity) else MESSAGE_ID)

    def _tell(self, stage: Stage, shared: bytes | None) -> None:
        self._observer.tell(stage, shared, reason="rejected" if stage is Stage.dead_letter else "")

    def _watches(self, destination: str) -> bool:
        return self._destinations is None or destination in self._destinations


class _Before:
    """Listens before the application does."""

    def __init__(self, connection: ObservedConnection) -> None:
        self._connection = connection

    def on_message(self, frame: Any) -> None:
        """It is handed over."""
        self._connection.delivered(frame)


class _After:
    """Listens when the application has listened."""

    def __init__(self, connection: ObservedConnection) -> None:
        self._connection = connection

    def on_message(self, _: Any) -> None:
        """It was handed over."""
        self._connection.handled()

    def on_receipt(self, frame: Any) -> None:
        """It is done."""
        self._connection.answered(frame.headers.get("receipt-id", ""), False)

    def on_error(self, frame: Any) -> None:
        """It is refused."""
        self._connection.answered(frame.headers.get("receipt-id", ""), True)

    def on_disconnected(self) -> None:
        """There is no connection any more."""
        self._connection.gone()


def _delivery(headers: Any, own: str) -> str:
    """As the collector of advisories calls it."""
    place = headers.get("destination", "").removeprefix("/")
    kind, _, name = place.partition("/")
    return f"{kind.capitalize()}.{name}:{own}"
