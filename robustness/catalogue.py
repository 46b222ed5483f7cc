"""Every attack by name: our own, `foolbox:Class` and `cleverhans:function`.

The adapters translate arguments and nothing else; what comes back is checked by the engine like
the result of any other attack.
"""

import inspect
import math
import warnings
from functools import partial
from importlib import import_module
from typing import Any

import torch

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.attacks import ATTACKS
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
    """The names `foolbox:NAME` may take with the installed Foolbox."""
    attacks = _import_foolbox().attacks
    return [
        name
        for name in sorted(dir(attacks))
        if inspect.isclass(getattr(attacks, name))
        and not inspect.isabstract(getattr(attacks, name))
        and hasattr(getattr(attacks, name), "run")
    ]


def cleverhans_names() -> list[str]:
    """The names `cleverhans:NAME` may take."""
    return sorted(_CLEVERHANS)


def _import_foolbox() -> Any:
    with warnings.catch_warnings():  # foolbox 3.3.4 imports a name that SciPy has moved
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_module("foolbox")


def _foolbox(name: str, options: dict[str, Any], norm: Norm) -> Attack:
    foolbox = _import_foolbox()
    if name not in foolbox_names():
        raise InputError(f'foolbox has no attack "{name}"{nearest(name, foolbox_names())}')
    kind = getattr(foolbox.attacks, name)
    _check_options(f"foolbox:{name}", options, set(inspect.signature(kind).parameters))
    attack = kind(**options)
    own = {"linf": math.inf, "l2": 2}[norm]
    p = getattr(getattr(attack, "distance", None), "p", None)
    if p is not None and p != own:
        raise InputError(
            f"foolbox:{name} measures the L{'∞' if p == math.inf else f'{p:g}'} norm, the check "
            f"says {norm}: choose an attack of that norm"
        )
    return partial(_run_foolbox, attack)


def _run_foolbox(
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
    # Foolbox draws from torch's and numpy's global generators; the engine seeds them per batch.
    wrapped = foolbox.PyTorchModel(_as_module(model), bounds=(0, 1), device=x.device)
    _, clipped, _ = attack(wrapped, x, goal, epsilons=eps)
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
    return partial(_run_cleverhans, run, options)


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
