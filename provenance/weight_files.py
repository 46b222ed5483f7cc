"""Published weights as tensors: no pickle that runs code, limits before allocation, one clear sentence.

Checkpoints come as a flat state dict, as one inside a dictionary (`state_dict`, `model`), with the
`module.` that DataParallel puts before every name, as safetensors, or as a TorchScript archive.
"""

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import numpy
import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line

MAX_WEIGHTS = 4 * 2**30  # bytes; CLIP ViT-L/14 with its text half has 1.7e9
Network = TypeVar("Network", bound=nn.Module)
_NESTED = ("state_dict", "model", "model_state_dict")


def read_weights(path: Path, *, numpy_scalars: bool = False) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU.

    numpy_scalars: let a pickle also hold NumPy's numbers, as training scripts save their best loss.
    Raises InputError when the file is missing, too large, or needs code to be read.
    """
    check_weights(path)
    if path.suffix.lower() == ".safetensors":
        return _safetensors(path)
    if is_torchscript(path):
        return {
            name: tensor.detach() for name, tensor in read_torchscript(path).state_dict().items()
        }
    try:
        with _scalars() if numpy_scalars else nullcontext():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its unpickler raises, of many kinds
        raise InputError(
            f"{path.name} cannot be read without running code, or is cut off: expected the file as it "
            "was published, or its state dict saved with safetensors.torch.save_file"
        ) from error
    return _tensors(content, path.name)


def check_weights(path: Path) -> None:
    """Raise InputError for what is no file, or unpacks to more than it may."""
    if not path.is_file():
        raise InputError(f"no weights at {path}: name the downloaded checkpoint")
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(member.file_size for member in archive.infolist()))
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise InputError(f"{path.name} is cut off or damaged: download it again") from error
    if size > MAX_WEIGHTS:
        raise InputError(f"{path.name} unpacks to {size:,} bytes: at most {MAX_WEIGHTS:,} are read")


def is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> torch.jit.ScriptModule:
    """A TorchScript archive, which cannot call Python; operators that touch files are refused."""
    check_weights(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            sources = [archive.read(name) for name in names if "/code/" in name.casefold()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path.name} is not TorchScript: {error}") from error
    if len({name.casefold() for name in names}) < len(names):
        raise InputError(f"{path.name} has two members of one name: export it again")
    if any(re.search(rb"\b(from_file|save|load)\b", source) for source in sources):
        raise InputError(f"{path.name} has operators that read or write files: refused")
    try:
        with warnings.catch_warnings():  # deprecated in torch 2.13, still what is published
            warnings.simplefilter("ignore")
            module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise InputError(f"{path.name} is not TorchScript: {first_line(error)}") from error
    return module


def unfilled(kind: Callable[[], Network]) -> Network:
    """A large network without the time it takes to draw weights that are replaced at once."""
    with torch.device("meta"):
        network = kind()
    return network.to_empty(device="cpu")


def fill(network: nn.Module, weights: Mapping[str, Tensor], *, name: str, kind: str) -> None:
    """Give a network its weights, name by name and shape by shape, and set it to evaluation.

    name: of the file; kind: what the weights should be of, for the sentence of the InputError that is
    raised when a name is missing or unknown, a shape differs, or a number is not finite.
    """
    wanted = network.state_dict()
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - weights.keys() - counters)
    unknown = sorted(weights.keys() - wanted.keys())
    if missing or unknown:
        raise InputError(
            f"{name} does not hold {kind}: {len(missing)} of {len(wanted)} tensors are missing "
            f"({_some(missing)}) and {len(unknown)} are unknown ({_some(unknown)}); name the "
            "checkpoint of this detector"
        )
    for key, tensor in weights.items():
        if tensor.shape != wanted[key].shape:
            raise InputError(
                f"{name} does not hold {kind}: {key} has the shape {tuple(tensor.shape)}, expected "
                f"{tuple(wanted[key].shape)}"
            )
        if not torch.isfinite(tensor.float()).all():
            raise InputError(f"{name}: {key} holds numbers that are not finite; download it again")
    network.load_state_dict({**{key: wanted[key] for key in counters}, **weights})
    network.eval().requires_grad_(False)


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return _tensors(load_file(path), path.name)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path.name} is not a safetensors file: {first_line(error)}") from error


def _tensors(content: object, name: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        inner = next(
            (content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None
        )
        content = content if inner is None else inner
    if not isinstance(content, Mapping) or not content:
        raise InputError(
            f"{name} holds a {type(content).__name__}, expected a state dict of tensors"
        )
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if len(tensors) < len(content):
        odd = next(key for key in content if key not in tensors)
        raise InputError(
            f"{name} holds {str(odd)[:80]!r}, which is no tensor: expected a state dict of tensors"
        )
    if all(str(key).startswith("module.") for key in tensors):
        tensors = {str(key).removeprefix("module."): value for key, value in tensors.items()}
    return {str(key): value for key, value in tensors.items()}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:2])
    return shown + (", …" if len(names) > 2 else "") if shown else "none"


def _scalars() -> AbstractContextManager[None]:
    """Numbers of NumPy, under the names of its first and second major version."""
    scalar = numpy._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [numpy.dtypes.Float64DType, numpy.dtypes.Float32DType, numpy.dtypes.Int64DType]
    names = ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"]
    context: AbstractContextManager[None] = torch.serialization.safe_globals(
        [numpy.dtype, *kinds, *((scalar, name) for name in names)]
    )
    return context
