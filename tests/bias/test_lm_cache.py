"""Kept answers: the same as new ones, never another model's, and few lost when a run is killed."""

import json
import math
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import lm_server
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_server import log_prob, serving

from assaymark.bias import lm_cache_file, lm_stream
from assaymark.bias.lm_cache import cached, clear
from assaymark.bias.lm_cache_file import NAME, Store
from assaymark.bias.lm_codec import NUMBER, REPLY, SCORED, VECTOR, Codec
from assaymark.bias.lm_endpoint import endpoint
from assaymark.bias.lm_endpoint_options import EndpointOptions
from assaymark.bias.lm_functions import of_function
from assaymark.bias.lm_model import (
    Blank,
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
    Vectors,
    quiet,
)
from assaymark.reports.errors import InputError

PAIRS = [Continuation("The nurse", f" said{' she' * n}") for n in range(1, 8)]
QUICK = EndpointOptions(pause=0.01, retries=1, concurrency=2, time_limit=5.0)


class Bigram:
    """A model of every kind over the table of the server; counts what it is asked."""

    mask = 256

    def __init__(self, shift: float = 0.0) -> None:
        self.shift, self.asked = shift, 0
        self.fails: Callable[[Any], bool] = lambda request: False

    def score(
        self, requests: Sequence[Continuation], progress: Progress = quiet
    ) -> list[Scored | Failed]:
        self.asked += len(requests)
        return [
            Failed("error", "away")
            if self.fails(r)
            else Scored((r.text,), (log_prob(r.context, r.text) - self.shift,))
            for r in requests
        ]

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
    ) -> list[Reply | Failed]:
        self.asked += len(prompts)
        return [
            Reply(f"{p.text}{p.system}{p.sample}{sampling.temperature}", "stop", (("a", -0.5),))
            for p in prompts
        ]

    def embed(
        self, texts: Sequence[str], progress: Progress = quiet
    ) -> tuple[Vectors, tuple[bool, ...]]:
        self.asked += len(texts)
        rows = [[len(text), math.pi, self.shift] for text in texts]
        known = tuple(text != "unknown" for text in texts)
        out = numpy.array(rows, dtype=numpy.float64)
        out[[not k for k in known]] = numpy.nan
        return out, known

    def log_probs(
        self, blanks: Sequence[Blank], progress: Progress = quiet
    ) -> list[float | Failed]:
        self.asked += len(blanks)
        return [
            float(lm_server.TABLE[b.ids[b.position - 1], b.target]) - self.shift for b in blanks
        ]

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(lm_server.encode(text))

    def special(self, ids: Sequence[int]) -> tuple[bool, ...]:
        return tuple(i == self.mask for i in ids)

    def pieces(self, text: str, *, after_space: bool) -> tuple[int, ...]:
        return tuple(lm_server.encode(f" {text}" if after_space else text))

    def words(self, text: str) -> tuple[int | None, ...]:
        return tuple(range(len(lm_server.encode(text))))

    def model(self, key: str) -> LanguageModel:
        return LanguageModel(
            name="bigram",
            key=key,
            score=self.score,
            generate=self.generate,
            embed=self.embed,
            masked=self,
        )


ASKED: dict[str, Callable[[LanguageModel], Any]] = {
    "score": lambda m: m.score and m.score(PAIRS, quiet),
    "generate": lambda m: m.generate and m.generate([Prompt("a"), Prompt("b")], Sampling(), quiet),
    "embed": lambda m: m.embed and m.embed(["a", "unknown", "abc"], quiet)[0].tobytes(),
    "masked": lambda m: (
        m.masked and m.masked.log_probs([Blank((3, 256, 4), 1, t) for t in range(9)], quiet)
    ),
}


@pytest.mark.parametrize("kind", ASKED)
def test_kept_answers_are_those_of_the_model(kind: str, tmp_path: Path) -> None:
    bigram = Bigram()
    model = cached(bigram.model("k"), tmp_path)
    expected = ASKED[kind](bigram.model("k"))
    bigram.asked = 0
    assert ASKED[kind](model) == expected
    first = bigram.asked
    assert ASKED[kind](model) == expected
    assert ASKED[kind](cached(bigram.model("k"), tmp_path)) == expected
    assert bigram.asked - first == (2 if kind == "embed" else 0)  # what is unknown is asked again


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize(("key", "revision"), [("other", ""), ("k", "v2")])
def test_two_models_never_share_answers(kind: str, key: str, revision: str, tmp_path: Path) -> None:
    """lm-evaluation-harness #4063 and #2715: model A's answers were served as model B's."""
    ASKED[kind](cached(Bigram().model("k"), tmp_path))
    other = Bigram(shift=0.25)
    found = ASKED[kind](cached(other.model(key), tmp_path, revision=revision))
    if kind != "generate":
        assert found == ASKED[kind](Bigram(shift=0.25).model(key))
        assert found != ASKED[kind](Bigram().model("k"))
    assert other.asked > 0


def test_everything_that_an_answer_depends_on_is_in_its_name(tmp_path: Path) -> None:
    bigram = Bigram()
    model = cached(bigram.model("k"), tmp_path)
    assert model.generate is not None
    base = Sampling()
    hows = [base, replace(base, max_tokens=9), replace(base, temperature=0.5)]
    hows += [replace(base, top_p=0.9), replace(base, seed=1), replace(base, stop=("x",))]
    hows += [replace(base, top_logprobs=1)]
    prompts = [Prompt("a"), Prompt("a", "s"), Prompt("a", "", 1), Prompt("as")]
    for how in hows:
        model.generate(prompts, how, quiet)
    assert bigram.asked == len(hows) * len(prompts)
    bigram.asked = 0
    cuts = [Continuation("x", "yz"), Continuation("xy", "z"), Continuation("xyz", " she")]
    assert model.score is not None
    model.score(cuts, quiet)
    assert bigram.asked == len(cuts)


def test_the_name_is_the_digest_of_canonical_json(tmp_path: Path) -> None:
    model = cached(Bigram().model("k"), tmp_path, revision="r")
    assert model.score is not None
    model.score([Continuation("The é", " nurse")], quiet)
    plain = '[1,"k","r","score",null,["The \\u00e9"," nurse"]]'
    with sqlite3.connect(tmp_path / NAME) as file:
        (row,) = file.execute("SELECT key FROM answers").fetchall()
    file.close()
    assert row == (sha256(plain.encode()).digest(),)


def test_failures_are_asked_again_and_doubles_once(tmp_path: Path) -> None:
    bigram = Bigram()
    bigram.fails = lambda request: request == PAIRS[2]
    model = cached(bigram.model("k"), tmp_path)
    assert model.score is not None
    first = model.score(PAIRS + PAIRS, quiet)
    assert bigram.asked == len(PAIRS)
    assert first[2] == first[9] == Failed("error", "away")
    bigram.fails = lambda request: False
    second = model.score(PAIRS, quiet)
    assert bigram.asked == len(PAIRS) + 1
    assert not any(isinstance(answer, Failed) for answer in second)
    assert model.facts["cache"] == "6 of 21 answers were known"


NO_ANSWERS: dict[str, tuple[Codec[Any], Any]] = {
    "NaN": (SCORED, Scored(("a",), (math.nan,))),
    "impossible": (SCORED, Scored(("a",), (-math.inf,))),
    "above 1": (SCORED, Scored(("a",), (0.5,))),
    "no tokens": (SCORED, Scored((), ())),
    "too few numbers": (SCORED, Scored(("a", "b"), (-1.0,))),
    "failed": (SCORED, Failed("error", "x")),
    "NaN of a first token": (REPLY, Reply("a", "stop", (("b", math.nan),))),
    "no reply": (REPLY, None),
    "NaN of a blank": (NUMBER, math.nan),
    "a blank above 1": (NUMBER, 0.1),
    "a blank that failed": (NUMBER, Failed("error", "x")),
    "NaN in a vector": (VECTOR, numpy.array([1.0, math.nan])),
    "no vector": (VECTOR, None),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_what_is_no_answer_is_not_kept(case: str) -> None:
    codec, answer = NO_ANSWERS[case]
    assert codec.encode(answer) is None


LOGS = st.floats(max_value=0.0, allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(st.text(), LOGS), min_size=1))
def test_scores_come_back_to_the_last_bit(pairs: list[tuple[str, float]]) -> None:
    answer = Scored(tuple(token for token, _ in pairs), tuple(value for _, value in pairs))
    value = SCORED.encode(answer)
    assert value is not None
    assert SCORED.decode(value) == answer


@given(st.text(), st.lists(st.tuples(st.text(), LOGS)))
def test_replies_come_back(text: str, first: list[tuple[str, float]]) -> None:
    answer = Reply(text, "filter", tuple(first))
    value = REPLY.encode(answer)
    assert value is not None
    assert REPLY.decode(value) == answer


@pytest.mark.parametrize("kind", [numpy.float32, numpy.float64])
def test_vectors_come_back_to_the_last_bit(kind: Any) -> None:
    answer = numpy.random.default_rng(0).normal(size=384).astype(kind).astype(numpy.float64)
    value = VECTOR.encode(answer)
    assert value is not None
    assert (VECTOR.decode(value) == answer).all()
    assert len(value) == 1 + 384 * numpy.dtype(kind).itemsize


@given(st.binary(max_size=60), st.sampled_from([SCORED, REPLY, NUMBER, VECTOR]))
def test_other_bytes_are_no_answer_or_a_possible_one(value: bytes, codec: Any) -> None:
    try:
        answer = codec.decode(value)
    except (ValueError, TypeError, RecursionError, struct.error):
        return
    assert codec.encode(answer) is not None


# The file


def _rows(folder: Path) -> int:
    file = sqlite3.connect(folder / NAME)
    (count,) = file.execute("SELECT count(*) FROM answers").fetchone()
    file.close()
    return int(count)


def _damage(folder: Path, statement: str) -> None:
    file = sqlite3.connect(folder / NAME)
    with file:
        file.execute(statement)
    file.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE answers SET value = zeroblob(length(value))",
        "UPDATE answers SET value = 'text'",
        "UPDATE answers SET digest = zeroblob(16)",
        "UPDATE answers SET value = (SELECT value FROM answers ORDER BY id DESC LIMIT 1), "
        "digest = (SELECT digest FROM answers ORDER BY id DESC LIMIT 1)",
    ],
    ids=["value", "type", "digest", "another's answer"],
)
def test_rows_that_do_not_verify_are_asked_again(statement: str, tmp_path: Path) -> None:
    bigram = Bigram()
    expected = ASKED["score"](cached(bigram.model("k"), tmp_path))
    _damage(tmp_path, statement)
    bigram.asked = 0
    model = cached(bigram.model("k"), tmp_path)
    assert ASKED["score"](model) == expected
    assert bigram.asked >= len(PAIRS) - 1
    assert "damaged" in model.facts["cache warning"]
    bigram.asked = 0
    assert ASKED["score"](model) == expected
    assert bigram.asked == 0


def test_a_row_of_a_valid_digest_that_is_no_answer_is_asked_again(tmp_path: Path) -> None:
    bigram = Bigram()
    model = cached(bigram.model("k"), tmp_path)
    expected = ASKED["score"](model)
    file = sqlite3.connect(tmp_path / NAME)
    keys = [key for (key,) in file.execute("SELECT key FROM answers")]
    file.close()
    with Store(tmp_path, 1 << 30).session() as session:
        session.put([(key, b"\x01\x00\x00\x00" + b"\x00" * 7) for key in keys])
    bigram.asked = 0
    assert ASKED["score"](model) == expected
    assert bigram.asked == len(PAIRS)


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, " * 500)


def _foreign(path: Path) -> None:
    file = sqlite3.connect(path)
    file.execute("CREATE TABLE answers (key, value)")
    file.commit()
    file.close()


def _pages_overwritten(path: Path) -> None:
    ASKED["score"](cached(Bigram().model("k"), path.parent))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(bytes(content))


def _cut(path: Path) -> None:
    ASKED["score"](cached(Bigram().model("k"), path.parent))
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("spoil", [_garbage, _foreign, _pages_overwritten, _cut])
def test_a_file_that_is_damaged_or_foreign_is_set_aside(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / NAME
    spoil(path)
    content = path.read_bytes()
    bigram = Bigram()
    model = cached(bigram.model("k"), tmp_path)
    assert ASKED["score"](model) == ASKED["score"](Bigram().model("k"))
    assert ASKED["score"](cached(bigram.model("k"), tmp_path)) == ASKED["score"](model)
    assert "set aside" in model.facts["cache warning"]
    aside = [file for file in tmp_path.iterdir() if file.name.endswith(".unusable")]
    assert [file.read_bytes() for file in aside] == [content]
    bigram.asked = 0
    ASKED["score"](cached(bigram.model("k"), tmp_path))
    assert bigram.asked == 0


def test_a_file_that_others_hold_costs_time_not_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_cache_file, "_BUSY_SECONDS", 0.05)
    model = cached(Bigram().model("k"), tmp_path)
    holder = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert ASKED["score"](model) == ASKED["score"](Bigram().model("k"))
    holder.close()
    assert "not used any further: database is locked" in model.facts["cache warning"]
    assert _rows(tmp_path) == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        cached(Bigram().model("k"), tmp_path / "file")
    with pytest.raises(InputError, match="at least 1048576 bytes, got 10"):
        cached(Bigram().model("k"), tmp_path, limit=10)
    model = Bigram().model("k")
    assert cached(model, None) is model


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    limit = 1 << 20
    store = Store(tmp_path, limit)

    def key(n: int) -> bytes:
        return sha256(str(n).encode()).digest()

    with store.session() as session:
        session.put([(key(n), os.urandom(900)) for n in range(800)])
    _damage(tmp_path, "UPDATE answers SET used = used - 100 + id / 100")
    with store.session() as session:
        session.find([key(5)])  # used again
        session.put([(key(n), os.urandom(900)) for n in range(800, 1100)])
    with store.session() as session:
        left = {n for n in range(1100) if key(n) in session.find([key(n)])}
    assert {5, *range(800, 1100)} <= left
    assert left - {5} == set(range(min(left - {5}), 1100))
    assert 700 < len(left) < 1000
    file = sqlite3.connect(tmp_path / NAME)
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    (each,) = file.execute("PRAGMA page_size").fetchone()
    file.close()
    assert pages * each <= limit
    clear(tmp_path)
    assert _rows(tmp_path) == 0


def test_progress_begins_with_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_stream, "_SHOWN_EVERY", math.inf)
    bigram = Bigram()
    model = cached(bigram.model("k"), tmp_path)
    assert model.score is not None
    model.score(PAIRS[:4], quiet)
    seen: list[tuple[int, int]] = []

    def told(requests: Sequence[Continuation], progress: Progress = quiet) -> list[Scored | Failed]:
        progress(1, len(requests))
        return bigram.score(requests)

    again = cached(replace(bigram.model("k"), score=told), tmp_path)
    assert again.score is not None
    again.score(PAIRS, lambda done, total: seen.append((done, total)))
    assert seen == [(5, 7), (7, 7)]
    assert again.facts["cache"] == "4 of 7 answers were known"


def test_replies_written_before_a_stop_are_kept(tmp_path: Path) -> None:
    """A model that is stopped in its second portion: the first is there, and small."""
    bigram = Bigram()

    def generate(
        prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
    ) -> list[Reply | Failed]:
        if bigram.asked:
            raise KeyboardInterrupt
        return bigram.generate(prompts, sampling)

    prompts = [Prompt(str(number)) for number in range(100)]
    stopped = cached(replace(bigram.model("k"), generate=generate), tmp_path)
    assert stopped.generate is not None
    with pytest.raises(KeyboardInterrupt):
        stopped.generate(prompts, Sampling(), quiet)
    assert 0 < _rows(tmp_path) == bigram.asked < 20
    resumed = cached(bigram.model("k"), tmp_path)
    assert resumed.generate is not None
    resumed.generate(prompts, Sampling(), quiet)
    assert bigram.asked == 100


def test_five_thousand_answers_cost_little(tmp_path: Path) -> None:
    """0.2 CPU seconds when measured alone; the bound leaves room for a busy machine."""
    requests = [Continuation(f"item {n // 3} " * 6, f" answer {n}") for n in range(5_000)]
    answers = [Scored(("tok",) * 10, tuple(-(n + k) / 7 for k in range(10))) for n in range(5_000)]

    def score(asked: Sequence[Continuation], _: Progress = quiet) -> list[Scored | Failed]:
        start = int(asked[0].text.split()[-1])
        return list(answers[start : start + len(asked)])

    model = cached(LanguageModel(name="m", key="k", score=score), tmp_path)
    assert model.score is not None
    begun = time.process_time()
    assert model.score(requests, quiet) == answers
    assert model.score(requests, quiet) == answers
    assert time.process_time() - begun < 0.75


# Several processes

RUN = """
import json, sys
from pathlib import Path
from assaymark.bias.lm_cache import cached
from assaymark.bias.lm_endpoint import endpoint
from assaymark.bias.lm_endpoint_options import EndpointOptions
from assaymark.bias.lm_model import *
url, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
model = cached(endpoint(url, model="bigram", options=EndpointOptions(concurrency=2)), folder)
pairs = [Continuation("The nurse", " said" + " she" * n) for n in range(1, count + 1)]
print(json.dumps([a.total for a in model.score(pairs, quiet)]))
"""


def _started(url: str, folder: Path, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", RUN, url, str(folder), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _truth(count: int) -> list[float]:
    return [log_prob("The nurse", " said" + " she" * n) for n in range(1, count + 1)]


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    def slow(state: lm_server.Server, handler: lm_server.Handler, body: dict[str, Any]) -> bool:
        time.sleep(0.05)
        return False

    with serving(script=slow) as server:
        process = _started(server.url, tmp_path, 60)
        while server.requests < 40:
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept, answered = _rows(tmp_path), server.requests - 2
        assert 38 - 25 <= kept <= answered  # what came in the last half second may be lost
        server.reset()
        server.script = None
        process = _started(server.url, tmp_path, 60)
        said, _ = process.communicate(timeout=60)
    assert json.loads(said) == pytest.approx(_truth(60))
    assert server.requests == 2 + 60 - kept


def test_two_processes_use_one_file(tmp_path: Path) -> None:
    with serving() as server:
        processes = [_started(server.url, tmp_path, 80) for _ in range(2)]
        said = [process.communicate(timeout=60)[0] for process in processes]
    assert [json.loads(text) for text in said] == [pytest.approx(_truth(80))] * 2
    assert _rows(tmp_path) == 80


def test_many_threads_open_a_new_file_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def use(n: int) -> None:
        try:
            found = ASKED["score"](cached(Bigram().model(f"k{n % 3}"), tmp_path))
            assert found == ASKED["score"](Bigram().model("k"))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert _rows(tmp_path) == 3 * len(PAIRS)
    assert [file.name for file in tmp_path.iterdir() if "unusable" in file.name] == []


def test_answers_of_an_endpoint_are_kept_as_they_come(tmp_path: Path) -> None:
    with serving() as server:
        made = endpoint(server.url, model="bigram", options=QUICK)
        model = cached(made, tmp_path)
        server.script = lm_server.breaks(lm_server.says(500), server.requests + 3)
        assert model.score is not None
        first = model.score(PAIRS, quiet)
        good = [answer for answer in first if isinstance(answer, Scored)]
        assert len(good) == 3 == _rows(tmp_path)
        server.script = None
        server.reset()
        whole = model.score(PAIRS, quiet)
        assert server.requests == len(PAIRS) - 3
        assert [a.total for a in whole if isinstance(a, Scored)] == pytest.approx(
            [log_prob(p.context, p.text) for p in PAIRS]
        )
        assert int(model.facts["requests"]) > 9


def test_code_is_kept_only_under_a_revision(tmp_path: Path) -> None:
    (tmp_path / "kept_code.py").write_text(
        "calls = []\ndef loglikelihood(pairs):\n    calls.append(1)\n    return [-1.0] * len(pairs)\n"
    )
    for revision, rows in (("", 0), ("v1", len(PAIRS))):
        code = of_function("kept_code:loglikelihood", tmp_path, revision=revision)
        model = cached(code, tmp_path / "cache")
        assert model.score is not None
        assert len(model.score(PAIRS, quiet)) == len(PAIRS)
        kept = _rows(tmp_path / "cache") if (tmp_path / "cache" / NAME).exists() else 0
        assert kept == rows
        assert ("revision" in model.facts["cache"]) == (not revision)
