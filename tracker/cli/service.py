"""The service in one process, until SIGTERM or SIGINT: what `tracker serve` runs."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from rich.console import Console

import tracker
from tracker.api.app import create_app
from tracker.api.loopback import loopback
from tracker.api.service import Service
from tracker.cli import hops, logs
from tracker.cli.compose import Ports, composed
from tracker.cli.connections import connection
from tracker.cli.errors import UNAVAILABLE, CommandError
from tracker.cli.settings import ServiceSettings
from tracker.cli.telemetry import telling

if TYPE_CHECKING:
    from tracker.api.rpc import Receiver

GRACE_S = 10
"""Seconds that open requests get to finish after SIGTERM."""
GARBAGE = (50_000, 20, 50)
"""Thresholds of the cyclic garbage collection. A batch or a pass makes thousands of containers, and their counts free
nearly all of them: looking for cycles among them took longer than the work itself."""

out = Console(highlight=False, soft_wrap=True)


def run(
    settings: ServiceSettings,
    host: str,
    port: int,
    insecure: bool,
    ready: Callable[[Service, str], None] | None = None,
    ends: hops.Ends | None = None,
) -> None:
    """Serve until a signal. `ready` is called once requests are answered, with the service and its address. `ends` are
    where replays read and send, instead of what TRACKER_HOPS names.

    Raises CommandError, TrackerError, ControlError before anything is answered.
    """
    if insecure and not loopback(host):
        raise CommandError(f"--insecure with --host {host} would let everybody in: use 127.0.0.1, or tokens")
    logs.configure(settings.log_format, settings.log_level)
    spans = _for_calls(host, settings.otlp_grpc_port) if settings.otlp_grpc_port else ""
    listeners = [_listener(host, port, "--port")]
    if settings.otlp_port:
        listeners.append(_listener(host, settings.otlp_port, "TRACKER_OTLP_PORT"))
    if ends is None:
        ends = hops.build(hops.read(settings.hops)) if settings.hops else hops.Ends()
    url = _url(listeners[0])
    # The server hands a signal on when it is done; the default would end the process before the ledger is closed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        with composed(settings, insecure, Ports(ends.sources, ends.publishers)) as service:
            told = ready or (lambda service, url: greet(service, settings, url))
            app = create_app(service)
            receiver = _receiver(app, spans) if spans else None
            gc.freeze()  # modules and routes stay
            gc.set_threshold(*GARBAGE)
            with telling(service.metrics, lambda: app.state.snapshot.refresh(service.clock())):
                _Server(_config(service, app), lambda: told(service, url), receiver).run(sockets=listeners)
            service.discovered.flush()
            app.state.snapshot.close()
    finally:
        ends.close()
        for listener in listeners:
            listener.close()
    if ready is None:
        out.print("stopped; everything that was answered is stored")


class _Server(uvicorn.Server):
    """Says when it answers; what takes calls over gRPC begins and ends with it, on its event loop."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], receiver: Receiver | None) -> None:
        super().__init__(config)
        self._ready, self._receiver = ready, receiver

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._receiver:
            await self._receiver.start()
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = [super().shutdown(sockets)]
        if self._receiver:
            ending.append(self._receiver.stop(GRACE_S))
        await asyncio.gather(*ending)


def _for_calls(host: str, port: int) -> str:
    """The address for gRPC, which binds it by itself, later; so that a taken one costs nothing."""
    if find_spec("grpc") is None:
        raise CommandError(
            f"TRACKER_OTLP_GRPC_PORT={port} needs grpcio, which is not installed: pip install 'message-tracker[grpc]', "
            "or unset it and let exporters send OTLP over HTTP"
        )
    with _listener(host, port, "TRACKER_OTLP_GRPC_PORT") as free:
        return _url(free).removeprefix("http://")


def _receiver(app: FastAPI, address: str) -> Receiver:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # or senders could fill stderr, past the log and its format
    from tracker.api.rpc import Receiver

    return Receiver(app.state.exports, address)


def _config(service: Service, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http=connection(service.limits.read_seconds),
        timeout_graceful_shutdown=GRACE_S,
        lifespan="off",
    )


def _listener(host: str, port: int, option: str) -> socket.socket:
    """Bound before anything is opened, so that a taken port costs nothing."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)  # a second process binding the same port must fail here, not later
    except socket.gaierror as error:
        raise CommandError(f"--host {host}: {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(f"port {port} of {host} is taken: `ss -ltnp 'sport = :{port}'` says by whom; "
                               f"or choose another with {option}", UNAVAILABLE) from None  # fmt: skip
        raise CommandError(f"cannot listen on {host} port {port}: {error.strerror}", UNAVAILABLE) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def greet(service: Service, settings: ServiceSettings, url: str) -> None:
    """Where it listens, who may come in, and what to do next."""
    out.print(f"[bold]tracker {tracker.__version__}[/] listens on {url}")
    out.print(f"  ledger   {service.store.engine.where}")
    if service.insecure:
        out.print("  access   nobody is asked for a token (--insecure); loopback only")
    else:
        token = service.control.tokens.bootstrap(service.clock())
        out.print("  access   by token: tracker token create NAME --scope read")
        if token:
            out.print(f"  [bold]first token, scope admin, shown this once:[/] {token}")
    if not service.specs.known():
        out.print("  next     describe a flow and put it: tracker flows put FLOW.yaml; then POST events to /v1/events")
    if settings.otlp_grpc_port:
        out.print(f"  spans    OTLP over gRPC on port {settings.otlp_grpc_port}, over HTTP at {url}/v1/traces")
    out.print(f"  look     {url}/ (overview), {url}/docs (API), {url}/metrics")
