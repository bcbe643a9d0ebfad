"""Every answer of the model, kept: an evaluation that was cut short goes on where it was, and a report can be made again without a model.

A cell (one arm on one stream) is deterministic but for the model, so its record is the list of answers to its questions. Run again, it
asks the same questions and is answered from the record; what is not recorded is asked of the model and appended. The file is JSON lines,
compressed once the cell is done: first which model answered, then an entry for each answer. That the model refused a question, or answered
with nonsense, is an answer too. That it could not be reached, or not in time, is none: the cell ends there, to be gone on with later.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from agents.errors import ModelError, ModelMisbehaved, ModelRefused
from agents.models.protocol import CallLimits, ChatMessage, LanguageModel, ModelIdentity, Purpose, Reply
from streams import exits
from streams.errors import StreamError
from streams.evaluation.dataset import DatasetError

#: Failures that say something of the model, by their name in a record.
_ITS_OWN: Mapping[str, type[ModelError]] = {error.slug: error for error in (ModelRefused, ModelMisbehaved)}


class AnswerMissing(StreamError):
    """The model does not answer, and no answer of it is recorded; what is recorded stays, and a later run goes on there."""

    exit_code = exits.UNAVAILABLE


class Record(LanguageModel):
    """A model whose answers are kept in a file; use it as a context manager.

    Parameters
    ----------
    path
        Where the answers are, without the ending; `.jsonl` while the cell runs, `.jsonl.gz` once it is `finish`ed.
    model
        Who answers what is not recorded; None: nobody, and such a question raises `AnswerMissing`.

    Raises
    ------
    DatasetError
        The file is no record, or was made with another model than the one given.
    """

    def __init__(self, path: Path, model: LanguageModel | None) -> None:
        self._path = path
        self._model = model
        self._answers: dict[str, list[Reply | ModelError]] = defaultdict(list)
        self._asked: Counter[str] = Counter()
        self._identity: ModelIdentity | None = None
        self._file: IO[bytes] | None = None
        self._read()

    @property
    def recorded(self) -> int:
        """Answers that the file holds."""
        return sum(map(len, self._answers.values()))

    async def complete(
        self,
        messages: Sequence[ChatMessage],
        *,
        schema: Mapping[str, Any] | None,
        limits: CallLimits,
        purpose: Purpose,
        entity: str = "",
        fresh: bool = False,
    ) -> Reply:
        """Answer from the record or else by the model. An equal question is answered once, as a worker's cache would, unless `fresh`.

        Raises
        ------
        ModelRefused, ModelMisbehaved
            That is the model's answer.
        AnswerMissing
            There is none to be had.
        """
        key = _key(messages, schema, limits)
        turn = self._asked[key]
        if turn and not fresh:
            return _given(self._answers[key][turn - 1], remembered=True)
        if turn == len(self._answers[key]):
            # Cells on the same stream have entities of the same name, but prompts of their own: of several hosts each has its own warm.
            place = f"{self._path.parent.name}/{self._path.name}/{entity}"
            answer = await self._ask(messages, schema=schema, limits=limits, purpose=purpose, entity=place)
            self._append({"key": key, **_entry(answer)})
            self._answers[key].append(answer)
        self._asked[key] += 1
        return _given(self._answers[key][turn])

    async def _ask(
        self, messages: Sequence[ChatMessage], *, schema: Mapping[str, Any] | None, limits: CallLimits, purpose: Purpose, entity: str
    ) -> Reply | ModelError:
        if self._model is None:
            raise AnswerMissing(f"{self._path}: no answer is recorded for a question ({purpose}); a model is needed to go on")
        try:
            return await self._model.complete(messages, schema=schema, limits=limits, purpose=purpose, entity=entity, fresh=True)
        except tuple(_ITS_OWN.values()) as error:
            return error
        except ModelError as error:
            raise AnswerMissing(f"{self._path}: {error}. Run it again to go on where it was, with fewer --jobs if time ran out") from error

    async def identify(self) -> ModelIdentity:
        """Which model answered; the recorded one where there is a record."""
        if self._model is not None:
            found = await self._model.identify()
            if self._identity is None:
                self._identity = found
                self._append({"model": [found.name, found.digest, found.backend]})
            elif (found.name, found.digest) != (self._identity.name, self._identity.digest):
                raise DatasetError(
                    f"{self._path.name} holds answers of {self._identity.name}, now {found.name} is asked; use another folder"
                )
        if self._identity is None:
            raise AnswerMissing(f"{self._path}: nothing is recorded, and no model was given")
        return self._identity

    def count_tokens(self, text: str) -> int | None:
        """Nothing is known: prompts are fitted by the ratio, equally with and without a model."""
        return None

    async def close(self) -> None:
        """The model belongs to the caller."""

    def finish(self) -> None:
        """Compress the record: the cell is done."""
        self._shut()
        plain = self._path.with_suffix(".jsonl")
        if plain.exists():
            # Without a name and a time in it, equal records make equal files.
            packed = gzip.compress(plain.read_bytes(), mtime=0)
            self._path.with_suffix(".jsonl.gz").write_bytes(packed)
            plain.unlink()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            plain, packed = self._path.with_suffix(".jsonl"), self._path.with_suffix(".jsonl.gz")
            if packed.exists() and not plain.exists():
                plain.write_bytes(gzip.decompress(packed.read_bytes()))
            self._file = plain.open("ab")
        self._file.write(orjson.dumps(entry) + b"\n")
        self._file.flush()

    def _read(self) -> None:
        plain, packed = self._path.with_suffix(".jsonl"), self._path.with_suffix(".jsonl.gz")
        if plain.exists():
            lines = plain.read_bytes().split(b"\n")
            if lines[-1]:
                # Cut off in the middle of a line: the answer is asked for again.
                plain.write_bytes(b"".join(line + b"\n" for line in lines[:-1]))
        elif packed.exists():
            lines = gzip.decompress(packed.read_bytes()).split(b"\n")
        else:
            return
        try:
            for line in lines[:-1]:
                entry = orjson.loads(line)
                if "model" in entry:
                    self._identity = ModelIdentity(*entry["model"])
                else:
                    key = entry.pop("key")
                    self._answers[key].append(_ITS_OWN[entry["error"]](entry["text"]) if "error" in entry else Reply(**entry))
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise DatasetError(f"{plain.name}: no record of answers ({error}); remove it to begin anew") from error


_KEPT = ("text", "finish", "prompt_tokens", "cached_tokens", "output_tokens", "seconds")


def _entry(answer: Reply | ModelError) -> dict[str, Any]:
    if isinstance(answer, ModelError):
        return {"error": answer.slug, "text": str(answer)}
    return {name: getattr(answer, name) for name in _KEPT}


def _given(answer: Reply | ModelError, *, remembered: bool = False) -> Reply:
    if isinstance(answer, ModelError):
        raise answer
    return replace(answer, remembered=True, seconds=0.0, waited_seconds=0.0) if remembered else answer


def _key(messages: Sequence[ChatMessage], schema: Mapping[str, Any] | None, limits: CallLimits) -> str:
    asked = orjson.dumps([[[m.role, m.content] for m in messages], schema, limits.answer_tokens, limits.context_tokens])
    return hashlib.sha256(asked).hexdigest()[:24]
