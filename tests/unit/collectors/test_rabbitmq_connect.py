"""Which ends of a login are the operator's to mend."""

from __future__ import annotations

import pika
import pytest
from pika import exceptions

from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.rabbitmq.connect import _setting_up

AT = pika.URLParameters("amqp://guest:secret@localhost/v")
CUT = repr(exceptions.StreamLostError("Transport indicated EOF"))


def closed(code: int, why: str) -> str:
    """As pika quotes what the broker said when it closed the connection."""
    return repr(exceptions.ConnectionClosedByBroker(code, why))


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (exceptions.ProbableAuthenticationError(CUT), Unavailable),
        (exceptions.ProbableAccessDeniedError(CUT), Unavailable),
        (exceptions.ProbableAuthenticationError(closed(320, "CONNECTION_FORCED - shutdown")), Unavailable),
        (exceptions.ProbableAccessDeniedError(closed(530, "NOT_ALLOWED - vhost 'v' is down")), Unavailable),
        (exceptions.ProbableAccessDeniedError(closed(541, "INTERNAL_ERROR")), Unavailable),
        (exceptions.ProbableAuthenticationError(), Unavailable),
        (exceptions.ProbableAuthenticationError(closed(403, "ACCESS_REFUSED - Login was refused")), ConfigInvalid),
        (exceptions.ProbableAccessDeniedError(closed(530, "NOT_ALLOWED - access to vhost 'v' refused")), ConfigInvalid),
        (exceptions.AuthenticationError("PLAIN"), ConfigInvalid),
    ],
)
def test_only_what_the_broker_refuses_is_permanent(error: Exception, wanted: type[CollectorError]) -> None:
    """A connection that ended while it began says nothing of passwords: a node that goes down ends all of them."""
    with pytest.raises(wanted), _setting_up(AT):
        raise error
