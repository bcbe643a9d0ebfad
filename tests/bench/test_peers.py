"""The comparison with other programs: its verdicts can fail, and each program does the job."""

from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from bench.peers import backlog, summary, verdict
from bench.peers.cells import HEADLINE, Cell, cells
from bench.peers.roster import PEERS, Peer
from bench.peers.track import Run, Track
from bench.peers.verdict import Effects, Foreign, Logged, Outputs

SENT = [Logged("a", "0", 0, 0, 10.0), Logged("b", "1", 0, 1, 10.0), Logged("a", "2", 0, 2, 11.0), Logged("a", "3", 0, 3, 12.0)]


def written(*identities: str) -> list[Logged]:
    """Outputs for observations, in this order."""
    entities = {record.identity: record.entity for record in SENT}
    return [Logged(entities[identity], identity, 0, offset, 20.0 + offset) for offset, identity in enumerate(identities)]


@pytest.mark.parametrize(
    ("identities", "found"),
    [
        ("0123", Outputs(lost=0, doubled=0, misordered=0)),
        # Other entities may come in between as they like.
        ("1023", Outputs(lost=0, doubled=0, misordered=0)),
        ("013", Outputs(lost=1, doubled=0, misordered=0)),
        ("01230", Outputs(lost=0, doubled=1, misordered=0)),
        ("0132", Outputs(lost=0, doubled=0, misordered=1)),
        ("3120", Outputs(lost=0, doubled=0, misordered=2)),
        # A replay is doubled, and not out of order as well.
        ("0120123", Outputs(lost=0, doubled=3, misordered=0)),
        ("302", Outputs(lost=1, doubled=0, misordered=2)),
    ],
)
def test_an_output_that_is_lost_doubled_or_late_is_counted_as_such(identities: str, found: Outputs) -> None:
    assert verdict.outputs(SENT, written(*identities)) == found
    # The log's order counts, not that of reading it.
    assert verdict.outputs(SENT, reversed(written(*identities))) == found


def test_an_output_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(Foreign):
        verdict.outputs(SENT, [Logged("a", "9", 0, 0, 20.0)])
    with pytest.raises(Foreign):
        verdict.outputs(SENT, [Logged("b", "0", 0, 0, 20.0)])


def test_effects_on_states_that_are_missing_do_not_make_up_for_those_that_are_twice() -> None:
    assert verdict.effects(SENT, {"a": 3, "b": 1}) == Effects(lost=0, doubled=0)
    assert verdict.effects(SENT, {"a": 1, "b": 2}) == Effects(lost=2, doubled=1)
    assert verdict.effects(SENT, {"a": 3}) == Effects(lost=1, doubled=0)
    assert verdict.effects(SENT, {"a": 3, "b": 1, "c": 4}) == Effects(lost=0, doubled=4)


def test_the_wait_is_that_for_the_first_output_of_an_observation() -> None:
    assert verdict.waits(SENT, written("0", "1", "0", "3")) == [10.0, 11.0, 11.0]


def test_equal_seeds_give_equal_observations_and_entities_come_by_chance() -> None:
    first = list(backlog.observations(20, 200, seed=3))
    assert first == list(backlog.observations(20, 200, seed=3))
    assert first != list(backlog.observations(20, 200, seed=4))
    assert any(before.key == after.key for before, after in pairwise(first))


def test_the_report_has_a_table_for_each_condition_and_the_runs_that_failed() -> None:
    run = Run("palimpsest", "headline", 9, 304.0, 0.97, 1.0, 2.0, 1.0, Outputs(0, 0, 0), Effects(0, 0), None, 1.0)
    crashed = Run("faust", "crash", 9, 20.0, 0.06, 1.0, 2.0, 1.5, Outputs(1, 7, 0), Effects(0, 5), 61.0, 1.0)
    figures = {
        "conditions": {
            **dict.fromkeys(("kafka", "palimpsest", "faust-streaming", "aiokafka", "quixstreams", "python"), "1"),
            **{"cores": 2, "memory_gib": 8, "load": 0.1},
        },
        "rounds": 1,
        "runs": [orjson.loads(orjson.dumps(one)) for one in (run, crashed)],
        "failures": [{"peer": "quix", "cell": "headline", "round": 1, "why": "it ended"}],
    }
    said = summary.page(figures)
    assert "| **palimpsest** | 304.0 | 0.95 | 0.97 | 1.000 | 2.000 | 0 | 1.00 |" in said
    assert "| faust | 1 | 7 | 0 | 5 | 1.50 | 61.0 |" in said
    assert "quix, headline, round 1: it ended" in said
    assert "1000 entities" not in said


def test_conditions_differ_from_the_headline_in_one_thing_each() -> None:
    for cell in cells():
        names = [name for name in Cell.__dataclass_fields__ if name != "name"]
        assert sum(getattr(cell, name) != getattr(HEADLINE, name) for name in names) == (cell != HEADLINE)


@pytest.mark.integration
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
async def test_a_program_does_the_job(peer: Peer, kafka: str, tmp_path: Path) -> None:
    cell = Cell("handful", latency=0.005, slots=2, entities=5)
    run = await Track(tmp_path, kafka, seconds=0.1).run(peer, cell, seed=0)
    assert run.events == cell.events(0.1, at_once=peer.at_once(cell))
    assert (run.outputs.lost, run.outputs.doubled) == (0, 0)
    assert run.effects == Effects(lost=0, doubled=0)
    assert run.calls == 1.0
    assert 0 < run.busy <= 1
    assert 0 < run.p50 <= run.p99
    if peer.ordered:
        assert run.outputs.misordered == 0


@pytest.mark.integration
async def test_our_worker_loses_and_doubles_nothing_when_it_is_killed(kafka: str, tmp_path: Path) -> None:
    peer = next(one for one in PEERS if one.name == "palimpsest")
    cell = Cell("crash", latency=0.05, slots=2, entities=5, crash=True)
    run = await Track(tmp_path, kafka, seconds=1.0).run(peer, cell, seed=0)
    assert run.outputs == Outputs(lost=0, doubled=0, misordered=0)
    assert run.effects == Effects(lost=0, doubled=0)
    assert run.recovered is not None
