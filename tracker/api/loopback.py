"""Which names and addresses are this machine alone."""

from __future__ import annotations

from ipaddress import ip_address


def loopback(host: str) -> bool:
    """True for a loopback address or `localhost`; nothing is resolved."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost")
