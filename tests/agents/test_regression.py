"""When a free text goes back to the one before it, and when it does not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from agents import memory
from agents.answers import ProposedRewrite
from agents.forecaster import Forecaster
from agents.regression import ALPHA, BEFORE, LOOKS, rank_test, regression, was_taken_back
from schemas.messages import Answer, Command, MemoryRevision
from schemas.settings import Settings
from schemas.state import EntityState, Memory, Resolved, Revision, Statement, Surprise

GOOD = "After wind north the value stays high."
BAD = "After wind north the value always drops."
OTHER = "After wind south the value keeps moving slowly."


def page(*texts: str) -> Memory:
    return Memory(sections={"history": tuple(Statement(text=text) for text in texts), "mistakes": (), "watch": ()})


def number_settings(**sections: Any) -> Settings:
    return Settings(target={"kind": "number"}, memory={"form": "free-text", **sections.pop("memory", {})}, **sections)


def label_settings() -> Settings:
    return Settings(target={"kind": "category", "labels": ("rain", "sun")}, memory={"form": "free-text"})


def state_of(given: Any, revisions: Sequence[tuple[str, str, Sequence[float | str]]], *, naive: Sequence[float] = (), **fields: Any) -> Any:
    """A state after revisions of (text, cause, errors of the forecasts that read it); labels' errors are 0 and 1."""
    rows: list[Resolved] = []
    kept: list[Revision] = []
    for number, (text, cause, errors) in enumerate(revisions, 1):
        sections = page(text).sections if text else dict.fromkeys(memory.FORMS["free-text"], ())
        kept.append(Revision(memory=Memory(revision=number, sections=sections), cause=cause, made_at=given.at(0)))
        for error in errors:
            seq = len(rows) + 1
            experts = {"persistence": 10.0 - naive[seq - 1]} if naive else {}
            known: dict[str, Any] = {"model_answer": Answer(value=10.0 - error), "experts": experts, "memory_revision": number}
            rows.append(given.resolved(seq, 10.0, seq=seq, forecast=10.0, **known))
    return EntityState(
        entity="north", memory=kept[-1].memory, revisions=tuple(kept), resolved=tuple(rows), surprise=Surprise(n=20, usual=1.0), **fields
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_rank_test_is_the_exact_one_and_for_hits_and_misses_fishers(seed: int) -> None:
    drawn = random.Random(seed)
    before, after = [drawn.random() for _ in range(9)], [drawn.random() + 0.2 for _ in range(6)]
    theirs = stats.mannwhitneyu(after, before, alternative="greater", method="exact").pvalue
    assert rank_test(before, after) == pytest.approx(theirs, rel=1e-9)
    old, new = [float(drawn.random() < 0.3) for _ in range(12)], [float(drawn.random() < 0.8) for _ in range(8)]
    table = [[sum(new), len(new) - sum(new)], [sum(old), len(old) - sum(old)]]
    assert rank_test(old, new) == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-9)


def test_a_text_that_does_worse_than_the_one_before_goes_and_the_earlier_comes_back(given: Any) -> None:
    state = state_of(given, [(GOOD, "feedback", [0.1, 0.2, 0.3, 0.2, 0.1]), (BAD, "feedback", [2.0, 3.0, 2.5, 2.0])])
    found = regression(state, number_settings())
    assert found is not None
    assert (found.last_good, found.sections) == (1, page(GOOD).sections)
    assert "mean error 2.38 usual errors in 4, against mean error 0.18 usual errors in 5" in found.reason
    assert "p = 0.0079" in found.reason


def test_the_first_text_goes_back_to_the_blank_page_it_began_from(given: Any) -> None:
    state = state_of(given, [(BAD, "feedback", [2.0, 3.0, 2.5, 2.0])])
    blank = tuple(given.resolved(-9 + n, 10.0, seq=n, forecast=10.0, model_answer=Answer(value=9.9)) for n in range(1, 6))
    later = tuple(row.model_copy(update={"seq": row.seq + 5}) for row in state.resolved)
    found = regression(state.model_copy(update={"resolved": (*blank, *later)}), number_settings())
    assert found is not None
    assert not any(found.sections.values())


def test_texts_that_stood_for_one_outcome_each_are_taken_back_together(given: Any) -> None:
    texts = [(f"{GOOD} {word}.", "feedback", [0.1 * n]) for n, word in enumerate(("One", "Two", "Three", "Four", "Five", "Six"), 1)]
    state = state_of(given, [*texts, *((f"{BAD} {word}.", "feedback", [3.0]) for word in ("Seven", "Eight", "Nine", "Ten"))])
    found = regression(state.model_copy(update={"revisions": state.revisions[-5:]}), number_settings())
    assert found is not None
    assert found.last_good == 6
    assert found.reason.startswith("revisions after 6 forecast worse")


@pytest.mark.parametrize(
    ("what", "revisions"),
    [
        ("too few outcomes", [(GOOD, "feedback", [0.1] * 8), (BAD, "feedback", [3.0] * 3)]),
        ("too few outcomes before", [(GOOD, "feedback", [0.1] * 3), (BAD, "feedback", [3.0] * 8)]),
        ("no worse", [(GOOD, "feedback", [0.5, 1.0, 1.5, 1.0]), (OTHER, "feedback", [1.0, 0.4, 1.4, 1.1])]),
        ("a person's edit", [(GOOD, "feedback", [0.1] * 8), (BAD, "command", [3.0] * 8)]),
        ("written on a person's edit", [(GOOD, "feedback", [0.1] * 8), (BAD, "command", [3.0] * 8), (OTHER, "feedback", [3.0] * 8)]),
        ("a rollback", [(BAD, "feedback", [3.0] * 4), (OTHER, "feedback", [0.1] * 4), (BAD, "rollback", [3.0] * 8)]),
    ],
)
def test_nothing_is_taken_back_for(given: Any, what: str, revisions: Any) -> None:
    assert regression(state_of(given, revisions), number_settings()) is None, what


def test_a_harder_stream_is_no_fault_of_the_text(given: Any) -> None:
    revisions = [(GOOD, "feedback", [0.1, 0.2, 0.3, 0.2, 0.1, 0.2]), (OTHER, "feedback", [2.0, 3.0, 2.5, 2.0])]
    calm, harder = [0.5] * 10, [0.5] * 6 + [2.5] * 4
    assert regression(state_of(given, revisions, naive=calm), number_settings()) is not None
    assert regression(state_of(given, revisions, naive=harder), number_settings()) is None


def test_one_sentinel_among_the_truths_takes_no_text_back(given: Any) -> None:
    state = state_of(given, [(GOOD, "feedback", [0.8, 1.2, 1.0, 0.9, 1.1, 0.7]), (OTHER, "feedback", [0.9, 1.0, -9999.0, 0.8])])
    assert regression(state, number_settings()) is None


def test_an_error_is_charged_to_the_text_that_was_read_and_hindsight_to_none(given: Any) -> None:
    state = state_of(given, [(GOOD, "feedback", [0.1] * 6), (BAD, "feedback", [3.0] * 4)])
    read_earlier = tuple(row.model_copy(update={"memory_revision": 1}) for row in state.resolved)
    hindsight = tuple(row.model_copy(update={"flags": ("hindsight",)} if row.memory_revision == 2 else {}) for row in state.resolved)
    assert regression(state.model_copy(update={"resolved": read_earlier}), number_settings()) is None
    assert regression(state.model_copy(update={"resolved": hindsight}), number_settings()) is None


def test_frozen_entities_and_the_evidence_form_keep_what_they_have(given: Any) -> None:
    state = state_of(given, [(GOOD, "feedback", [0.1] * 6), (BAD, "feedback", [3.0] * 4)])
    assert regression(state.model_copy(update={"frozen": True}), number_settings()) is None
    assert regression(state, Settings(target={"kind": "number"})) is None


def test_labels_are_compared_by_misses(given: Any) -> None:
    rows = []
    for seq in range(1, 17):
        said = "sun" if seq <= 10 and seq != 3 else "rain"
        answer = Answer(value=said)
        known: dict[str, Any] = {"model_answer": answer, "memory_revision": 1 if seq <= 8 else 2, "miss": said != "sun"}
        rows.append(given.resolved(seq, "sun", seq=seq, forecast=said, **known))
    state = state_of(given, [(GOOD, "feedback", ()), (BAD, "feedback", ())])
    found = regression(state.model_copy(update={"resolved": tuple(rows)}), label_settings())
    assert found is None, "6 of 8 against 1 of 8 is not beyond the second look's share"
    rows = [row if row.seq <= 8 else row.model_copy(update={"model_answer": Answer(value="rain")}) for row in rows]
    found = regression(state.model_copy(update={"resolved": tuple(rows)}), label_settings())
    assert found is not None
    assert found.reason.startswith("revision after 1 forecast worse: 8 of 8 missed, against 1 of 8 missed up to it")


def test_of_texts_that_are_no_worse_few_are_taken_back(given: Any) -> None:
    drawn, alarms, runs = random.Random(7), 0, 400
    looks = LOOKS[:3]
    for _ in range(runs):
        before, after = ([drawn.expovariate(1.0) for _ in range(n)] for n in (BEFORE, looks[-1]))
        for look in looks:
            state = state_of(given, [(GOOD, "feedback", before), (OTHER, "feedback", after[:look])])
            if regression(state, number_settings()) is not None:
                alarms += 1
                break
    # A rate of ALPHA would give more than this in one of a thousand such runs.
    assert alarms <= stats.binom.ppf(0.999, runs, ALPHA)


def test_what_was_taken_back_is_known_again_while_it_is_kept(given: Any) -> None:
    state = state_of(given, [(GOOD, "feedback", ()), (BAD, "feedback", ()), (OTHER, "feedback", ()), (GOOD, "rollback", ())])
    assert was_taken_back(state, page(BAD.replace("drops", "dropped")))
    assert was_taken_back(state, page(OTHER))
    assert not was_taken_back(state, page(GOOD))
    assert not was_taken_back(state, page(BAD, OTHER))


class Obedient:
    """A model that forecasts by the text it has: well with the good one, badly with the bad one."""

    def __init__(self, given: Any, **sections: Any) -> None:
        self.asker = given.asker()
        settings: dict[str, Any] = {"memory": {"form": "free-text"}, "rewrite": {"policy": "surprise", "gather": 4, "after": 6}, **sections}
        self.core: Forecaster = given.forecaster(self.asker, **settings)
        self.given, self.state, self.hour = given, given.state(), 0
        self.events: list[MemoryRevision] = []
        self.counts: dict[str, int] = {}
        self.asker.answer = self.answer

    def answer(self, observation: Any) -> float:
        text = memory.render(self.state.memory)
        return 11.9 + 0.01 * self.hour if BAD not in text else 40.0 + self.hour

    async def go_on(self, steps: int) -> None:
        for _ in range(steps):
            hour, self.hour = self.hour, self.hour + 1
            seen = self.given.observation(hour, 10.0 + hour % 2, wind="north")
            self.state = (await self.core.observe(self.state, seen, now=self.given.at(hour), offset=hour)).state
            step = await self.core.learn(self.state, self.given.truth(of=f"o{hour}", value=12.0), now=self.given.at(hour + 1))
            self.state = step.state
            self.events += [event for event in step.events if isinstance(event, MemoryRevision)]
            for name, count in step.counts.items():
                self.counts[name] = self.counts.get(name, 0) + count

    def proposes(self, text: str) -> None:
        self.asker.propose = ProposedRewrite(sections=(("history", (text,)), ("mistakes", ()), ("watch", ())))


async def test_in_the_loop_a_text_that_harms_is_taken_back_and_the_forecasts_are_right_again(given: Any) -> None:
    run = Obedient(given)
    run.proposes(GOOD)
    await run.go_on(6)
    run.proposes(BAD)
    await run.go_on(6)
    assert BAD in memory.render(run.state.memory)
    await run.go_on(4)

    entry = run.events[-1]
    assert (entry.cause, entry.accepted, entry.revision) == ("rollback", True, 3)
    assert (entry.by, entry.op) == ("", None)
    assert BAD in entry.before
    assert GOOD in entry.after
    assert "exact rank test" in entry.reason
    assert run.counts["rewrite.taken-back"] == 1
    assert run.state.feedback == (), "the outcomes that spoke against the text are not shown to make it again"
    await run.go_on(1)
    assert run.state.resolved[-1].model_answer.value < 13.0


async def test_a_model_that_insists_goes_back_and_forth_no_more(given: Any) -> None:
    run = Obedient(given)
    run.proposes(GOOD)
    await run.go_on(6)
    run.proposes(BAD)
    await run.go_on(60)

    assert run.counts["rewrite.taken-back"] == 1
    refused = [event for event in run.events if not event.accepted]
    assert refused
    assert {event.reason for event in refused} == {"this text was taken back before"}
    assert GOOD in memory.render(run.state.memory)


async def test_a_persons_edit_stands_whatever_comes_of_it(given: Any) -> None:
    run = Obedient(given, rewrite={"policy": "never"})
    await run.go_on(8)
    edit = Command(entity="north", op="edit", by="ada", text=f"History:\n- {BAD}")
    run.state = (await run.core.command(run.state, edit, now=given.at(run.hour))).state
    await run.go_on(20)
    assert BAD in memory.render(run.state.memory)
    assert run.counts == {"truth.matched": 28}
