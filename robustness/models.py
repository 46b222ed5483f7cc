"""Models by name: one grammar for every command.

x.onnx · x.pt2 (torch.export) · x.ts or TorchScript .pt · x.safetensors or a .pt state dict with an
architecture · package.module:factory · demo:NAME · x.defended.json (a model behind defenses).
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError, IntegrityError
from assaymark.robustness import demo, descriptions, formats
from assaymark.robustness.detectors import Guarded
from assaymark.robustness.onnx_graph import OnnxModel
from assaymark.robustness.types import Images, Logits

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model ready to attack: images in [0, 1] to logits."""

    name: str
    module: nn.Module
    sha256: str | None
    classes: int
    note: str = ""
    rejects: bool = False
    """Whether it has one output more than classes, the last, which says "rejected"."""


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

    def preprocess(self, x: Images) -> Images:
        """What the network is given; a fresh tensor, which it may change in place."""
        if self.input_range is not None:
            low, high = self.input_range
            x = low + (high - low) * x
        if self.mean is not None and self.std is not None:
            x = (x - self.mean) / self.std
        return x.clone()

    def forward(self, x: Images) -> Logits:
        logits: Tensor = self.network(self.preprocess(x))
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
    digest, note = None, ""
    if spec.startswith("demo:"):
        path = demo.weights(spec.removeprefix("demo:"))
        network: nn.Module = demo.network()
        formats.fill(network, formats.safetensors(path), path.name)
        digest = _sha256(path)
    elif re.fullmatch(r"[\w.]+:[\w.]+", spec):
        _check_approved(spec, None, sha256)  # code has no digest: it is not run to find out
        network = formats.build(spec, folder)
    else:
        path = folder / spec
        if not path.is_file():
            raise InputError(
                f"no model at {spec}: expected a file ending in {', '.join(formats.SUFFIXES)}, "
                f"{descriptions.SUFFIX}"
            )
        digest = _sha256(path)
        if path.suffix.lower() != ".onnx":  # its weights may lie in more files than this one
            _check_approved(spec, digest, sha256)
        if spec.endswith(descriptions.SUFFIX):
            if preprocessing not in (None, Preprocessing()):
                raise InputError(
                    f"{path.name} says itself how pixels are normalized: leave out normalize and "
                    "input_range"
                )
            network, note = _described(spec, sample, arch, folder, device)
        else:
            network = formats.read(path, arch, folder)
        if isinstance(network, OnnxModel) and network.files:
            digest = _sha256(path, *network.files)
    _check_approved(spec, digest, sha256)
    network = _any_batch(network.eval().to(device), sample.to(device), preprocessing)
    module = Prepared(network, preprocessing or Preprocessing()).eval().to(device)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    classes = _try(module, sample.to(device), spec)
    graph = network.network if isinstance(network, FixedBatch) else network
    if isinstance(graph, OnnxModel):
        difference = graph.verify(module.preprocess(sample.to(device)))
        note = f"ONNX graph agrees with a second engine to {difference:.1e} of the largest logit"
    rejects = isinstance(network, Guarded)
    if rejects:
        note = (
            "The model may reject: a point falls when it is answered with a wrong class and not "
            "rejected, an unattacked image that is rejected or wrong does not count as robust, and "
            "attacks, which see the detector, aim at the likeliest other classes in turn"
        )
    return Loaded(
        name=spec,
        module=module,
        sha256=digest,
        classes=classes - rejects,
        note=note,
        rejects=rejects,
    )


def _described(
    spec: str, sample: Images, arch: str | None, folder: Path, device: torch.device | str
) -> tuple[nn.Module, str]:
    """The model that x.defended.json describes, and what was noted about its network."""
    said = descriptions.read(folder / spec)
    beside = said.network
    if not beside.startswith("demo:"):
        beside = (Path(spec).parent / said.network).as_posix()
    inner = load(
        beside,
        sample,
        arch=arch,
        folder=folder,
        preprocessing=Preprocessing(input_range=said.input_range, mean=said.mean, std=said.std),
        sha256=said.sha256,
        device=device,
    )
    return said.around(inner.module), inner.note


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


def _check_approved(spec: str, digest: str | None, sha256: str | None) -> None:
    if sha256 is not None and digest != sha256:
        raise IntegrityError(
            f"{spec} has SHA-256 {digest or 'unknown (it is code)'}, expected {sha256}: "
            "the model is not the one that was approved"
        )


def _sha256(*paths: Path) -> str:
    """Of one file its SHA-256; of several the SHA-256 of theirs, one after the other."""
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()
