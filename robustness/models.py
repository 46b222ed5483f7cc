"""Models by name: one grammar for every command, and no pickle that runs code.

x.onnx · x.pt2 (torch.export) · x.ts or TorchScript .pt · x.safetensors or a .pt state dict with an
architecture · package.module:factory · demo:NAME.
"""

import hashlib
import inspect
import pkgutil
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError, IntegrityError, nearest
from assaymark.robustness import demo
from assaymark.robustness.onnx_graph import OnnxModel
from assaymark.robustness.pt2_guard import harmless_copy
from assaymark.robustness.types import Images, Logits

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SUFFIXES = (".onnx", ".pt2", ".ts", ".torchscript", ".safetensors", ".pt", ".pth")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model ready to attack: images in [0, 1] to logits."""

    name: str
    module: nn.Module
    sha256: str | None
    classes: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What stands between pixels in [0, 1] and the network."""

    input_range: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class Prepared(nn.Module):
    """A network behind its preprocessing, so that gradients reach the pixels in [0, 1]."""

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, network: nn.Module, steps: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.input_range = steps.input_range
        self.register_buffer("mean", _channels(steps.mean))
        self.register_buffer("std", _channels(steps.std))

    def forward(self, x: Images) -> Logits:
        if self.input_range is None and self.mean is None:
            x = x.clone()  # a network that changes its input in place must not change ours
        if self.input_range is not None:
            low, high = self.input_range
            x = low + (high - low) * x
        if self.mean is not None and self.std is not None:
            x = (x - self.mean) / self.std
        logits: Tensor = self.network(x)
        return logits


class FixedBatch(nn.Module):
    """A network that was exported for batches of one size, given any number of images."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, x: Images) -> Logits:
        padding = -len(x) % self.size
        padded = torch.cat([x, x[:1].expand(padding, *x.shape[1:])]) if padding else x
        return torch.cat([self.network(part) for part in padded.split(self.size)])[: len(x)]


def _any_batch(
    network: nn.Module, sample: Images, preprocessing: Preprocessing | None
) -> nn.Module:
    """The network itself when it takes several batch sizes, else cut to the one that it takes."""

    def works(size: int) -> bool:
        images = sample[:1].expand(size, *sample.shape[1:])
        try:
            with torch.no_grad():
                answer = Prepared(network, preprocessing or Preprocessing()).to(sample.device)(
                    images
                )
            return len(answer) == size
        except InputError:
            raise
        except Exception:
            return False

    if works(3) and works(1):
        return network
    fixed = next((size for size in _BATCHES if works(size)), None)
    return network if fixed is None else FixedBatch(network, fixed)


def _channels(values: tuple[float, ...] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values).view(1, -1, 1, 1)


def load(
    spec: str,
    sample: Images,
    *,
    arch: str | None = None,
    folder: Path = Path(),
    preprocessing: Preprocessing | None = None,
    sha256: str | None = None,
    device: torch.device | str = "cpu",
) -> Loaded:
    """The model a spec names, tried on `sample` (a few images in [0, 1]).

    Raises InputError when it is missing, unreadable, needs code to unpickle or does not answer the
    sample with one row of logits an image; IntegrityError when its digest is not `sha256`.
    """
    digest = None
    if spec.startswith("demo:"):
        path = demo.weights(spec.removeprefix("demo:"))
        network: nn.Module = demo.network()
        _fill(network, _safetensors(path), path.name)
        digest = _sha256(path)
    elif re.fullmatch(r"[\w.]+:[\w.]+", spec):
        network = _build(spec, folder)
    else:
        path = folder / spec
        if not path.is_file():
            raise InputError(f"no model at {spec}: expected a file ending in {', '.join(SUFFIXES)}")
        network = _read(path, arch, folder)
        files = network.files if isinstance(network, OnnxModel) else []
        digest = _sha256(path, *files)
    if sha256 is not None and digest != sha256:
        raise IntegrityError(
            f"{spec} has SHA-256 {digest or 'unknown (it is code)'}, the policy expects {sha256}: "
            "the model is not the one that was approved"
        )
    network = _any_batch(network.eval().to(device), sample.to(device), preprocessing)
    module = Prepared(network, preprocessing or Preprocessing()).eval().to(device)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    classes = _try(module, sample.to(device), spec)
    note = ""
    graph = network.network if isinstance(network, FixedBatch) else network
    if isinstance(graph, OnnxModel):
        with torch.no_grad():
            prepared = _before(module, sample.to(device))
        difference = graph.verify(prepared)
        note = f"ONNX graph agrees with a second engine to {difference:.1e} of the largest logit"
    return Loaded(name=spec, module=module, sha256=digest, classes=classes, note=note)


def _before(module: Prepared, x: Images) -> Tensor:
    identity = Prepared(nn.Identity(), Preprocessing(input_range=module.input_range))
    identity.mean, identity.std = module.mean, module.std
    pixels: Tensor = identity(x)
    return pixels


def _try(module: nn.Module, sample: Images, spec: str) -> int:
    shape = "×".join(str(size) for size in sample.shape[1:])
    try:
        with torch.no_grad():
            logits = module(sample)
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"{spec} cannot read images of {shape} (channels×height×width): "
            f"{reason[0] if reason else type(error).__name__}; check image_size and the channels"
        ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(sample):
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"{spec} answered {len(sample)} images with {seen}: expected a tensor of logits, "
            f"({len(sample)}, classes)"
        )
    if not logits.is_floating_point():
        raise InputError(
            f"{spec} answers with {logits.dtype}: expected logits, which are floating-point numbers"
        )
    if logits.shape[1] < 2:
        raise InputError(
            f"{spec} has {logits.shape[1]} output: expected logits of at least 2 classes "
            "(stack a single logit z as [0, z])"
        )
    return int(logits.shape[1])


def _read(path: Path, arch: str | None, folder: Path) -> nn.Module:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return OnnxModel(path)
    if suffix == ".pt2":
        return _exported(path)
    if suffix in (".ts", ".torchscript") or (suffix in (".pt", ".pth") and _is_torchscript(path)):
        return _torchscript(path)
    if suffix == ".safetensors":
        return _with_weights(_safetensors(path), path, arch, folder)
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
            f"{path.name} cannot be read by torch.export.load: {_line(error)}"
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
        raise InputError(f"{path.name} is not TorchScript: {_line(error)}") from error
    return module


def _check_torchscript(path: Path) -> None:
    """TorchScript cannot call Python, but some of its operators read and write files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            sources = [archive.read(name) for name in names if "/code/" in name]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path.name} is not TorchScript: {error}") from error
    if len({name.casefold() for name in names}) < len(names):
        raise InputError(f"{path.name} has two members of one name: export it again")
    for source in sources:
        if touched := re.search(rb"\b(from_file|save|load)\s*\(", source):
            raise InputError(
                f"{path.name} calls {touched[1].decode()}, which reads or writes files: refused; "
                "export the model again without it"
            )


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path.name} is not a safetensors file: {_line(error)}") from error


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
    network = _build(arch, folder)
    _fill(network, weights, path.name)
    return network


def _fill(network: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the weights in {name} do not fit the architecture: {reason[:300]}"
        ) from error


def _build(spec: str, folder: Path) -> nn.Module:
    found = resolve(spec, folder)
    made = found if isinstance(found, nn.Module) else call(found, spec)
    if isinstance(made, nn.Module):
        return made
    raise InputError(f"{spec} made a {type(made).__name__}, expected a torch.nn.Module")


def resolve(spec: str, folder: Path) -> Callable[..., object]:
    """The object `package.module:name` names; modules beside the policy can be named too."""
    module, _, name = spec.partition(":")
    with _importable(folder):
        try:
            found: object = pkgutil.resolve_name(spec)
        except ImportError as error:
            raise InputError(
                f"cannot import {module} of {spec}: {error}; install it, or put it beside the policy"
            ) from error
        except AttributeError as error:
            if module not in sys.modules:
                raise InputError(f"importing {module} of {spec} failed: {_line(error)}") from error
            known = [key for key in vars(sys.modules[module]) if not key.startswith("_")]
            raise InputError(f"{module} has no {name}{nearest(name, known)}") from error
        except Exception as error:
            raise InputError(
                f"importing {module} of {spec} failed, {type(error).__name__}: {_line(error)}"
            ) from error
    if not callable(found):
        raise InputError(f"{spec} is a {type(found).__name__}, expected a function or a class")
    return found


def call(factory: Callable[..., object], spec: str) -> object:
    """What a factory makes; raises InputError when it needs arguments or fails."""
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise InputError(
            f"{spec} needs arguments: expected a factory that is called with none"
        ) from error
    except ValueError:
        pass  # a builtin without a signature: calling it will tell
    try:
        return factory()
    except Exception as error:
        raise InputError(f"{spec} failed, {type(error).__name__}: {_line(error)}") from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    # At the end of the path: files of a user cannot take the place of installed modules.
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _sha256(*paths: Path) -> str:
    """Of one file its SHA-256; of several the SHA-256 of theirs, one after the other."""
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
