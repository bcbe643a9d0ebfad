"""The report's page: whole in itself, true to the JSON, safe with other people's text; and the charts in it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from schemas.messages import Rejection
from streams.evaluation import drawing
from streams.evaluation.axes import Axis, ticks
from streams.evaluation.drawing import Band, Dot, Look, Panel, Series, Strip
from streams.evaluation.figures import tokens_by_step
from streams.evaluation.history import changed_lines
from streams.evaluation.page import page
from streams.evaluation.report import Evaluation, pooled, report
from tests.streams.evaluation.arm_runs import MODEL, SKILL, evaluation

SVG = "{http://www.w3.org/2000/svg}"
FEW = ("zero_shot", "fhc", "llm_as_rnn")
VOID = {"meta", "link", "br", "hr", "img", "input"}
EVIL = '</li><script>alert("x")</script><img src=https://evil.example/x.png>'


class Outline(HTMLParser):
    """What a page is made of: its tags and their attributes, ids, text; and whether everything that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


def made(*runs: Evaluation) -> str:
    if len(runs) > 1:
        return page(pooled(runs, model=MODEL), runs)
    return page(report(runs[0].dataset, runs[0].settings, runs[0].arms, model=MODEL), runs)


def with_revision(run: Evaluation, **turns: object) -> Evaluation:
    arm = run.arms["llm_as_rnn"]
    entry = arm.memories[0]
    changed = entry.model_copy(update={"revision": entry.revision.model_copy(update=turns)})
    return replace(run, arms={**run.arms, "llm_as_rnn": replace(arm, memories=(changed, *arm.memories[1:]))})


@pytest.mark.parametrize("kind", ["category", "number"])
def test_a_page_is_well_formed_and_refers_to_nothing_outside(kind: str) -> None:
    found = made(evaluation(kind, steps=40, entities=2))
    outline = Outline(found)
    assert outline.open == []
    for tag, attributes in outline.tags:
        assert tag != "script"
        assert not {"src", "srcset", "action", "onload", "onclick"} & attributes.keys()
        assert attributes.get("href", "data:,") == "data:,"
    assert set(re.findall(r"url\(([^)]*)\)", found)) <= {
        f"#{attributes.get('id')}" for tag, attributes in outline.tags if tag == "clippath"
    }
    assert "@import" not in found
    assert set(re.findall(r"https?://[^\s\"'<]+", found)) == {"http://www.w3.org/2000/svg"}


def test_ids_are_unique_and_every_label_finds_its_text() -> None:
    outline = Outline(made(evaluation("number", steps=30, seed=3, entities=3), evaluation("number", steps=30, seed=4, entities=3)))
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)


def test_text_of_data_stays_text_wherever_it_comes_from() -> None:
    run = evaluation(names=FEW, steps=20, title=EVIL, notes=(f"note {EVIL}",), rules=(f"rule {EVIL}",))
    rejected = (Rejection(guard=f"guard {EVIL}", statement=f"statement {EVIL}", detail=f"detail {EVIL}"),)
    run = with_revision(run, after=f"after {EVIL}", before=f"before {EVIL}", reason=f"reason {EVIL}", rejected=rejected)
    outline = Outline(made(run))
    assert not [tag for tag, _ in outline.tags if tag in ("script", "img")]
    for where in ("note", "rule", "guard", "statement", "detail", "after", "before", "reason"):
        assert f"{where} {EVIL}" in outline.text


def test_an_entitys_name_stays_text_in_charts() -> None:
    run = evaluation("number", names=FEW, steps=12)
    arms = {
        name: replace(arm, results=tuple(row.model_copy(update={"entity": EVIL}) for row in arm.results), memories=())
        for name, arm in run.arms.items()
    }
    outline = Outline(made(replace(run, arms=arms)))
    assert outline.open == []
    assert not [tag for tag, _ in outline.tags if tag in ("script", "img")]
    assert f"Predictions and truths of {EVIL}" in outline.text


def test_it_begins_with_n_the_warnings_and_what_came_out_in_sentences() -> None:
    text = Outline(made(evaluation(names=FEW, notes=("The model may have read these data.",)))).text
    head = text[: text.index("The arms")]
    assert "60 labelled steps" in head
    assert "The model may have read these data." in head
    assert re.search(r"LLM-as-RNN was right in \d+\.\d % of its 60 cases \(95 % interval", head)
    assert re.search(r"It is better than zero-shot.*\(p < 0\.05 in each paired test\)\.", head)


def test_arms_that_tie_are_called_neither_better_nor_worse() -> None:
    run = evaluation(names=FEW, steps=30)
    same = replace(run, arms={**run.arms, "fhc": replace(run.arms["llm_as_rnn"], memories=())})
    text = Outline(made(same)).text
    assert "cannot be told apart from full history" in text or "non-inferior to full history" in text
    assert not re.search(r"(better|worse) than[^.:]*full history", text)


def test_a_worse_arm_is_said_to_be_worse() -> None:
    run = evaluation(names=FEW, steps=60)
    swapped = {**run.arms, "llm_as_rnn": run.arms["zero_shot"], "zero_shot": run.arms["llm_as_rnn"]}
    text = Outline(made(replace(run, arms=swapped))).text
    assert re.search(r"It is worse than [^.]*zero-shot", text)
    assert "▼ worse" in text


def test_without_its_subject_a_page_says_so() -> None:
    assert "LLM-as-RNN did not run here" in made(evaluation(names=("zero_shot",), steps=20))


def test_answers_that_could_not_be_used_are_a_warning() -> None:
    run = evaluation(names=FEW, steps=20)
    failed = tuple(row.model_copy(update={"failed": "timeout"}) if row.index < 5 else row for row in run.arms["fhc"].results)
    text = Outline(made(replace(run, arms={**run.arms, "fhc": replace(run.arms["fhc"], results=failed)}))).text
    assert "full history: 5 of 20 answers could not be used" in text


def test_the_table_has_a_row_for_every_arm() -> None:
    run = evaluation(steps=30)
    found = report(run.dataset, run.settings, run.arms, model=MODEL)
    table = Outline(page(found, [run])).text
    for name, arm in found["arms"].items():
        if name in SKILL:
            assert f"{arm['accuracy'] * 100:.1f} %" in table
            assert f"{arm['tokens_per_step']:,.0f}" in table


def test_the_history_shows_each_change_its_step_and_what_a_guard_refused() -> None:
    run = with_revision(evaluation(names=FEW, steps=20), before="Rules:\n- old rule", after="Rules:\n- new rule")
    text = Outline(made(run)).text
    history = text[text.index("The memory and its history") : text.index("How it was made")]
    assert "Step 9 · rewritten by the model" in history
    assert "− removed: - old rule" in history
    assert "+ added: - new rule" in history
    assert "Step 18 · proposal refused" in history
    assert "refused: echo Say what follows. (stands in the prompt)" in history


def test_provenance_is_on_the_page() -> None:
    run = evaluation(names=FEW, steps=20)
    text = Outline(made(run)).text
    for said in (run.dataset.digest, "sha256:feed", "tiny:1b", "2024-03-01T00:00:00+00:00", "[target]", "cue 1 -> storm"):
        assert said in text


def test_a_page_of_the_json_alone_has_all_but_what_only_the_runs_know() -> None:
    run = evaluation(names=FEW, steps=30)
    text = Outline(page(report(run.dataset, run.settings, run.arms, model=MODEL))).text
    assert "Learning curves" in text
    assert "Predictions against truths" not in text


def test_seeds_are_shown_side_by_side() -> None:
    text = Outline(made(evaluation(names=FEW, steps=20, seed=3), evaluation(names=FEW, steps=20, seed=4))).text
    assert "40 labelled steps, seeds 3, 4" in text
    assert "Right and wrong by step (seed 3)" in text
    assert "LLM-as-RNN, seed 4: " in text


def test_long_streams_make_charts_of_bounded_size() -> None:
    short, long = made(evaluation(names=FEW, steps=300)), made(evaluation(names=FEW, steps=3000))
    charts = [sum(map(len, re.findall(r"<svg.*?</svg>", found, re.DOTALL))) for found in (short, long)]
    assert charts[1] < 3 * charts[0]


def test_tokens_by_step_are_means_of_the_cases_before() -> None:
    run = evaluation(names=("fhc",), steps=4)
    assert tokens_by_step(run.arms["fhc"].results, over=2) == [429, 444.5, 475.5, 506.5]


def test_equal_texts_have_no_changes() -> None:
    assert changed_lines("Rules:\n- a", "Rules:\n- a") == ()


def parsed(chart: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


def two_groups() -> Markup:
    x = Axis("λ (tokens)", log=True, at=(1024, 2048, 4096, 8192))
    look = Look("blue", dots=True)
    score = Series("LLM-as-RNN", [(1024, 0.5), (2048, 0.62), (4096, 0.7), (8192, 0.71)], look)
    tokens = Series("LLM-as-RNN", [(1024, 900.0), (2048, 1800.0), (4096, None), (8192, 4100.0)], look)
    panels = [Panel(Axis("accuracy", percent=True), [score], heading="score"), Panel(Axis("tokens per step", low=0), [tokens])]
    return drawing.lines("lambda", panels, x, title="Score & cost <λ>", description="Both rise.")


def test_a_chart_may_have_two_groups_of_series_over_one_axis() -> None:
    chart = parsed(two_groups())
    said = [element.text for element in chart.iter(f"{SVG}text")]
    assert [said.count(name) for name in ("1,024", "8,192", "λ (tokens)", "LLM-as-RNN")] == [1, 1, 1, 1]
    assert {"score · accuracy", "tokens per step", "60 %"} <= set(said)
    lines = [path for path in chart.iter(f"{SVG}path") if path.get("class") == "line"]
    assert [path.get("d", "").count("M") for path in lines] == [1, 2]


def test_a_chart_tells_screen_readers_what_it_shows() -> None:
    chart = parsed(two_groups())
    assert chart.get("role") == "img"
    assert [chart[0].text, chart[1].text] == ["Score & cost <λ>", "Both rise."]
    assert chart.get("aria-labelledby") == f"{chart[0].get('id')} {chart[1].get('id')}"


def test_a_chart_on_its_own_takes_its_colours_along() -> None:
    alone = parsed(drawing.alone(two_groups()))
    style = alone.find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme:dark" in (style.text or "")


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    chart = parsed(
        drawing.lines("c", [Panel(Axis("y"), [Series("a", [(0, 1.0), (1, 3.0), (2, 2.0)])])], Axis("x"), title="t", description="d")
    )
    path = next(path for path in chart.iter(f"{SVG}path") if path.get("class") == "line").get("d", "")
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", path)[1:]]
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[1][1] < points[2][1] < points[0][1]


def test_what_lies_beyond_an_axis_is_cut_off() -> None:
    chart = parsed(
        drawing.lines("c", [Panel(Axis("y", low=0, high=1), [Series("a", [(0, 0.5), (1, 90.0)])])], Axis("x"), title="t", description="d")
    )
    clip = next(chart.iter(f"{SVG}clipPath")).get("id")
    assert any(group.get("clip-path") == f"url(#{clip})" for group in chart.iter(f"{SVG}g"))


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [0.0, 0.0], [-1e-9, 1e-9], [1e12, -1e12]])
def test_flat_tiny_and_huge_values_can_be_drawn(values: list[float]) -> None:
    series = Series("a", list(enumerate(values)))
    band = Band("b", [(at, value - 1, value + 1) for at, value in enumerate(values)])
    chart = drawing.lines("c", [Panel(Axis("y"), [series], [band])], Axis("x", whole=True), title="t", description="d")
    assert "nan" not in chart
    assert "inf" not in chart.replace("sans-serif", "")
    parsed(chart)


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        drawing.lines("c", [Panel(Axis("y"), [])], Axis("x"), title="t", description="d")
    with pytest.raises(ValueError, match="nothing to draw"):
        drawing.strips("c", [Strip("a", [])], Axis("x"), title="t", description="d")


def test_names_of_points_do_not_cover_each_other() -> None:
    dots = [Dot(f"arm number {at}", 1000.0 + 3 * at, 0.6 + 0.002 * at) for at in range(8)]
    chart = parsed(drawing.scatter("c", dots, Axis("x", log=True), Axis("y"), title="t", description="d"))
    wide = drawing.CHARACTER * len("arm number 0")
    before = {"start": 0.0, "middle": wide / 2, "end": wide}
    names = [text for text in chart.iter(f"{SVG}text") if text.get("class") == "halo"]
    places = [(float(name.get("x", 0)) - before[name.get("text-anchor", "")], float(name.get("y", 0))) for name in names]
    assert len(places) == 8
    for at, (x, y) in enumerate(places):
        for other_x, other_y in places[at + 1 :]:
            assert abs(x - other_x) >= wide - 0.2 or abs(y - other_y) >= 12


def test_a_share_is_drawn_as_high_as_it_is() -> None:
    chart = parsed(drawing.strips("c", [Strip("a", [1.0, 0.5, 0.0, None])], Axis("x"), title="t", description="d"))
    full, low = (path.get("d", "") for path in chart.iter(f"{SVG}path"))
    heights = [float(height) for height in re.findall(r"v-([\d.]+)", full)]
    assert heights[1] == pytest.approx(heights[0] / 2)
    assert low.count("M") == 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (0.0, 0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]), (-3, 3, [-3, -2, -1, 0, 1, 2, 3])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)
