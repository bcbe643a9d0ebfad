"""Keys land where the producers of the world put them."""

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import Settings
from streams.partitioner import partition_of, state_partition

#: From Kafka's own UtilsTest.testMurmur2.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "number"), JAVA.items())
def test_murmur2_is_javas(key: bytes, number: int) -> None:
    assert murmur2(key) == number % 2**32
    # Java: Utils.toPositive(Utils.murmur2(key)) % partitions
    assert partition_of(key, 12) == (number & 0x7FFFFFFF) % 12


@given(st.binary(max_size=64), st.integers(1, 200))
def test_murmur2_places_keys_as_the_python_producer_does(key: bytes, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everywhere, everywhere)


def test_crc32_is_librdkafkas() -> None:
    # The standard check value of CRC-32: rd_crc32("123456789") % partitions.
    assert partition_of(b"123456789", 1000, "crc32") == 0xCBF43926 % 1000


@pytest.mark.parametrize("role", ["observations", "truths", "commands"])
def test_states_are_where_inputs_that_are_used_as_they_are_have_the_entity(role: str) -> None:
    settings = Settings(**{role: {"key": "entity", "partitioner": "crc32"}})
    assert state_partition(settings, "sensor-1", 16) == partition_of(b"sensor-1", 16, "crc32")


def test_states_are_placed_by_murmur2_where_all_inputs_are_rekeyed() -> None:
    assert state_partition(Settings(), "sensor-1", 16) == partition_of(b"sensor-1", 16)
    unread = Settings(truths={"key": "entity", "partitioner": "crc32", "source": "next-observation"})
    assert state_partition(unread, "sensor-1", 16) == partition_of(b"sensor-1", 16)
