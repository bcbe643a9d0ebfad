"""What the group's coordinator knows of workers, as Faust's assignor tells it."""

from __future__ import annotations

import socket
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import GroupAuthorizationFailedError, GroupLoadInProgressError
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata

from schemas.settings import Settings, WorkerSettings
from streams import membership
from streams.membership import Member, advertised_url, describe_group, judge
from streams.topics import changelog_topic

CHANGELOG = changelog_topic(Settings())


def member(url: str, host: str = "10.0.0.1", *, actives: Any = (), standbys: Any = ()) -> tuple[Any, ...]:
    """A member as the coordinator shows it, made by Faust's own classes."""
    assignment = ClientAssignment(actives={CHANGELOG: list(actives), "observations": [9]}, standbys={CHANGELOG: list(standbys)})
    told = ClientMetadata(assignment=assignment, url=url, changelog_distribution={}, external_topic_distribution={}, topic_groups={})
    metadata = ConsumerProtocolMemberMetadata(4, ["observations"], told.dumps()).encode()
    given = ConsumerProtocolMemberAssignment(4, [("observations", [9])], zlib.compress(told.dumps())).encode()
    return (f"id-of-{url}", "faust", f"/{host}", metadata, given)


class Client:
    """An admin client that has the coordinator's answers."""

    def __init__(self, *answers: tuple[int, str, list[tuple[Any, ...]]]) -> None:
        self._answers = list(answers)

    async def describe_consumer_groups(self, names: list[str]) -> list[Any]:
        code, state, members = self._answers.pop(0)
        return [SimpleNamespace(groups=[(code, names[0], state, "consumer", "faust", members)])]


async def ask(*answers: tuple[int, str, list[tuple[Any, ...]]]) -> membership.Group:
    return await describe_group(Client(*answers), "palimpsest", CHANGELOG)


async def test_members_are_told_by_url_with_what_they_were_given() -> None:
    found = await ask((0, "Stable", [member("http://b:1", "10.0.0.2", actives=[1]), member("http://a:1", actives=[0, 2], standbys=[1])]))
    assert (found.state, found.rebalancing) == ("Stable", False)
    assert found.members == (
        Member("id-of-http://a:1", "10.0.0.1", "http://a:1", frozenset({0, 2}), frozenset({1})),
        Member("id-of-http://b:1", "10.0.0.2", "http://b:1", frozenset({1}), frozenset()),
    )


async def test_a_program_that_is_no_worker_of_ours_is_a_member_without_url_and_partitions() -> None:
    metadata = ConsumerProtocolMemberMetadata(0, ["observations"], b"").encode()
    assignment = ConsumerProtocolMemberAssignment(0, [("observations", [0])], b"\xff").encode()
    found = await ask(
        (0, "Stable", [("console-consumer", "c", "/10.0.0.9", metadata, assignment), ("other", "c", "/10.0.0.9", b"\0", b"\1")])
    )
    assert [(one.id, one.url, one.partitions) for one in found.members] == [
        ("console-consumer", "", frozenset()),
        ("other", "", frozenset()),
    ]


async def test_a_rebalance_is_waited_for_because_its_members_show_nothing() -> None:
    found = await ask((0, "PreparingRebalance", [("m", "faust", "/h", b"", b"")]), (0, "Stable", [member("http://a:1", actives=[0])]))
    assert [one.url for one in found.members] == ["http://a:1"]


async def test_a_rebalance_that_goes_on_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "PATIENCE", 0.0)
    found = await ask((0, "PreparingRebalance", [("m", "faust", "/10.0.0.1", b"", b"")]))
    assert found.rebalancing
    assert found.members == (Member("m", "10.0.0.1"),)


async def test_a_group_that_never_was_has_no_members() -> None:
    assert (await ask((0, "Dead", []))).members == ()
    assert (await ask((69, "Dead", []))).members == ()


async def test_a_coordinator_that_still_loads_is_asked_again_and_one_that_refuses_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await ask((GroupLoadInProgressError.errno, "", []), (0, "Empty", []))).state == "Empty"
    with pytest.raises(GroupAuthorizationFailedError, match="palimpsest"):
        await ask((GroupAuthorizationFailedError.errno, "", []))
    monkeypatch.setattr(membership, "PATIENCE", 0.0)
    with pytest.raises(GroupLoadInProgressError):
        await ask((GroupLoadInProgressError.errno, "", []))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_a_worker_that_listens_everywhere_is_reached_by_the_machine_s_name(host: str) -> None:
    assert advertised_url(WorkerSettings(http_host=host, http_port=0), 8080) == f"http://{socket.gethostname()}:8080"


def test_a_url_that_is_set_is_what_others_are_told() -> None:
    assert advertised_url(WorkerSettings(http_url="http://pod-0.palimpsest:9464/"), 8080) == "http://pod-0.palimpsest:9464"


def test_two_workers_with_one_url_are_warned_of_once() -> None:
    members = [
        Member("a", "h", "http://x:1"),
        Member("b", "h", "http://x:1"),
        Member("c", "h", "http://y:1"),
        Member("d", "h"),
        Member("e", "h"),
    ]
    (finding,) = judge(members)
    assert (finding.level, finding.code) == ("warn", "shared-url")
    assert "http://x:1" in finding.text


def test_a_loopback_address_is_warned_of_where_another_machine_would_need_it() -> None:
    near, far = Member("a", "10.0.0.1", "http://127.0.0.1:1"), Member("b", "10.0.0.2", "http://b:1")
    assert judge([near]) == []
    (finding,) = judge([near, far])
    assert (finding.code, near.url in finding.text) == ("unreachable-url", True)
