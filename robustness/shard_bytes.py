"""A shard as bytes: what a worker sends, and what an interrupted run left behind."""

import io
import json
import zipfile
from dataclasses import asdict
from typing import Any

import numpy
import torch

from assaymark.robustness.oracle import Passes
from assaymark.robustness.shard import AttackOutcome, Example, Shard

_PICTURES = ("original", "adversarial")


def pack(shard: Shard) -> bytes:
    """An .npz archive: the tensors as arrays, the rest as one line of JSON."""
    arrays: dict[str, Any] = {
        name: getattr(shard, name).numpy() for name in ("correct", "robust", "unknown")
    }
    if shard.adversarial is not None:
        arrays["adversarial"] = shard.adversarial.numpy()
    examples = []
    for place, example in enumerate(shard.examples):
        values = vars(example).copy()
        for name in _PICTURES:
            arrays[f"{name}{place}"] = values.pop(name).numpy()
        examples.append(values)
    rest = {
        "outcomes": [asdict(outcome) for outcome in shard.outcomes],
        "examples": examples,
        "clean": asdict(shard.clean),
    }
    stream = io.BytesIO()
    numpy.savez(stream, rest=numpy.array(json.dumps(rest)), **arrays)
    return stream.getvalue()


def unpack(content: bytes) -> Shard | None:
    """The shard of `pack`; None where the bytes are not such a one, whole."""
    try:
        with numpy.load(io.BytesIO(content), allow_pickle=False) as archive:
            tensors = {
                name: torch.from_numpy(archive[name]) for name in archive.files if name != "rest"
            }
            rest = json.loads(str(archive["rest"]))
        examples = tuple(
            Example(**values | {name: tensors[f"{name}{place}"] for name in _PICTURES})
            for place, values in enumerate(rest["examples"])
        )
        return Shard(
            correct=tensors["correct"],
            robust=tensors["robust"],
            unknown=tensors["unknown"],
            outcomes=tuple(
                AttackOutcome(**values | {"passes": Passes(**values["passes"])})
                for values in rest["outcomes"]
            ),
            examples=examples,
            clean=Passes(**rest["clean"]),
            adversarial=tensors.get("adversarial"),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
