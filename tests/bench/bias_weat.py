"""WEAT beside WEFE and enumeration: `python tests/bench/bias_weat.py ROOT`; prints Markdown.

ROOT holds data/bias/weat_wefe/WEAT.json of the shared files. Vectors are random, with a lean of the targets
to their attributes. CPU seconds are of the call that gives the effect size and p, ours the least of three.
WEFE gives one p-value a call, by default of 10,000 iterations: its time is that of the one-sided call with
--iterations, and in proportion for 10,000. It is left out where it is not installed (it may lie aside:
PYTHONPATH=FOLDER).
"""

import argparse
import importlib.util
import itertools
import json
import time
from collections.abc import Callable
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

import numpy

from assaymark.bias.lm_weat import effect_size
from assaymark.bias.lm_weat_data import WEFE
from assaymark.bias.lm_weat_permutation import permutation_test

WIDTH = 300
LEAN = 0.25
Vectors = dict[str, numpy.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--iterations", type=int, default=500)
    asked = parser.parse_args()
    words = json.loads((asked.root / "data" / "bias" / "weat_wefe" / "WEAT.json").read_text())
    peer = importlib.util.find_spec("wefe") is not None
    print("| test | tool | effect size (ddof 0) | p one-sided | p two-sided | splits | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for test in ("weat6", "weat9", "weat5", "weat1"):
        sets = [words[name] for name in WEFE[test]]
        vectors = made(sets)
        row(test, "ours", *best(partial(ours, sets, vectors)))
        if comb(2 * len(sets[0]), len(sets[0])) < 20_000:
            row(test, "itertools", *best(partial(plain, sets, vectors), 1))
        if peer and test in ("weat6", "weat9"):
            found, seconds = wefe(sets, vectors, asked.iterations)
            row(test, f"WEFE, {asked.iterations} iterations", found, seconds)
            whole = seconds * 10_000 / asked.iterations
            print(f"| {test} | WEFE, its default of 10,000, in proportion | | | | | {whole:.0f} |")
    if peer:
        sets = [words[name] for name in WEFE["weat6"]]
        vectors = made(sets)
        swapped = [sets[1], sets[0], *sets[2:]]
        for name, tool in (
            ("ours", ours),
            ("WEFE", lambda sets, vectors: wefe(sets, vectors, asked.iterations)[0]),
        ):
            print(f"\n{name}: two-sided p {tool(sets, vectors)[2]:.4g}", end=", ")
            print(f"with x and y swapped {tool(swapped, vectors)[2]:.4g}")


def made(sets: list[list[str]]) -> Vectors:
    """A word in both attributes and targets keeps its first vector."""
    rng = numpy.random.default_rng(7)
    axis = rng.normal(size=WIDTH)
    found: Vectors = {}
    for some, side in zip(sets, (LEAN, -LEAN, 0.5, -0.5), strict=True):
        for word in some:
            found.setdefault(word, rng.normal(size=WIDTH) + side * rng.random() * axis)
    return found


Found = tuple[float, float, float, str]


def scores(sets: list[list[str]], vectors: Vectors) -> tuple[numpy.ndarray, numpy.ndarray]:
    x, y, a, b = (
        numpy.stack([vectors[word] / numpy.linalg.norm(vectors[word]) for word in some])
        for some in sets
    )
    toward = a.mean(axis=0) - b.mean(axis=0)
    return x @ toward, y @ toward


def ours(sets: list[list[str]], vectors: Vectors) -> Found:
    x, y = scores(sets, vectors)
    found = permutation_test(x, y, budget=1 << 25)
    effect = effect_size(x, y, ddof=0)
    assert effect is not None
    return effect, found.greater, found.two_sided, found.method


def plain(sets: list[list[str]], vectors: Vectors) -> Found:
    """Every split in turn."""
    x, y = scores(sets, vectors)
    both = numpy.concatenate([x, y])
    seen = x.mean() - y.mean()
    apart = []
    for chosen in itertools.combinations(range(len(both)), len(x)):
        mask = numpy.zeros(len(both), bool)
        mask[list(chosen)] = True
        apart.append(both[mask].mean() - both[~mask].mean())
    all_of = numpy.array(apart)
    greater = float((all_of >= seen - 1e-12).mean())
    either = float((numpy.abs(all_of) >= abs(seen) - 1e-12).mean())
    return float(seen / both.std()), greater, either, f"all {len(all_of):,} splits"


def wefe(sets: list[list[str]], vectors: Vectors, iterations: int) -> tuple[Found, float]:
    from gensim.models import KeyedVectors
    from wefe.metrics import WEAT
    from wefe.query import Query
    from wefe.word_embedding_model import WordEmbeddingModel

    keyed = KeyedVectors(WIDTH)
    keyed.add_vectors(list(vectors), numpy.stack(list(vectors.values())).astype(numpy.float32))
    model, query = WordEmbeddingModel(keyed, "made"), Query(sets[:2], sets[2:])
    found: dict[str, Any] = {}
    seconds = []
    for side in ("right-sided", "two-sided"):
        began = time.process_time()
        found[side] = WEAT().run_query(
            query,
            model,
            calculate_p_value=True,
            p_value_iterations=iterations,
            p_value_test_type=side,
        )
        seconds.append(time.process_time() - began)
    one = found["right-sided"]
    both = float(found["two-sided"]["p_value"])
    numbers = float(one["effect_size"]), float(one["p_value"]), both, f"{iterations:,} iterations"
    return numbers, seconds[0]


def best(tool: Callable[[], Found], runs: int = 3) -> tuple[Found, float]:
    seconds = []
    for _ in range(runs):
        began = time.process_time()
        found = tool()
        seconds.append(time.process_time() - began)
    return found, min(seconds)


def row(test: str, tool: str, found: Found, seconds: float) -> None:
    effect, greater, either, splits = found
    print(
        f"| {test} | {tool} | {effect:.6f} | {greater:.6g} | {either:.6g} | {splits} | {seconds:.4f} |"
    )


if __name__ == "__main__":
    main()
