"""Every attack by name: our own, `foolbox:Class` and `cleverhans:function`.

The adapters translate arguments and nothing else; what comes back is checked by the engine like
the result of any other attack.
"""

import inspect
import math
import warnings
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy
import torch

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Images, Labels, Model, Norm

_CONTRACT = {"model", "x", "y", "eps", "norm", "targeted", "streams"}
_CLEVERHANS = {
    "carlini_wagner_l2": "l2",
    "fast_gradient_method": "linf l2",
    "hop_skip_jump_attack": "linf l2",
    "projected_gradient_descent": "linf l2",
    "spsa": "linf l2",
}
_FOOLBOX_ORDER: dict[Norm, float] = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}
_CLEVERHANS_ORDER = {"linf": math.inf, "l2": 2}


def find(name: str, options: dict[str, Any], norm: Norm) -> Attack:
    """The attack called `name`, with its options bound.

    Raises InputError for an unknown name or option, or an attack of another norm.
    """
    family, _, rest = name.partition(":")
    if not rest:
        if name not in ATTACKS:
            raise InputError(
                f'unknown attack "{name}"; known are {", ".join(ATTACKS)}, and every attack of '
                '"foolbox:…" and "cleverhans:…" (assaymark attack --list)'
            )
        run = ATTACKS[name].run
        _check_options(name, options, set(inspect.signature(run).parameters) - _CONTRACT)
        return partial(run, **options)
    if family == "foolbox":
        return _foolbox(rest, options, norm)
    if family == "cleverhans":
        return _cleverhans(rest, options, norm)
    raise InputError(f'unknown attack family "{family}" in "{name}"; known: foolbox, cleverhans')


def foolbox_names() -> list[str]:
    """The names `foolbox:NAME` may take with the installed Foolbox, for either norm."""
    return [
        name
        for name in _foolbox_classes()
        if any(_usable(name, {}, norm)[0] for norm in _FOOLBOX_ORDER)
    ]


def cleverhans_names() -> list[str]:
    """The names `cleverhans:NAME` may take."""
    return sorted(_CLEVERHANS)


def _import_foolbox() -> Any:
    with warnings.catch_warnings():  # foolbox 3.3.4 imports a name that SciPy has moved
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_module("foolbox")


def _foolbox_classes() -> dict[str, Any]:
    attacks = _import_foolbox().attacks
    return {
        name: kind
        for name, kind in sorted(vars(attacks).items())
        if inspect.isclass(kind) and not inspect.isabstract(kind) and hasattr(kind, "run")
    }


def _usable(name: str, options: dict[str, Any], norm: Norm) -> tuple[Any, str]:
    """The configured attack and "", or None and the reason why it cannot be used for `norm`."""
    foolbox = _import_foolbox()
    kind = _foolbox_classes()[name]
    parameters = inspect.signature(kind).parameters
    if "distance" in parameters and "distance" not in options:
        options = options | {"distance": getattr(foolbox.distances, norm)}
    if "Brendel" in name and find_spec("numba") is None:
        return None, "needs numba: pip install numba"
    try:
        attack = kind(**options)
    except Exception as error:  # constructors check their arguments in their own ways
        return None, f"cannot be made: {error}"
    try:
        p = getattr(attack.distance, "p", None)
    except Exception:
        p = None
    own = _FOOLBOX_ORDER[norm]
    if p is None:
        return None, "has no norm, so its answers cannot be held against a ball"
    if p != own:
        measured = "L∞" if p == math.inf else f"L{p:g}"
        return None, f"measures the {measured} norm, the check says {norm}: choose another attack"
    return attack, ""


def _foolbox(name: str, options: dict[str, Any], norm: Norm) -> Attack:
    known = _foolbox_classes()
    if name not in known:
        raise InputError(f'foolbox has no attack "{name}"{nearest(name, foolbox_names())}')
    _check_options(f"foolbox:{name}", options, set(inspect.signature(known[name]).parameters))
    attack, reason = _usable(name, options, norm)
    if attack is None:
        raise InputError(f"foolbox:{name} {reason}")
    return partial(_in_batches, partial(_run_foolbox, name, attack))


def _in_batches(
    attack: Attack,
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams | None = None,
) -> Images:
    """An attack of another library, batch by batch as the model takes them.

    These draw from the global generators, which are seeded with the key of each batch's first point.
    """
    streams = streams or Streams.of(0, "catalogue", list(range(len(x))))
    size = model.batch_size if isinstance(model, Oracle) else max(len(x), 1)
    parts = [x[:0]]
    for begin in range(0, len(x), size):
        rows = slice(begin, begin + size)
        seed = int(streams.keys[begin]) % 2**32
        torch.manual_seed(seed)
        numpy.random.seed(seed)
        moved = attack(model, x[rows], y[rows], eps=eps, norm=norm, targeted=targeted, streams=None)
        parts.append(moved)
    return torch.cat(parts)


def _run_foolbox(
    name: str,
    attack: Any,
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams | None = None,
) -> Images:
    foolbox = _import_foolbox()
    criteria = foolbox.criteria
    goal = criteria.TargetedMisclassification(y) if targeted else criteria.Misclassification(y)
    wrapped = foolbox.PyTorchModel(_as_module(model), bounds=(0, 1), device=x.device)
    try:
        _, clipped, _ = attack(wrapped, x, goal, epsilons=eps)
    except (TypeError, ValueError, AssertionError, NotImplementedError, ImportError) as error:
        aim = "targeted" if targeted else "untargeted"
        first = str(error).strip().splitlines()
        reason = first[0] if first else type(error).__name__
        raise InputError(f"foolbox:{name} cannot run {aim} here: {reason}") from error
    return torch.as_tensor(clipped.raw if hasattr(clipped, "raw") else clipped)


def _cleverhans(name: str, options: dict[str, Any], norm: Norm) -> Attack:
    if name not in _CLEVERHANS:
        raise InputError(f'cleverhans has no attack "{name}"{nearest(name, cleverhans_names())}')
    if norm not in _CLEVERHANS[name].split():
        raise InputError(
            f"cleverhans:{name} works in {_CLEVERHANS[name]}, the check says {norm}: choose an "
            "attack of that norm"
        )
    run = getattr(import_module(f"cleverhans.torch.attacks.{name}"), name)
    given = {"model_fn", "x", "eps", "norm", "y", "y_target", "targeted", "clip_min", "clip_max"}
    _check_options(f"cleverhans:{name}", options, set(inspect.signature(run).parameters) - given)
    return partial(_in_batches, partial(_run_cleverhans, run, options))


def _run_cleverhans(
    run: Any,
    options: dict[str, Any],
    model: Model,
    x: Images,
    y: Labels,
    *,
    eps: float,
    norm: Norm,
    targeted: bool,
    streams: Streams | None = None,
) -> Images:
    takes = inspect.signature(run).parameters
    steps = options.get("nb_iter", 40)
    # What each function needs under its own name; defaults follow the papers.
    offered: dict[str, Any] = {
        "eps": eps,
        "norm": _CLEVERHANS_ORDER[norm],
        "clip_min": 0.0,
        "clip_max": 1.0,
        "nb_iter": steps,
        "eps_iter": min(eps, 2.5 * eps / steps),
        "targeted": targeted,
        "verbose": False,
    }
    arguments = {key: value for key, value in offered.items() if key in takes} | options
    if "n_classes" in takes:
        with torch.no_grad():
            arguments["n_classes"] = model(x[:1]).shape[1]
    if "y" in takes:
        arguments["y"] = y
    elif targeted:  # HopSkipJump: a target class for each image needs an image of that class
        raise InputError("cleverhans:hop_skip_jump_attack is untargeted here: drop `target`")
    moved: torch.Tensor = run(model, x, **arguments)
    return moved.detach()


def _as_module(model: Model) -> torch.nn.Module:
    if isinstance(model, torch.nn.Module):
        return model
    module = _Called(model)
    return module.eval()


class _Called(torch.nn.Module):
    """A function as a module, for libraries that insist on one."""

    def __init__(self, function: Model) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Images) -> torch.Tensor:
        return self.function(x)


def _check_options(name: str, options: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(
            f'{name} has no option "{unknown[0]}"; it takes {", ".join(sorted(known)) or "none"}'
        )
