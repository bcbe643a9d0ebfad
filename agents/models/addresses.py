"""Addresses of servers."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a server's address is this machine's own, which no proxy of the environment can reach.

    Examples
    --------
    >>> is_loopback("http://127.0.0.1:11434/path"), is_loopback("http://[::1]:8000"), is_loopback("https://model.example")
    (True, True, False)
    """
    name = host.split("://", 1)[-1].split("/", 1)[0]
    name = name[1:].split("]", 1)[0] if name.startswith("[") else name.rsplit(":", 1)[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
