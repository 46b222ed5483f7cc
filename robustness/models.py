"""Models by name: one grammar for every command.

x.onnx · x.pt2 (torch.export) · x.ts or TorchScript .pt · x.safetensors or a .pt state dict with an
architecture · package.module:factory · hf:… · timm:… · demo:NAME · x.defended.json (a model behind
defenses) · an http(s) address, or a package.module:function that answers scores or labels.
"""

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError, IntegrityError
from assaymark.robustness import black_box, demo, descriptions, formats, vision_hubs
from assaymark.robustness.black_box import Access, Ask, BlackBox
from assaymark.robustness.budget import Budget
from assaymark.robustness.detectors import Guarded
from assaymark.robustness.endpoint import Endpoint, of_address
from assaymark.robustness.factories import resolve
from assaymark.robustness.onnx_graph import OnnxModel
from assaymark.robustness.types import Images, Logits

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model ready to attack: images in [0, 1] to logits.

    access: what an attacker sees of it. budget: what may still be asked of one that only answers.
    """

    name: str
    module: nn.Module
    sha256: str | None
    classes: int
    note: str = ""
    access: Access = "white-box"
    budget: Budget | None = None
    rejects: bool = False
    """Whether it has one output more than classes, the last, which says "rejected"."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How a model that only answers is asked.

    access: by default what can be seen: all of a network, the scores of an address. classes: how many
    there are, which labels do not say; names: what a server calls them.
    """

    access: Access | None = None
    endpoint: Endpoint = field(default_factory=Endpoint)
    classes: int | None = None
    names: tuple[str, ...] | None = None
    queries: int | None = None
    max_queries: int | None = None


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
    answers: Answers | None = None,
    opened: nn.Module | None = None,
    device: torch.device | str = "cpu",
) -> Loaded:
    """The model a spec names, tried on `sample` (a few images in [0, 1]).

    opened: the network, where the caller has opened what the spec names.

    Raises InputError when it is missing, unreadable, needs code to unpickle or does not answer the
    sample with one row of logits an image; IntegrityError when its digest is not `sha256`.
    """
    answers = answers or Answers()
    digest, note = None, ""
    asked = _asked(spec, folder, answers) if opened is None else None
    if asked is not None:
        _check_approved(spec, None, sha256)
        return _answering(spec, asked, sample.to(device), preprocessing, answers)
    network: nn.Module
    if opened is not None:
        network, digest = opened, _of_weights(opened)
    elif spec.startswith("demo:"):
        path = demo.weights(spec.removeprefix("demo:"))
        network = demo.network()
        formats.fill(network, formats.safetensors(path), path.name)
        digest = _sha256(path)
    elif vision_hubs.is_hub(spec):
        mapped = preprocessing is not None and (
            preprocessing.mean is not None or preprocessing.input_range is not None
        )
        found = vision_hubs.read(spec, folder, normalized=mapped)
        network, note, digest = found.network, found.note, _sha256(*found.files)
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
    if rejects and answers.access not in (None, "white-box"):
        raise InputError(
            f"{spec} may reject, which is attacked with gradients only: leave out access"
        )
    if answers.access not in (None, "white-box"):
        known = replace(answers, classes=classes)
        closed = _answering(spec, module, sample.to(device), None, known)
        return replace(closed, sha256=digest, note="; ".join(filter(None, (note, closed.note))))
    if answers.queries is not None or answers.max_queries is not None:
        raise InputError(
            f"queries and max_queries limit what is asked of a black box, and {spec} is open: set "
            'access = "scores" or "labels" to attack it from outside'
        )
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


def _asked(spec: str, folder: Path, answers: Answers) -> Ask | None:
    """What answers for an address or a function of images; None for a network that is opened."""
    if black_box.is_address(spec):
        if answers.access == "white-box":
            raise InputError(
                f'{spec} only answers, so it is no white box: set access = "scores" or "labels"'
            )
        return of_address(spec, answers.endpoint, answers.access or "scores", answers.names)
    if answers.access in (None, "white-box") or not re.fullmatch(r"[\w.]+:[\w.]+", spec):
        return None
    if spec.startswith(("demo:", "hf:", "timm:")):
        return None
    function = resolve(spec, folder)
    return black_box.of_function(function, spec) if black_box.takes_images(function) else None


def _answering(
    spec: str, ask: Ask, sample: Images, preprocessing: Preprocessing | None, answers: Answers
) -> Loaded:
    """A model of which only the answers are seen."""
    access = answers.access or "scores"
    budget = Budget(per_point=answers.queries, total=answers.max_queries)
    box = BlackBox(ask, spec, access, budget, answers.classes if access == "labels" else None)
    module = Prepared(box, preprocessing or Preprocessing()).eval().to(sample.device)
    classes = _try(module, sample, spec)
    note = f"{spec} answers {access} only; no gradient of it is used"
    if box.probabilities:
        note += "; its probabilities are attacked as their logarithms"
    if black_box.is_address(spec) and answers.endpoint.images == "png":
        note += "; it is sent PNG pictures, so pixels are rounded to 8 bits on the way"
    return Loaded(
        name=spec,
        module=module,
        sha256=None,
        classes=classes,
        note=note,
        access=access,
        budget=budget,
    )


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


def _of_weights(network: nn.Module) -> str:
    """SHA-256 over names, shapes and values of a network's weights."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


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
