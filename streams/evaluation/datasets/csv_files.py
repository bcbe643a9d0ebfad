"""CSV files of a known form, plain or gzipped, read column by column; whatever is wrong is told with file and line."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from streams.evaluation.dataset import DatasetError


class CsvFile:
    """The wanted columns of a file, row by row.

    Parameters
    ----------
    path
        The file; gzipped where its name ends with `.gz`.
    columns
        Names of the wanted columns; the file may have others.
    advice
        What a person can do about a file of another form; the end of those errors.
    """

    def __init__(self, path: Path, columns: Sequence[str], advice: str = "") -> None:
        self._path, self._columns, self._advice = path, tuple(columns), f". {advice}" if advice else ""
        self._line = 0

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each row, in the order of the wanted columns.

        Raises
        ------
        DatasetError
            The file cannot be read, lacks a column, or has a row that ends too early.
        """
        try:
            with self._open() as file:
                reader = csv.reader(file)
                header = next(reader, [])
                absent = [name for name in self._columns if name not in header]
                if absent:
                    found = ", ".join(header[:30]) or "nothing"
                    raise DatasetError(f"{self._path}: no column {', '.join(absent)}; there are {found}{self._advice}")
                places = [header.index(name) for name in self._columns]
                for row in reader:
                    self._line = reader.line_num
                    if len(row) != len(header):
                        raise self.fault(f"{len(row)} cells under a header of {len(header)}")
                    yield tuple(row[place] for place in places)
        except (OSError, EOFError, zlib.error) as error:
            # gzip tells damage in any of these three; only the first may have a text of the system.
            raise DatasetError(f"{self._path}: {getattr(error, 'strerror', None) or error}{self._advice}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{self._path}: not a CSV file in UTF-8 ({error}){self._advice}") from error

    def fault(self, what: object) -> DatasetError:
        """An error about the row that was yielded last."""
        return DatasetError(f"{self._path}, line {self._line}: {what}")

    def _open(self) -> TextIO:
        if self._path.suffix == ".gz":
            return gzip.open(self._path, "rt", encoding="utf-8-sig", newline="")
        return self._path.open(encoding="utf-8-sig", newline="")
