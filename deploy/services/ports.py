"""Free ports on the loopback address."""

import contextlib
import socket
from collections.abc import Iterable, Iterator

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do: without it, a port whose last connections are still in TIME_WAIT would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int, preferred: Iterable[int] = ()) -> list[int]:
    """Choose distinct free loopback ports.

    Parameters
    ----------
    count
        How many.
    preferred
        Ports to take, in this order, where they are free: the usual one, or those of the last run, so that clients need not be
        told anything new.

    Notes
    -----
    Another program may take a port between this call and the server's start. The server then fails with a message that says so;
    the window is milliseconds, and the kernel hands out ephemeral ports in random order.
    """
    chosen: list[int] = []
    for port in _candidates(preferred):
        if len(chosen) == count:
            break
        if port not in chosen and is_free(port):
            chosen.append(port)
    with contextlib.ExitStack() as held:  # all are held until the last is chosen, so that no two are the same
        while len(chosen) < count:
            probe = held.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            port = probe.getsockname()[1]
            if port not in chosen:
                chosen.append(port)
    return chosen


def _candidates(preferred: Iterable[int]) -> Iterator[int]:
    return (port for port in preferred if 0 < port < 65536)


def split_address(address: str, default_port: int) -> tuple[str, int]:
    """Split ``host``, ``host:port`` or ``scheme://host:port`` into host and port.

    Examples
    --------
    >>> split_address("http://localhost:11434", 11434)
    ('localhost', 11434)
    >>> split_address("[::1]:9092", 9092)
    ('::1', 9092)
    >>> split_address("broker", 9092)
    ('broker', 9092)
    """
    rest = address.split("://", 1)[-1].split("/", 1)[0]
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        return host, int(tail[1:]) if tail.startswith(":") else default_port
    host, colon, port = rest.rpartition(":")
    return (host, int(port)) if colon else (rest, default_port)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's loopback.

    Examples
    --------
    >>> [is_loopback(host) for host in ("localhost", "127.0.1.1", "::1", "kafka.example.org")]
    [True, True, True, False]
    """
    return host in {"localhost", "::1"} or host.startswith("127.")
