"""Model files as networks, and no pickle that runs code.

x.onnx · x.pt2 (torch.export) · x.ts or TorchScript .pt · x.safetensors or a .pt state dict with an
architecture.
"""

import re
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line
from assaymark.robustness.factories import call, resolve
from assaymark.robustness.onnx_graph import OnnxModel
from assaymark.robustness.pt2_guard import harmless_copy

SUFFIXES = (".onnx", ".pt2", ".ts", ".torchscript", ".safetensors", ".pt", ".pth")


def read(path: Path, arch: str | None, folder: Path) -> nn.Module:
    """The network in a file; raises InputError when it is no model, or needs code to be read."""
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return OnnxModel(path)
    if suffix == ".pt2":
        return _exported(path)
    if suffix in (".ts", ".torchscript") or (suffix in (".pt", ".pth") and _is_torchscript(path)):
        return _torchscript(path)
    if suffix == ".safetensors":
        return _with_weights(safetensors(path), path, arch, folder)
    if suffix in (".pt", ".pth"):
        return _with_weights(_state_dict(path), path, arch, folder)
    raise InputError(
        f"{path.name} is not a model format that is read here: expected {', '.join(SUFFIXES)}"
        + (" (a pickle is code)" if suffix in (".pkl", ".pickle", ".joblib") else "")
    )


def _exported(path: Path) -> nn.Module:
    archive = harmless_copy(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # guards are Python source in the archive; array operations do not need them
            module = torch.export.load(archive).module(check_guards=False)
    except Exception as error:
        raise InputError(
            f"{path.name} cannot be read by torch.export.load: {first_line(error)}"
        ) from error
    for refused in ("train", "eval"):  # the export fixed the mode; asking for it is no error
        module.__dict__.pop(refused, None)
    return module


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _torchscript(path: Path) -> nn.Module:
    _check_torchscript(path)
    try:
        with warnings.catch_warnings():  # deprecated in torch 2.13, still what people have
            warnings.simplefilter("ignore", DeprecationWarning)
            module: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise InputError(f"{path.name} is not TorchScript: {first_line(error)}") from error
    return module


def _check_torchscript(path: Path) -> None:
    """TorchScript cannot call Python, but some of its operators read and write files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            sources = [
                archive.read(name)
                for name in names
                if "/code/" in name.casefold() or name.casefold().endswith(".py")
            ]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path.name} is not TorchScript: {error}") from error
    if len({name.casefold() for name in names}) < len(names):
        raise InputError(f"{path.name} has two members of one name: export it again")
    for source in sources:
        if touched := re.search(rb"\b(from_file|save|load)\b", source):
            raise InputError(
                f"{path.name} names {touched[1].decode()}, which reads or writes files: refused; "
                "export the model again without it"
            )


def safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path.name} is not a safetensors file: {first_line(error)}") from error


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if not path.stat().st_size or isinstance(error, EOFError):
            raise InputError(f"{path.name} is empty or cut off: save or copy it again") from error
        raise InputError(
            f"{path.name} is a pickle that needs code to be read, which is refused: save the weights "
            "with safetensors.torch.save_file(model.state_dict(), …) and name the architecture, or "
            "export the model with torch.export.save"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(
            f"{path.name} holds a {type(content).__name__}, expected a state dict of tensors"
        )
    return content


def _with_weights(
    weights: dict[str, Tensor], path: Path, arch: str | None, folder: Path
) -> nn.Module:
    if arch is None:
        raise InputError(
            f"{path.name} holds weights only: name the architecture that takes them, "
            'arch = "package.module:factory" (--arch)'
        )
    network = build(arch, folder)
    fill(network, weights, path.name)
    return network


def fill(network: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Give a network its weights; raises InputError when they do not fit."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the weights in {name} do not fit the architecture: {reason[:300]}"
        ) from error


def build(spec: str, folder: Path) -> nn.Module:
    """The network that a factory makes."""
    found = resolve(spec, folder)
    made = found if isinstance(found, nn.Module) else call(found, spec)
    if isinstance(made, nn.Module):
        return made
    raise InputError(f"{spec} made a {type(made).__name__}, expected a torch.nn.Module")
