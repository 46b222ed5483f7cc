"""Small networks of ours in safetensors files that say how they are built."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically

MAX_WEIGHTS = 64 * 2**20  # bytes of a file
Network = TypeVar("Network", bound=nn.Module)


def save_network(model: nn.Module, path: Path, *, kind: str, settings: Mapping[str, Any]) -> None:
    """Weights, with what it is and its settings in the header; nothing partial under the final name."""
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    write_atomically(path, save(weights, {kind: json.dumps(dict(settings))}))


def load_network(path: Path, *, kind: str, build: Callable[[dict[str, Any]], Network]) -> Network:
    """The network of a file of save_network of the same kind, on the CPU, to be used and not trained.

    build: makes the network from its settings. Raises InputError for any other file.
    """
    try:
        if path.stat().st_size > MAX_WEIGHTS:
            raise InputError(f"{path} is no {kind}: it has over {MAX_WEIGHTS:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        weights = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        model = build(json.loads(header["__metadata__"][kind]))
        model.load_state_dict(weights)
    except InputError as error:
        raise InputError(f"{path} is no {kind}: {error}") from error
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{path} is no {kind} that was saved here ({type(error).__name__}): train it again"
        ) from error
    return model.eval()
