"""Weights and the state of a training in one safetensors file: no pickle, and never half a file."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically
from assaymark.reports.named_code import first_line

_KEY = "assaymark.training"


def write(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Tensors, with a record in the file's header; a file under that name is replaced as a whole.

    Raises InputError when the place cannot be written.
    """
    from safetensors.torch import save

    # safetensors refuses tensors that share memory, as tied weights do
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(record, sort_keys=True)
    write_atomically(path, save(own, metadata={"format": "pt", _KEY: text}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a file; the record is empty where there is none.

    Raises InputError when it is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = (file.metadata() or {}).get(_KEY, "{}")
        record = json.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not a safetensors file: {first_line(error)}") from error
    return tensors, record if isinstance(record, dict) else {}


def record_of(path: Path) -> dict[str, Any]:
    """What a file of weights says about its training; empty where it says nothing readable."""
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {}).get(_KEY, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def digest(*tensors: Tensor) -> str:
    """SHA-256 of shapes, types and values."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype} ".encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()
