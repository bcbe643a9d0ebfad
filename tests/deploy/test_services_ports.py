"""Free ports on the loopback address."""

import socket
from collections.abc import Iterator

import pytest

from deploy.services.ports import LOOPBACK, free_ports, is_free, is_loopback, split_address


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        yield server


def test_ports_are_distinct_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


def test_a_preferred_port_is_taken_where_it_is_free() -> None:
    [usual] = free_ports(1)
    assert free_ports(2, [usual])[0] == usual


def test_a_preferred_port_that_is_in_use_is_passed_over(taken: socket.socket) -> None:
    used = taken.getsockname()[1]
    assert not is_free(used)
    assert used not in free_ports(3, [used])


def test_a_port_that_was_preferred_twice_is_chosen_once() -> None:
    [usual] = free_ports(1)
    assert len(set(free_ports(2, [usual, usual]))) == 2


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:9092", ("127.0.0.1", 9092)),
        ("broker.example", ("broker.example", 1)),
        ("http://localhost:11434/", ("localhost", 11434)),
        ("https://models.example/ollama", ("models.example", 1)),
        ("[::1]:9092", ("::1", 9092)),
        ("[::1]", ("::1", 1)),
    ],
)
def test_an_address_is_split_into_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address, 1) == parts


def test_only_this_machine_is_loopback() -> None:
    assert is_loopback("localhost")
    assert not is_loopback("10.0.0.1")
