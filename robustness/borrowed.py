"""Attacks of the installed Foolbox and cleverhans, behind our contract and with their papers.

The adapters translate arguments and nothing else; what comes back is checked by the engine like
the result of any other attack.
"""

import inspect
import math
import warnings
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy
import torch

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.budget import CannotRun
from assaymark.robustness.oracle import Oracle
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Attack, Images, Labels, Model, Norm

_CLEVERHANS: dict[str, str] = {
    "carlini_wagner_l2": "l2",
    "fast_gradient_method": "linf l2",
    "hop_skip_jump_attack": "linf l2",
    "projected_gradient_descent": "linf l2",
    "spsa": "linf l2",
}
_FOOLBOX_ORDER: dict[Norm, float] = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}
_CLEVERHANS_ORDER = {"linf": math.inf, "l2": 2}
_OPTIONS: dict[str, dict[Norm, dict[str, Any]]] = {
    "HopSkipJumpAttack": {"linf": {"constraint": "linf"}, "l2": {"constraint": "l2"}},
}
"""What a class needs to work in a norm, beside its defaults."""
# The first word that stands in a name tells what it is.
_ABOUT: tuple[tuple[str, str, str], ...] = (
    ("HopSkipJump", "labels", "Chen et al. 2020, arXiv 1904.02144"),
    ("hop_skip_jump", "labels", "Chen et al. 2020, arXiv 1904.02144"),
    ("Boundary", "labels", "Brendel et al. 2018, arXiv 1712.04248"),
    ("Brendel", "white-box", "Brendel et al. 2019, arXiv 1907.01003"),
    ("BinarizationRefinement", "labels", "Brendel et al. 2020, arXiv 2007.07677"),
    ("Pointwise", "labels", "Schott et al. 2019, arXiv 1805.09190"),
    ("GenAttack", "scores", "Alzantot et al. 2019, arXiv 1805.11090"),
    ("DatasetAttack", "labels", "Foolbox 3, Rauber et al. 2020, JOSS 5"),
    ("spsa", "scores", "Uesato et al. 2018, arXiv 1802.05666"),
    ("DDN", "white-box", "Rony et al. 2019, arXiv 1811.09600"),
    ("EAD", "white-box", "Chen et al. 2018, arXiv 1709.04114"),
    ("FMN", "white-box", "Pintor et al. 2021, arXiv 2102.12827"),
    ("DeepFool", "white-box", "Moosavi-Dezfooli et al. 2016, arXiv 1511.04599"),
    ("CarliniWagner", "white-box", "Carlini and Wagner 2017, arXiv 1608.04644"),
    ("carlini_wagner", "white-box", "Carlini and Wagner 2017, arXiv 1608.04644"),
    ("NewtonFool", "white-box", "Jang et al. 2017, ACSAC"),
    ("VirtualAdversarial", "white-box", "Miyato et al. 2016, arXiv 1507.00677"),
    ("SparseL1Descent", "white-box", "Tramèr and Boneh 2019, arXiv 1904.13000"),
    ("ClippingAware", "none", "Brendel et al. 2020, arXiv 2007.07677"),
    ("MomentumIterative", "white-box", "Dong et al. 2018, arXiv 1710.06081"),
    ("MIFGSM", "white-box", "Dong et al. 2018, arXiv 1710.06081"),
    ("Adam", "white-box", "Madry et al. 2018, arXiv 1706.06083; steps by Adam"),
    ("PGD", "white-box", "Madry et al. 2018, arXiv 1706.06083"),
    ("ProjectedGradient", "white-box", "Madry et al. 2018, arXiv 1706.06083"),
    ("projected_gradient", "white-box", "Madry et al. 2018, arXiv 1706.06083"),
    ("BasicIterative", "white-box", "Kurakin et al. 2017, arXiv 1607.02533"),
    ("FastGradient", "white-box", "Goodfellow et al. 2015, arXiv 1412.6572"),
    ("fast_gradient", "white-box", "Goodfellow et al. 2015, arXiv 1412.6572"),
    ("FGSM", "white-box", "Goodfellow et al. 2015, arXiv 1412.6572"),
    ("FGM", "white-box", "Goodfellow et al. 2015, arXiv 1412.6572"),
    ("SpatialAttack", "labels", "Engstrom et al. 2019, arXiv 1712.02779"),
    ("Inversion", "none", "Hosseini et al. 2017, arXiv 1703.06857"),
    ("", "none", "Foolbox 3, Rauber et al. 2020, JOSS 5"),
)


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """An attack of another library: in which norms it works here, or why it does not."""

    name: str
    knowledge: str
    norms: tuple[Norm, ...]
    paper: str


def borrowed() -> list[Borrowed]:
    """Every attack that `foolbox:` and `cleverhans:` reach with what is installed."""
    found = []
    for name in _foolbox_classes():
        tried = {norm: _usable(name, {}, norm) for norm in _FOOLBOX_ORDER}
        norms = tuple(norm for norm, (attack, _) in tried.items() if attack is not None)
        missing = next((why for _, why in tried.values() if why.startswith("needs")), "")
        if norms or missing:
            found.append(_described(f"foolbox:{name}", norms, missing))
    for name, words in _CLEVERHANS.items():
        norms = tuple(norm for norm in _FOOLBOX_ORDER if norm in words.split())
        found.append(_described(f"cleverhans:{name}", norms, ""))
    return found


def knowledge_of(name: str) -> str:
    """What an attack of another library must see of a model."""
    return next(row[1] for row in _ABOUT if row[0] in name)


def _described(name: str, norms: tuple[Norm, ...], missing: str) -> Borrowed:
    _, knowledge, paper = next(row for row in _ABOUT if row[0] in name)
    note = f"{paper} ({missing})" if missing else paper
    return Borrowed(name=name, knowledge=knowledge, norms=norms, paper=note)


def foolbox_names() -> list[str]:
    """The names `foolbox:NAME` may take with the installed Foolbox, in any norm."""
    return [
        entry.name.removeprefix("foolbox:")
        for entry in borrowed()
        if entry.norms and entry.name.startswith("foolbox:")
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
    options = _OPTIONS.get(name, {}).get(norm, {}) | options
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


def find_foolbox(name: str, options: dict[str, Any], norm: Norm) -> Attack:
    known = _foolbox_classes()
    if name not in known:
        raise InputError(f'foolbox has no attack "{name}"{nearest(name, foolbox_names())}')
    check_options(f"foolbox:{name}", options, set(inspect.signature(known[name]).parameters))
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
        raise CannotRun(f"foolbox:{name} cannot run {aim} here: {reason}") from error
    return torch.as_tensor(clipped.raw if hasattr(clipped, "raw") else clipped)


def find_cleverhans(name: str, options: dict[str, Any], norm: Norm) -> Attack:
    if name not in _CLEVERHANS:
        raise InputError(f'cleverhans has no attack "{name}"{nearest(name, cleverhans_names())}')
    if norm not in _CLEVERHANS[name].split():
        raise InputError(
            f"cleverhans:{name} works in {_CLEVERHANS[name]}, the check says {norm}: choose an "
            "attack of that norm"
        )
    run = getattr(import_module(f"cleverhans.torch.attacks.{name}"), name)
    given = {"model_fn", "x", "eps", "norm", "y", "y_target", "targeted", "clip_min", "clip_max"}
    check_options(f"cleverhans:{name}", options, set(inspect.signature(run).parameters) - given)
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


def check_options(name: str, options: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(
            f'{name} has no option "{unknown[0]}"; it takes {", ".join(sorted(known)) or "none"}'
        )
