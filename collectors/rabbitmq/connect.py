"""Connecting to RabbitMQ by pika, and pika's exceptions turned into ours."""

from __future__ import annotations

import logging
import re
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pika
from pika import exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from collectors.errors import ConfigInvalid, Unavailable
from collectors.rabbitmq.config import Tls
from collectors.rabbitmq.wire import Connection

# ValueError and its kin: what pika decodes itself, answers of the broker's, it decodes as they come in. A connector's
# exception is none of AMQP's: a broker that takes connections and says nothing.
FAILED = (
    exceptions.AMQPError, AMQPConnectorException, OSError, ValueError, OverflowError, AssertionError, struct.error
)  # fmt: skip

REFUSED = (
    exceptions.AuthenticationError,
    exceptions.ProbableAuthenticationError,
    exceptions.ProbableAccessDeniedError,
)
ACCESS_REFUSED, PRECONDITION_FAILED, NOT_ALLOWED = 403, 406, 530
_CLOSED = re.compile(r"ConnectionClosedByBroker: \((\d+)\) (.*)", re.DOTALL)


def parameters(url: str, name: str, tls: Tls | None = None) -> pika.URLParameters:
    """Connection parameters; `name` is shown in the management UI. Raises `ConfigInvalid` on a bad URL or TLS file."""
    try:
        found = pika.URLParameters(url)
        if tls is not None:
            context = ssl.create_default_context(cafile=tls.ca_file or None)
            if tls.cert_file:
                context.load_cert_chain(tls.cert_file, tls.key_file or None)
            found.ssl_options = pika.SSLOptions(context, found.host)
    except Exception as error:  # noqa: BLE001 - pika evaluates a URL's options: a bad one raises anything
        # The URL itself stays out of the text, it holds a password; and what is no port may be the rest of one.
        why = "is what is special in its password percent-encoded?" if isinstance(error, ValueError) else error
        raise ConfigInvalid(f"rabbitmq {name!r}: bad `url` or `tls`: {type(error).__name__}: {why}") from None
    _quieten()
    found.client_properties = {"connection_name": name, "product": "message-tracker"}
    return found


def shown(at: pika.URLParameters) -> str:
    """The broker's address as texts name it, without the password."""
    return f"{at.host}:{at.port}{'' if at.virtual_host == '/' else '/'}{at.virtual_host}"


def _quieten() -> None:
    """Pika writes a dozen lines and a traceback per failed attempt; ours say the same in one. A level that somebody
    has set stays."""
    log = logging.getLogger("pika")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL)


def user_of(at: pika.URLParameters) -> str:
    """The user's name; empty when another mechanism (a certificate) says who we are."""
    return at.credentials.username if isinstance(at.credentials, pika.PlainCredentials) else ""


@contextmanager
def opened(at: pika.URLParameters) -> Iterator[pika.BlockingConnection]:
    """A new connection, for the block that declares what is needed on it; it stays open unless that fails. Wrong
    credentials, missing permissions and a queue that exists with other arguments are `ConfigInvalid`; all else is
    `Unavailable`."""
    with _setting_up(at):
        connection = pika.BlockingConnection(at, _impl_class=Connection)  # type: ignore[arg-type] # stubs: an instance
        try:
            yield connection
        except BaseException:
            closed(connection)
            raise


@contextmanager
def _setting_up(at: pika.URLParameters) -> Iterator[None]:
    """While connecting and declaring. Wrong credentials, missing permissions and a queue that exists with other
    arguments are `ConfigInvalid`; all else is `Unavailable`."""
    try:
        yield
    except REFUSED as error:
        if not _refused(error):
            raise Unavailable(f"rabbitmq {shown(at)} cannot be reached: {words(error)}") from None
        raise ConfigInvalid(
            f"rabbitmq {shown(at)}: user {user_of(at)!r} is refused: check user, password and "
            f"permissions of vhost {at.virtual_host!r} ({words(error)})"
        ) from None
    except (exceptions.ChannelClosedByBroker, exceptions.ConnectionClosedByBroker) as error:
        if _permanent(error.reply_code, error.reply_text):
            raise ConfigInvalid(f"rabbitmq {shown(at)}: {error.reply_code} {error.reply_text}") from None
        raise Unavailable(f"rabbitmq {shown(at)}: {error.reply_code} {error.reply_text}") from None
    except FAILED as error:
        raise Unavailable(f"rabbitmq {shown(at)} cannot be reached: {words(error)}") from None


def _refused(error: exceptions.AMQPError) -> bool:
    """Whether the broker itself said so. pika calls everything that ends a login probably refused: a node that goes
    down meanwhile, a cable. A broker from 3.0 on that refuses tells why (`authentication_failure_close`)."""
    if isinstance(error, exceptions.AuthenticationError):
        return True
    told = _CLOSED.match(str(error.args[0]) if error.args else "")
    return told is not None and _permanent(int(told[1]), told[2])


def _permanent(code: int, why: str) -> bool:
    """A vhost that is still recovering answers 530 too, and comes up by itself."""
    return code in (ACCESS_REFUSED, PRECONDITION_FAILED, NOT_ALLOWED) and "is down" not in why


@contextmanager
def working(at: pika.URLParameters) -> Iterator[None]:
    """While reading, publishing, acking: everything that pika raises is `Unavailable`."""
    try:
        yield
    except FAILED as error:
        raise Unavailable(f"rabbitmq {shown(at)}: the connection was lost: {words(error)}") from None


def closed(connection: pika.BlockingConnection | None) -> None:
    """Close, whatever state it is in; a connection that is broken already is what was wanted."""
    if connection is not None:
        with suppress(*FAILED):
            connection.close()


def stop_reading(channel: Any) -> None:
    """Close a channel that reads a stream. pika's own `close` rejects what it has not handed on, which for a stream is
    not implemented: the broker would close the connection (540)."""
    if channel.is_open:
        channel._impl.close()


def words(error: BaseException) -> str:
    """What an exception says; many of pika's say nothing as text."""
    return str(error) or repr(error)
