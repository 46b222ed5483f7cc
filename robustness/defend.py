"""Defend a model: train it anew or put something before it, and write a model that can be attacked.

Training writes weights (.safetensors, with a record of the training in its header) or an exported
program (.pt2); what stands before a network is written as a description (.defended.json).
"""

import inspect
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from assaymark.reports.errors import InputError, nearest
from assaymark.reports.files import write_atomically
from assaymark.robustness import checkpoints, descriptions, training, transforms
from assaymark.robustness.descriptions import Description
from assaymark.robustness.detectors import DETECTORS, Guarded, detector, scores_of, threshold_for
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import FixedBatch, Loaded, Prepared, Preprocessing
from assaymark.robustness.recipes import Recipe, parts
from assaymark.robustness.streams import seed_of
from assaymark.robustness.training import Epoch
from assaymark.robustness.training_losses import METHODS
from assaymark.robustness.transforms import DEFENSES
from assaymark.robustness.types import Images

SMOOTHING = "smoothing"
TRAINED = (".safetensors", ".pt2")
_RATE = 0.05
_GIVEN = ("method", "eps", "norm", "seed")
"""Fields of a recipe that are no options of a method."""


def papers() -> dict[str, str]:
    """Every way to defend a model, with where it comes from."""
    found = {name: card.paper for name, card in METHODS.items()}
    found |= {name: card.paper for name, card in DEFENSES.items()}
    found |= {SMOOTHING: "Cohen et al. 2019, arXiv 1902.02918"}
    return found | {name: paper for name, (_, paper) in DETECTORS.items()}


def learns(method: str) -> bool:
    """Whether a method needs data of its own, so that others must be kept to judge it by."""
    return method in METHODS or method in DETECTORS


def answers_at_random(method: str) -> bool:
    """Whether a model with this defense may answer the same image differently."""
    return method == SMOOTHING or (method in DEFENSES and DEFENSES[method].random)


def options_of(method: str) -> dict[str, type]:
    """The options of a method and their types; raises InputError for an unknown method."""
    if method in METHODS:
        hints = inspect.get_annotations(Recipe)
        names = [field.name for field in fields(Recipe) if field.name not in _GIVEN]
        return {name: _plain(hints[name]) for name in names}
    if method == SMOOTHING:
        return {"sigma": float, "samples": int}
    if method in DEFENSES:
        return transforms.parameters(DEFENSES[method].make)
    if method in DETECTORS:
        return transforms.parameters(DETECTORS[method][0]) | {"false_positive_rate": float}
    raise InputError(f'unknown defense "{method}"{nearest(method, papers())}')


def settings(method: str, texts: list[str]) -> dict[str, Any]:
    """Options from texts such as "quality=50"; raises InputError for what cannot be one."""
    known = options_of(method)
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise InputError(
                f'"{text}" sets nothing: write NAME=VALUE, such as {next(iter(known))}=…'
            )
        if name not in known:
            raise InputError(f'{method} has no option "{name}"; it takes {", ".join(known)}')
        found[name] = _value(name, value, known[name])
    return found


def _value(name: str, text: str, kind: type) -> object:
    if kind is bool:
        if text not in ("true", "false"):
            raise InputError(f"{name} is true or false, got {text!r}")
        return text == "true"
    try:
        return kind(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} is {wanted}, got {text!r}") from error


def _plain(hint: object) -> type:
    """The type that a text is read as: that of the default for `float | None` and literals."""
    if hint in (int, float, bool):
        return cast(type, hint)
    return float if hint == (float | None) else str


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """First weights that a factory draws depend on the seed; the caller's state is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(f"{seed}/first weights"))
        yield


def check_file(method: str, path: Path) -> None:
    """Raise InputError when a method does not write files of this name."""
    written = TRAINED if method in METHODS else (descriptions.SUFFIX,)
    if not path.name.endswith(written):
        raise InputError(f"-o {path}: {method} writes a model as {' or '.join(written)}")


def train_and_write(
    model: Loaded,
    data: ImageData,
    recipe: Recipe,
    paths: list[Path],
    *,
    held_out: float,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
    each: Callable[[Epoch], None] = lambda epoch: None,
) -> training.Training:
    """Train a model on the images that are not held out, and write it to every path.

    Beside the first path stands a checkpoint while training lasts; the same call goes on from it.
    Raises InputError when the model cannot be trained, and writes nothing then.
    """
    if model.name.endswith((".onnx", ".pt2", ".ts", ".torchscript", descriptions.SUFFIX)):
        raise InputError(
            f"{model.name} cannot be trained: name it as weights with an architecture (--arch) or as "
            "package.module:factory"
        )
    module = model.module
    assert isinstance(module, Prepared)
    network = module.network.network if isinstance(module.network, FixedBatch) else module.network
    rows, choose, _ = parts(len(data.images), held_out, recipe.seed)
    state = paths[0].with_name(f"{paths[0].name}.checkpoint")
    found = training.train(
        module,
        data.images[rows],
        data.labels[rows],
        (data.images[choose], data.labels[choose]),
        recipe,
        checkpoint=state,
        device=device,
        progress=progress,
        each=each,
    )
    for path in paths:
        if path.name.endswith(".pt2"):
            write_atomically(path, _exported(network, module, data.images[:2]))
        else:
            checkpoints.write(path, network.state_dict(), training.describe(recipe, found))
    state.unlink(missing_ok=True)
    return found


def _exported(network: nn.Module, module: Prepared, sample: torch.Tensor) -> bytes:
    """An exported program of the network, for any number of images."""
    network = network.cpu().eval()
    given = module.cpu().preprocess(sample)
    stream = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            torch.export.save(torch.export.export(network, (given,), dynamic_shapes=shapes), stream)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"torch.export cannot export this network: {reason[0][:200]}; write -o x.safetensors"
        ) from error
    return stream.getvalue()


def wrap_and_write(
    model: Loaded,
    file: Path | None,
    data: ImageData,
    method: str,
    options: Mapping[str, Any],
    preprocessing: Preprocessing,
    paths: list[Path],
    *,
    held_out: float,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Description:
    """Write a description of the model behind a defense.

    file: where the network lies, None for the demo's. A detector's threshold is set on the images
    that are not held out, for the option false_positive_rate. Raises InputError when the model is
    code, which a description must not name, or is a description itself.
    """
    if model.name.endswith(descriptions.SUFFIX) or (file is None and ":" in model.name and not
                                                     model.name.startswith("demo:")):  # fmt: skip
        raise InputError(
            f"a description cannot name {model.name}: save the weights of the network itself with "
            "safetensors.torch.save_file and name its architecture with --arch"
        )
    given = dict(options)
    watcher, threshold = None, None
    if method in DETECTORS:
        rate = given.pop("false_positive_rate", _RATE)
        rows = parts(len(data.images), held_out, seed)
        guarded = Guarded(model.module, detector(method, given), 0.0)
        clean = data.images[sorted([*rows[0], *rows[1]])]
        threshold = threshold_for(scores_of(guarded.to(device), clean.to(device)), rate)
        watcher = (method, given)
    for path in paths:
        beside = model.name if file is None else os.path.relpath(str(file), str(path.parent))
        said = Description(
            network=beside,
            sha256=model.sha256,
            input_range=preprocessing.input_range,
            mean=preprocessing.mean,
            std=preprocessing.std,
            defenses=((method, given),) if method in DEFENSES else (),
            smoothing=given if method == SMOOTHING else None,
            detector=watcher,
            threshold=threshold,
        )
        _try(said.around(model.module).to(device), data.images[:2].to(device), method)
        write_atomically(path, said.json())
    return said


def _try(defended: nn.Module, sample: Images, method: str) -> None:
    """What would not work is told before anything is written."""
    try:
        with torch.no_grad():
            defended(sample)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"the network does not take what {method} gives it: {reason[0][:200]}; a code such as "
            "thermometer needs a network that was trained on it"
        ) from error
