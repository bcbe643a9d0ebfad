"""Addresses of servers."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


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


def proxy_of(host: str) -> str | None:
    """The environment's proxy for a server (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`); None: it is asked without one."""
    parts, proxies = urlsplit(host), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(host) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
