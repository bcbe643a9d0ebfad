"""`palimpsest compare` on a real Kafka: what is printed of outcomes that stand in two topics, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.codec import encode
from schemas.messages import Answer, Outcome
from schemas.settings import Settings, load_settings
from streams import exits, topics
from streams.kafka import producer

if TYPE_CHECKING:
    from tests.streams.cli.conftest import Command

pytestmark = pytest.mark.integration

START = datetime(2024, 3, 1, tzinfo=UTC)


def outcome(number: int, forecast: float, *, entity: str = "north", truth: float | None = 10.0, **fields: Any) -> Outcome:
    time = START + timedelta(hours=number)
    known: dict[str, Any] = {"result": "matched" if truth is not None else "missing", "source": "model", **fields}
    answer = Answer(value=forecast)
    return Outcome(
        entity=entity, prediction_id=f"o{number}", kind="number", time=time, truth=truth, forecast=answer, resolved_at=time, **known
    )


@pytest.fixture
def sides(own_settings: Settings, tmp_path: Path) -> tuple[Path, Path]:
    """Settings of a champion and a challenger, as files; no topic of theirs exists."""
    roles = [role for role, name in own_settings.topics.model_dump().items() if isinstance(name, str)]
    files = []
    for app in ("old", "new"):
        path = tmp_path / f"{app}.toml"
        names = "\n".join(f'topics.{role} = "{own_settings.app}.{app}.{role}"' for role in roles)
        path.write_text(f'app = "{app}"\nkafka.bootstrap_servers = "{own_settings.kafka.bootstrap_servers}"\n{names}\n')
        files.append(path)
    return files[0], files[1]


def fill(sides: tuple[Path, Path], old: Sequence[Outcome], new: Sequence[Outcome]) -> None:
    """Make the topics of both and put outcomes there."""

    async def send() -> None:
        for path, outcomes in zip(sides, (old, new), strict=True):
            settings = load_settings(path)
            await topics.create(settings)
            async with producer(settings.kafka) as client:
                for one in outcomes:
                    await client.send_and_wait(settings.topics.outcomes, encode(one), key=one.entity.encode())

    asyncio.run(send())


def test_a_person_reads_a_table_and_which_is_better(command: Command, sides: tuple[Path, Path]) -> None:
    answers = {"model_answer": Answer(value=9.0)}
    old = [outcome(n, 8.0 + n % 2, **answers) for n in range(40)]
    new = [outcome(n, 9.5 + n % 3 / 10, **answers) for n in range(38)]
    fill(sides, [*old, outcome(50, 9.0, truth=None)], [*new, outcome(60, 9.0, flags=("hindsight",))])

    ran = command("compare", *sides)

    assert ran.code == exits.OK
    lines = ran.out.splitlines()
    assert "outcomes with a truth\t40\t38" in lines
    assert "compared\t38\t38" in lines
    assert "published: mean absolute error\t1.5\t0.4026" in lines
    assert any(line.startswith("Published forecasts: new is better than old: new MAE 0.4026 against 1.5") for line in lines)
    assert any(line.startswith("The models' own answers: ") for line in lines)
    assert "old: left out 1 missing, 2 that the other has not" in ran.err
    assert "new: left out 1 hindsight" in ran.err


def test_where_nothing_is_shown_it_says_how_much_it_would_take(command: Command, sides: tuple[Path, Path]) -> None:
    old = [outcome(n, 10.0 - n % 4) for n in range(40)]
    new = [outcome(n, 10.0 - 0.8 * ((3 * n + 1) % 5)) for n in range(40)]
    fill(sides, old, new)

    ran = command("compare", *sides)

    assert ran.code == exits.OK
    assert "old and new are not distinguishable at n = 40" in ran.out
    assert "outcomes to show it" in ran.out


def test_a_program_reads_json_of_one_entity_since_a_time(command: Command, sides: tuple[Path, Path], own_settings: Settings) -> None:
    old = [outcome(n, 9.0, entity=entity) for n in range(20) for entity in ("north", "south")]
    new = [outcome(n, 8.0, entity=entity) for n in range(20) for entity in ("north", "south")]
    fill(sides, old, [*new, outcome(19, 10.0, truth=11.0, result="corrected")])

    ran = command("compare", *sides, "--entity", "north", "--since", "2024-03-01T10:00Z", "--json")

    assert ran.code == exits.OK
    found = orjson.loads(ran.out)
    assert (found["n"], found["entities"], found["truths_differ"]) == (9, 1, 1)
    assert (found["first"], found["last"]) == ("2024-03-01T10:00:00+00:00", "2024-03-01T18:00:00+00:00")
    assert found["a"]["published"]["mae"] == 1.0
    assert found["b"] | {"published": 0, "model": 0} == {
        "app": "new",
        "topic": f"{own_settings.app}.new.outcomes",
        "outcomes": 10,
        "left_out": {},
        "only": 0,
        "unanswered": 9,
        "published": 0,
        "model": 0,
    }
    against = found["b_against_a"]["published"]
    assert (against["worse"], against["difference"]) == (True, -1.0)
    assert against["sentence"].startswith("old is better than new: new MAE 2 against 1")


def test_what_cannot_be_compared_is_told_with_its_own_exit_code(command: Command, sides: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = sides
    ran = command("compare", old, new)
    assert ran.code == exits.FAILED
    assert "the topic does not exist" in ran.err

    fill(sides, [outcome(1, 9.0)], [outcome(2, 9.0)])
    ran = command("compare", old, new)
    assert ran.code == exits.FAILED
    assert "old and new have no outcome in common" in ran.err

    ran = command("compare", old, old)
    assert ran.code == exits.USAGE
    assert "both are the application 'old'" in ran.err

    (tmp_path / "labels.toml").write_text(new.read_text() + 'target = { kind = "category", labels = ["low", "high"] }\n')
    ran = command("compare", old, "labels.toml")
    assert ran.code == exits.USAGE
    assert "target.kind differs: old has number, new has category" in ran.err

    (tmp_path / "both.toml").write_text(old.read_text() + 'target = { kind = "category", labels = ["low", "high"] }\n')
    ran = command("compare", "both.toml", "labels.toml")
    assert ran.code == exits.USAGE
    assert "holds outcomes of a number, the settings of" in ran.err

    assert command("compare", old, new, "--since", "2024-03-01").code == exits.USAGE
    assert command("compare", old, "nowhere.toml").code == exits.CONFIG


def test_records_that_are_no_outcomes_are_counted_and_stop_nothing(
    command: Command, sides: tuple[Path, Path], own_settings: Settings
) -> None:
    fill(sides, [outcome(n, 9.0) for n in range(5)], [outcome(n, 9.5) for n in range(5)])

    async def spoil() -> None:
        async with producer(own_settings.kafka) as client:
            await client.send_and_wait(f"{own_settings.app}.new.outcomes", b"{}", key=b"north")
            await client.send_and_wait(f"{own_settings.app}.new.outcomes", None, key=b"north")

    asyncio.run(spoil())
    ran = command("compare", *sides)
    assert ran.code == exits.OK
    assert "new: left out 1 unreadable" in ran.err
