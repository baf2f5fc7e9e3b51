"""The proxy does to a connection what it says."""

from __future__ import annotations

import socket
import socketserver
import threading
import time

import pytest

from tests.servers.proxy import Proxy


@pytest.fixture
def proxy():
    """Before a server that says everything back."""

    class Back(socketserver.BaseRequestHandler):
        def handle(self):
            while content := self.request.recv(4096):
                self.request.sendall(content)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Back) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with Proxy(("127.0.0.1", server.server_address[1])) as found:
            yield found
        server.shutdown()


def talk(connection, said):
    """Say something and hear it."""
    connection.sendall(said)
    heard = b""
    while len(heard) < len(said) and (part := connection.recv(65536)):
        heard += part
    return heard


def connect(proxy):
    """A client of it."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def test_it_carries_both_ways(proxy):
    """Whatever the size."""
    with connect(proxy) as client:
        assert talk(client, b"x" * 300_000) == b"x" * 300_000
    assert proxy.carried == 300_000


def test_a_cut_ends_what_is_connected_and_nothing_else(proxy):
    """The next one is taken."""
    with connect(proxy) as client:
        assert talk(client, b"one") == b"one"
        proxy.cut()
        assert client.recv(10) == b""
    with connect(proxy) as client:
        assert talk(client, b"two") == b"two"


def test_gone_refuses_until_it_is_back(proxy):
    """On the same port."""
    port = proxy.port
    proxy.gone()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.back()
    assert proxy.port == port
    with connect(proxy) as client:
        assert talk(client, b"three") == b"three"


def test_what_is_held_comes_later(proxy):
    """The connection stays open."""
    with connect(proxy) as client:
        assert talk(client, b"four") == b"four"
        proxy.hold()
        client.sendall(b"five")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(10)
        client.settimeout(20)
        proxy.go_on()
        assert client.recv(10) == b"five"


def test_a_rate_slows_down(proxy):
    """Ten kilobytes at a hundred kilobytes a second take at least a tenth of one, each way."""
    proxy.rate = 100_000
    with connect(proxy) as client:
        began = time.monotonic()
        assert talk(client, bytes(10_000)) == bytes(10_000)
        assert time.monotonic() - began >= 0.1
