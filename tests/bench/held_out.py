"""Image detectors with whole generators and sources left out: `python tests/bench/held_out.py DATA`.

DATA holds real/SOURCE/FILE and fake/GENERATOR/FILE, both with one JPEG history; --photos names a folder
SOURCE/FILE of more photographs, which training gives such a history. Every number is of heads that saw
neither the family of the generator nor the source that they are asked about. Nothing that is shipped
is read or written.
"""

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from assaymark.provenance.detect_train import train_heads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--every", type=int, help="deliver each so manieth file again")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.process_time()
    with TemporaryDirectory() as folder:
        found = train_heads(
            asked.data,
            Path(folder),
            photos=asked.photos,
            measured_on="held out",
            card={},
            every=asked.every,
        )
    for name, detector in found["detectors"].items():
        show(name, detector["measured"], detector["point"])
    for name, row in found["detectors"]["ensemble"].get("sweep", {}).items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in _SWEEP) + " |")
    print(f"{time.process_time() - begun:.0f} CPU s")


_SWEEP = ("auc", "false_positive_rate", "true_positive_rate", "abstained_reals", "flipped")


def show(name: str, measured: Mapping[str, Any], point: Mapping[str, Any]) -> None:
    low, high = measured["auc_interval"]
    print(
        f"{name}: AUC {measured['auc']:.3f} [{low:.3f}, {high:.3f}], TPR at 5 % FPR "
        f"{measured['tpr_at_5_percent']:.3f}, ECE {measured['calibration_error']:.3f}; at the threshold "
        f"FPR {point['false_positive_rate']:.3f} (<= {point['false_positive_rate_high']:.3f}), TPR "
        f"{point['true_positive_rate']:.3f} (>= {point['true_positive_rate_low']:.3f})"
    )
    for kind in ("per_generator", "per_source"):
        print(f"  {kind}: " + ", ".join(f"{key} {auc:.2f}" for key, auc in measured[kind].items()))


if __name__ == "__main__":
    main()
