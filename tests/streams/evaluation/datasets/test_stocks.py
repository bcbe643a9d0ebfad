"""Daily moves of an index and of stocks as datasets."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from streams.evaluation.dataset import Dataset, DatasetError
from streams.evaluation.datasets.stocks import STOCKS_START, SYMBOLS, sp500_index, sp500_stocks


def index_file(folder: Path, *rows: str) -> Path:
    path = folder / "index.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["Date,Open,Close", *rows, ""]).encode()))
    return path


def stocks_file(folder: Path, *days: tuple[str, float, float]) -> Path:
    """Prices of the first two stocks by day; the others' stay at 10."""
    path = folder / "stocks.csv"
    rows = [",".join(map(str, (day, first, second, *[10] * (len(SYMBOLS) - 2)))) for day, first, second in days]
    path.write_text("\n".join([",".join(("Date", *SYMBOLS)), *rows, ""]))
    return path


WEEK = ("1/3/2013,9,100", "1/4/2013,9,101", "1/7/2013,9,99.99", "1/8/2013,9,99.99")


def test_the_truth_is_the_next_sessions_move_and_is_known_at_its_close(tmp_path: Path) -> None:
    first, second = sp500_index(path=index_file(tmp_path, *WEEK)).cases
    assert first.observation.values == {"move": 1.0, "expected": 0.0, "mean_move": 1.0, "usual_size": 1.0, "weekday": "Friday"}
    assert (first.observation.id, first.truth, first.known_at) == ("SP500-2013-01-04", -1.0, datetime(2013, 1, 7, 21, tzinfo=UTC))
    assert second.observation.values == {"move": -1.0, "expected": 0.0, "mean_move": 0.0, "usual_size": 1.0, "weekday": "Monday"}
    assert second.truth == 0.0


def test_the_reference_is_the_random_walks_forecast_not_the_last_move(tmp_path: Path) -> None:
    dataset = sp500_index(path=index_file(tmp_path, *WEEK))
    settings = dataset.configured()
    assert settings.target.reference == "expected"
    assert {case.observation.values["expected"] for case in dataset.cases} == {0.0}
    assert settings.target.field in dataset.cases[0].observation.values


def test_means_know_what_came_before_the_start_and_nothing_after_the_observation(tmp_path: Path) -> None:
    prices = [100.0]
    for move in range(1, 31):
        prices.append(prices[-1] * (1 + (-1) ** move * move / 1000))
    rows = [f"2013-03-{day:02},9,{price}" for day, price in enumerate(prices, start=1)]
    case = sp500_index(path=index_file(tmp_path, *rows), start=date(2013, 3, 26)).cases[0]
    assert case.observation.values["mean_move"] == pytest.approx(fmean([-2.1, 2.2, -2.3, 2.4, -2.5]), abs=0.006)
    assert case.observation.values["usual_size"] == pytest.approx(fmean(move / 10 for move in range(6, 26)), abs=0.006)


def test_each_stock_is_an_entity_and_a_session_has_all_of_them(tmp_path: Path) -> None:
    path = stocks_file(tmp_path, ("2013-01-02", 10, 20), ("2013-01-03", 11, 20), ("2013-01-04", 11, 21), ("2013-01-07", 11, 21))
    dataset = sp500_stocks(symbols=SYMBOLS[:2], path=path)
    assert [(case.observation.id, case.truth) for case in dataset.cases] == [
        ("AAPL-2013-01-03", 0.0),
        ("AMD-2013-01-03", 5.0),
        ("AAPL-2013-01-04", 0.0),
        ("AMD-2013-01-04", 0.0),
    ]
    assert {case.observation.entity for case in sp500_stocks(path=path).cases} == set(SYMBOLS)


def test_stocks_begin_where_their_prices_are_fine_enough(tmp_path: Path) -> None:
    days = [(f"2012-12-{day}", 10.0, 10.0) for day in (27, 28, 31)] + [(f"2013-01-0{day}", 10.0, 10.0) for day in (2, 3, 4)]
    path = stocks_file(tmp_path, *days)
    assert sp500_stocks(path=path).cases[0].observation.time.date() >= STOCKS_START
    assert sp500_stocks(path=path, start=date(1990, 1, 1)).cases[0].observation.time.date() == date(2012, 12, 28)


def test_readers_are_warned_that_the_data_are_older_than_the_model(tmp_path: Path) -> None:
    assert "training cutoff" in sp500_index(path=index_file(tmp_path, *WEEK)).notes[0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("yesterday,9,1",), r"index\.csv\.gz, line 2: 'yesterday' is no date"),
        (("1/3/2013,9,1", "1/4/2013,9,-1"), r"line 3: '-1' is no price"),
        (("1/3/2013,9,nan",), "line 2: 'nan' is no price"),
        (("1/3/2013,9",), "line 2: 2 cells under a header of 3"),
        (WEEK[:2], "from 2013-01-03 to 2013-01-04"),
        ((), "no day at all"),
    ],
)
def test_a_file_that_is_not_as_expected_is_told_with_its_line(tmp_path: Path, rows: Sequence[str], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        sp500_index(path=index_file(tmp_path, *rows))


def test_a_file_without_a_column_says_which_and_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text("Date,Last\n")
    with pytest.raises(DatasetError, match="no column Close; there are Date, Last"):
        sp500_index(path=path)


def test_a_file_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    path = index_file(tmp_path, *WEEK)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DatasetError, match=r"index\.csv\.gz: "):
        sp500_index(path=path)


def test_stocks_and_sessions_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    path = index_file(tmp_path, *WEEK)
    with pytest.raises(DatasetError, match="no session from 2013-01-08 on"):
        sp500_index(path=path, start=date(2013, 1, 8))
    with pytest.raises(DatasetError, match="has 2 cases; 3 cannot"):
        sp500_index(path=path, steps=3)
    with pytest.raises(DatasetError, match="no stock TSLA"):
        sp500_stocks(symbols=("AAPL", "TSLA"), path=path)
    with pytest.raises(DatasetError, match="none is named"):
        sp500_stocks(symbols=(), path=path)


def errors_of_zero(dataset: Dataset, until: int = 9999) -> tuple[int, float, float]:
    truths = [float(case.truth) for case in dataset.cases if case.known_at.year <= until]
    return len(truths), fmean(map(abs, truths)), fmean(truth * truth for truth in truths)


@pytest.mark.integration
def test_zero_on_the_index_has_the_known_error_and_the_last_move_half_as_much_again() -> None:
    dataset = sp500_index()
    n, mae, mse = errors_of_zero(dataset)
    assert n == 5029
    assert mae == pytest.approx(0.808, abs=5e-4)
    assert mse == pytest.approx(1.448, abs=6e-4)
    repeated = fmean(abs(float(case.truth) - float(case.observation.values["move"])) for case in dataset.cases)
    assert repeated == pytest.approx(1.208, abs=6e-4)


@pytest.mark.integration
@pytest.mark.parametrize(("start", "until", "mae", "mse"), [(1990, 2022, 1.43, 5.06), (2013, 2018, 1.04, 2.71), (2018, 2022, 1.43, 4.92)])
def test_zero_on_the_stocks_has_the_known_errors(start: int, until: int, mae: float, mse: float) -> None:
    dataset = sp500_stocks(start=date(start, 1, 1))
    _, found_mae, found_mse = errors_of_zero(dataset, until)
    assert found_mae == pytest.approx(mae, abs=5e-3)
    assert found_mse == pytest.approx(mse, abs=5e-3)
    assert all(case.observation.time <= later.observation.time for case, later in pairwise(dataset.cases))
    assert len({case.observation.id for case in dataset.cases}) == len(dataset.cases)
