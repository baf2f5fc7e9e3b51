"""The listener, asked as browsers, scrapers and strangers ask."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http import HTTPStatus

import httpx
import pytest

from collectors import listener as module
from collectors.errors import ConfigInvalid
from collectors.listener import THREADS, Answer, Listener, words


def broken():
    """A page with a defect."""
    raise KeyError("oops")


@pytest.fixture
def served():
    """A listener with a page, a large one and a broken one."""
    large = Answer(HTTPStatus.OK, "text/plain", b"x" * 500_000)
    pages = {"/a": lambda: words(HTTPStatus.OK, "alive"), "/large": lambda: large, "/broken": broken}
    found = Listener("127.0.0.1:0", pages)
    yield found
    found.close()


def said(served, request):
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


def test_pages_are_served(served):
    """GET of a known path gives its page, a query is passed over, a large answer comes whole."""
    url = f"http://127.0.0.1:{served.port}"
    assert httpx.get(f"{url}/a?x=1").text == "alive\n"
    assert len(httpx.get(f"{url}/large").content) == 500_000
    missing = httpx.get(f"{url}/b")
    assert (missing.status_code, missing.text) == (404, "there are /a, /large, /broken\n")


def test_get_only(served):
    """Any other method is refused, and nothing of a body is read."""
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        answer = said(served, f"{method} /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".encode())
        assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed")
        assert b"Allow: GET" in answer


@pytest.mark.parametrize("request_", [b"GET /a\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n", b"GET / a HTTP/1.1\r\n\r\n"])
def test_nonsense_is_answered(served, request_):
    """What is no HTTP gets a 400, and the next one is served."""
    assert said(served, request_).startswith(b"HTTP/1.1 400")
    assert b"alive" in said(served, b"GET /a HTTP/1.0\r\n\r\n")


def test_a_request_without_end_is_cut(served):
    """Headers beyond the bound are not read."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"GET /a HTTP/1.1\r\n" + b"x: y\r\n" * 3000)
        with suppress(ConnectionResetError):  # it was closed before all of ours was read, which tells the same
            assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_a_defect_of_a_page_is_an_answer(served, caplog):
    """500 and a line in the log; the listener goes on."""
    assert said(served, b"GET /broken HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 500")
    assert "oops" in caplog.text
    assert b"alive" in said(served, b"GET /a HTTP/1.1\r\n\r\n")


def test_the_slow_do_not_keep_others_out(monkeypatch):
    """More connections that say nothing than there are threads: after a while they are cut, and others are served."""
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    served = Listener("127.0.0.1:0", {"/a": lambda: words(HTTPStatus.OK, "alive")})
    slow = [socket.create_connection(("127.0.0.1", served.port), timeout=10) for _ in range(THREADS + 2)]
    assert b"alive" in said(served, b"GET /a HTTP/1.1\r\n\r\n")
    assert slow[0].recv(10) == b""
    for connection in slow:
        connection.close()
    served.close()


def test_it_ends():
    """After `close` no thread is left and the port is free."""
    before = threading.active_count()
    served = Listener("127.0.0.1:0", {})
    assert threading.active_count() == before + THREADS
    served.close()
    assert threading.active_count() == before
    Listener(f"127.0.0.1:{served.port}", {}).close()


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "192.0.2.7:9464"])
def test_an_address_that_cannot_be_had(served, address):
    """A port that is taken, an address of another host: the error names it."""
    wanted = address.format(port=served.port)
    with pytest.raises(ConfigInvalid, match=f"listen: {wanted} cannot be taken: "):
        Listener(wanted, {})
