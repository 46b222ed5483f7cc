"""Answers of language models, kept: the same question to the same model is asked once.

The name of an answer is the SHA-256 of the canonical JSON of [format, the model's key, the user's
revision, the kind of request, how it was sampled, the request]: another model, another answer. Answers
are written as they come, so that a run that was killed goes on where it was. Failures are not kept.
"""

import hashlib
import json
import struct
import time
from collections import ChainMap
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy

from assaymark.bias.lm_cache_file import Session, Store
from assaymark.bias.lm_codec import NUMBER, REPLY, SCORED, VECTOR, Codec
from assaymark.bias.lm_functions import ONLY_NOW
from assaymark.bias.lm_model import (
    Blank,
    Continuation,
    Embed,
    Failed,
    Generate,
    LanguageModel,
    Masked,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Score,
    Scored,
    Vectors,
    quiet,
)
from assaymark.bias.lm_stream import in_order, in_portions

R = TypeVar("R")
A = TypeVar("A")
FORMAT = 1
LIMIT = 2 << 30
_ROWS_AT_ONCE = 500
_SECONDS_UNWRITTEN = 0.5
_FIRST_REPLIES = 16
"""A reply takes hundreds of times as long as a score: few are asked for before it is known how long."""


def cached(
    model: LanguageModel, folder: Path | None, *, revision: str = "", limit: int = LIMIT
) -> LanguageModel:
    """The same model, which is asked only what it has not answered before.

    folder: where the file of answers is, which several processes may use; None keeps nothing. revision:
    the user's word for a version of the model that its key does not tell, such as one behind an address.
    limit: bytes of the file. A model whose key says that it is good for this process only is handed back
    as it is. `facts` tells how many answers were known. Raises InputError for a folder that cannot be
    written.
    """
    if folder is None:
        return model
    if model.key.startswith(ONLY_NOW):
        told = {
            "cache": "not used: code is kept for later runs only under a revision that is named"
        }
        return replace(model, facts=ChainMap(told, dict(model.facts)))
    kept = _Kept(Store(folder, limit), (model.key, revision))
    return replace(
        model,
        facts=_Facts(kept, model.facts),
        score=_KeptScore(kept, model.score) if model.score else None,
        generate=_KeptGenerate(kept, model.generate) if model.generate else None,
        embed=_kept_embed(kept, model.embed) if model.embed else None,
        masked=_KeptMasked(kept, model.masked) if model.masked else None,
    )


def clear(folder: Path) -> None:
    """Forget all answers of all models kept in a folder."""
    Store(folder, LIMIT).clear()


class _Facts(Mapping[str, str]):
    """A model's facts, and how much of it was known, as they are when they are read."""

    def __init__(self, kept: "_Kept", facts: Mapping[str, str]) -> None:
        self._kept, self._facts = kept, facts

    def __getitem__(self, name: str) -> str:
        return self._told()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._told())

    def __len__(self) -> int:
        return len(self._told())

    def _told(self) -> dict[str, str]:
        return {**self._facts, **self._kept.facts()}


class _Kept:
    """The answers of one model in a file."""

    def __init__(self, store: Store, key: tuple[str, str]) -> None:
        self.store, self._key = store, key
        self.asked = self.known = 0

    def facts(self) -> dict[str, str]:
        told = {"cache": f"{self.known} of {self.asked} answers were known"}
        notes = {"cache warning": "; ".join(self.store.notes)} if self.store.notes else {}
        return told | notes

    def names(self, kind: str, how: Any, requests: Sequence[Any]) -> list[bytes]:
        """The name of the answer to each request, which is plain data."""
        front = json.dumps([FORMAT, *self._key, kind, how], separators=(",", ":"))[:-1]
        begun = hashlib.sha256(front.encode() + b",")
        return [_ended(begun, request) for request in requests]

    def answers(
        self,
        names: Sequence[bytes],
        codec: Codec[A],
        ask: Callable[[list[int], Progress], Generator[tuple[int, Any], None, None]],
        progress: Progress = quiet,
    ) -> Generator[tuple[int, Any], None, None]:
        """Known answers first, then those of `ask`, which gets the places of the requests to ask.

        A request that comes several times is asked once.
        """
        places: dict[bytes, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(name, []).append(place)
        with self.store.session() as session:
            done, unknown = 0, []
            self.asked += len(names)
            for name, answer in _known(session, list(places), codec):
                if answer is None:
                    unknown.append(places[name])
                    continue
                done += len(places[name])
                self.known += len(places[name])
                yield from ((place, answer) for place in places[name])
            if not unknown:
                return
            told = _from(done, len(names), progress)
            with closing(ask([same[0] for same in unknown], told)) as coming:
                writing = _Writing(session, codec)
                try:
                    for index, answer in coming:
                        same = unknown[index]
                        writing.add(names[same[0]], answer)
                        yield from ((place, answer) for place in same)
                finally:
                    writing.flush()


def _ended(begun: "hashlib._Hash", request: Any) -> bytes:
    whole = begun.copy()
    whole.update(json.dumps(request, separators=(",", ":")).encode() + b"]")
    return whole.digest()


def _from(done: int, total: int, progress: Progress) -> Progress:
    return lambda more, _: progress(min(done + more, total), total)


def _known(
    session: Session, names: Sequence[bytes], codec: Codec[A]
) -> Generator[tuple[bytes, A | None], None, None]:
    """Each name with its answer, or None; the file is read in pieces that fit into memory."""
    for start in range(0, len(names), 20_000):
        part = names[start : start + 20_000]
        found = session.find(part)
        for name in part:
            yield name, _decoded(found.get(name), codec)


def _decoded(value: bytes | None, codec: Codec[A]) -> A | None:
    if value is None:
        return None
    try:
        return codec.decode(value)
    except (ValueError, TypeError, struct.error, RecursionError):
        return None  # not an answer, whoever wrote it: ask again


class _Writing:
    """Answers on their way into the file: a few at a time, and none of them for long."""

    def __init__(self, session: Session, codec: Codec[Any]) -> None:
        self._session, self._codec = session, codec
        self._rows: list[tuple[bytes, bytes]] = []
        self._written = 0.0

    def add(self, name: bytes, answer: Any) -> None:
        value = self._codec.encode(answer)
        if value is None:  # a failure, or no possible answer
            return
        self._rows.append((name, value))
        late = time.monotonic() - self._written > _SECONDS_UNWRITTEN
        if late or len(self._rows) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._session.put(self._rows)
            self._rows = []
        self._written = time.monotonic()


@dataclass(frozen=True)
class _KeptScore:
    kept: _Kept
    score: Score

    def answers(
        self, requests: Sequence[Continuation], progress: Progress = quiet
    ) -> Generator[tuple[int, Scored | Failed], None, None]:
        names = self.kept.names("score", None, [[r.context, r.text] for r in requests])

        def ask(
            places: list[int], told: Progress
        ) -> Generator[tuple[int, Scored | Failed], None, None]:
            missing = [requests[place] for place in places]
            streamed = getattr(self.score, "answers", None)
            return streamed(missing) if streamed else in_portions(self.score, missing, told)

        return self.kept.answers(names, SCORED, ask, progress)

    def __call__(
        self, requests: Sequence[Continuation], progress: Progress = quiet
    ) -> list[Scored | Failed]:
        return in_order(self.answers(requests, progress), len(requests), progress)


@dataclass(frozen=True)
class _KeptGenerate:
    kept: _Kept
    generate: Generate

    def answers(
        self, prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
    ) -> Generator[tuple[int, Reply | Failed], None, None]:
        how = [*astuple(sampling)]
        names = self.kept.names("generate", how, [[p.text, p.system, p.sample] for p in prompts])

        def at_once(part: Sequence[Prompt], told: Progress) -> list[Reply | Failed]:
            return self.generate(part, sampling, told)

        def ask(
            places: list[int], told: Progress
        ) -> Generator[tuple[int, Reply | Failed], None, None]:
            missing = [prompts[place] for place in places]
            streamed = getattr(self.generate, "answers", None)
            parts = in_portions(at_once, missing, told, _FIRST_REPLIES)
            return streamed(missing, sampling) if streamed else parts

        return self.kept.answers(names, REPLY, ask, progress)

    def __call__(
        self, prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
    ) -> list[Reply | Failed]:
        return in_order(self.answers(prompts, sampling, progress), len(prompts), progress)


class _KeptMasked:
    """A masked model whose log probabilities are kept; its tokenizer is asked as ever."""

    def __init__(self, kept: _Kept, masked: Masked) -> None:
        self._kept, self._masked = kept, masked
        self.mask = masked.mask
        self.encode, self.special = masked.encode, masked.special
        self.pieces, self.words = masked.pieces, masked.words

    def log_probs(
        self, blanks: Sequence[Blank], progress: Progress = quiet
    ) -> list[float | Failed]:
        names = self._kept.names("masked", None, [[b.ids, b.position, b.target] for b in blanks])

        def ask(
            places: list[int], told: Progress
        ) -> Generator[tuple[int, float | Failed], None, None]:
            missing = [blanks[place] for place in places]
            return in_portions(self._masked.log_probs, missing, told)

        answers = self._kept.answers(names, NUMBER, ask, progress)
        return in_order(answers, len(blanks), progress)


def _kept_embed(kept: _Kept, embed: Embed) -> Embed:
    """Texts that the model does not know are asked again: they have no vector to keep."""

    def at_once(texts: Sequence[str], told: Progress) -> list[Any]:
        vectors, known = embed(texts, told)
        return [row if is_known else None for row, is_known in zip(vectors, known, strict=True)]

    def embedded(
        texts: Sequence[str], progress: Progress = quiet
    ) -> tuple[Vectors, tuple[bool, ...]]:
        names = kept.names("embed", None, texts)

        def ask(places: list[int], told: Progress) -> Generator[tuple[int, Any], None, None]:
            return in_portions(at_once, [texts[place] for place in places], told)

        rows = in_order(kept.answers(names, VECTOR, ask, progress), len(texts), progress)
        sizes = {row.size for row in rows if row is not None}
        if len(sizes) > 1:  # the model is not what its key says: its own word counts
            kept.store.note("vectors of another length were kept under the same key: asked again")
            return embed(texts, progress)
        out = numpy.full((len(texts), max(sizes, default=0)), numpy.nan)
        for place, row in enumerate(rows):
            if row is not None:
                out[place] = row
        return out, tuple(row is not None for row in rows)

    return embedded
