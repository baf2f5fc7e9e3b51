"""A RabbitMQ that somebody else runs: what tests need of it goes through its management API."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import httpx

MANAGEMENT_PORT = 15672


class ExternalRabbitMQ:
    """The same surface as `rabbitmq.RabbitMQ`, as far as a server that is not ours allows."""

    def __init__(self, url: str, management_url: str | None = None) -> None:
        parts = urlsplit(url)
        login = f"{parts.username or 'guest'}:{parts.password or 'guest'}"
        self.url = url
        self.management_url = (management_url or f"http://{login}@{parts.hostname}:{MANAGEMENT_PORT}").rstrip("/")

    def trace(self, on: bool = True, vhost: str = "/") -> None:
        """Switches the firehose on or off."""
        target = f"{self.management_url}/api/vhosts/{quote(vhost, safe='')}"
        httpx.put(target, json={"tracing": on}, timeout=10.0).raise_for_status()

    def ctl(self, *arguments: str) -> str:
        """`trace_on` and `trace_off` only: `rabbitmqctl` needs the node's own cookie."""
        if arguments[:1] not in (("trace_on",), ("trace_off",)):
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: not possible on a server given by its URL")
        self.trace(arguments[0] == "trace_on", arguments[2] if arguments[1:2] == ("-p",) else "/")
        return ""
