"""Suites in L0 beside each attack alone: `python tests/bench/sparse_suites.py ROOT [N]`.

ROOT as in robustness.py, whose networks and points these are. How many of N points stand, and the
forward + backward passes for each of the N points.
"""

import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from subjects import network, points

from assaymark.robustness.evaluate import evaluate
from assaymark.robustness.fmn import fmn
from assaymark.robustness.shard import Search
from assaymark.robustness.sparse import jsma, sigma_zero
from assaymark.robustness.sparse_search import sparse_rs
from assaymark.robustness.suites import SUITES
from assaymark.robustness.types import Attack

EPS = {"digits_std": 3, "digits_at": 4, "cifar10_std": 8, "cifar10_at": 16, "cifar_small_8px": 12}
ALONE: dict[str, Attack] = {
    "jsma": partial(jsma, targets=9),
    "fmn 300": partial(fmn, steps=300),
    "sigma-zero 100": partial(sigma_zero, steps=100),
    "sigma-zero 1000": sigma_zero,
    "sparse-rs 1000": partial(sparse_rs, queries=1000),
    "sparse-rs 5000": sparse_rs,
}


def main(root: Path, n: int) -> None:
    torch.set_num_threads(1)
    rows: dict[str, Mapping[str, Attack]] = {name: {name: run} for name, run in ALONE.items()}
    for name, eps in EPS.items():
        model = network(root, name)
        x, y = points(root, name, n)
        for label in (*rows, "quick", "standard"):
            attacks = rows[label] if label in rows else SUITES[label].stages("l0")
            began = time.process_time()
            found = evaluate(
                model, x[:n], y[:n], attacks, eps=eps, norm="l0", search=Search(channels_last=True)
            )
            print(
                f"{name} l0 {eps} {label}: of {int(found.correct.sum())} stand "
                f"{int(found.robust.sum())}, {found.passes.forward / n:.0f} + "
                f"{found.passes.backward / n:.0f}, {time.process_time() - began:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
