"""Our physical, geometric and semantic attacks, in one table."""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, get_args

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.geometry import flow, rotation
from assaymark.robustness.patch_scenes import eyeglasses, eyeglasses_each, patch, patch_each
from assaymark.robustness.printing import read_palette
from assaymark.robustness.scene_types import SceneAttack, SceneLearner
from assaymark.robustness.semantic import colour, hsv, light, negative
from assaymark.robustness.universal import universal

_CONTRACT = {"model", "x", "y", "targeted", "streams"}


@dataclass(frozen=True, kw_only=True)
class SceneCard:
    """A scene with what a reader of the list wants to know; one of `run` and `learn`."""

    paper: str
    limits: tuple[str, ...]
    """The options that say how much the attacker may change."""
    run: SceneAttack | None = None
    learn: SceneLearner | None = None

    @property
    def function(self) -> Callable[..., Any]:
        function = self.learn or self.run
        assert function is not None
        return function

    @property
    def defaults(self) -> dict[str, Any]:
        """Every option with its default."""
        parameters = inspect.signature(self.function).parameters
        return {name: p.default for name, p in parameters.items() if name not in _CONTRACT}


_PATCH = ("area", "shape", "max_rotation", "max_scale", "max_brightness", "max_contrast")
_FRAMES = ("width", "rim_height", "thickness", "max_shift", "max_rotation", "max_scale")
SCENES: dict[str, SceneCard] = {
    "rotation": SceneCard(
        run=rotation,
        limits=("max_rotation", "max_translation"),
        paper="Engstrom et al. 2019, arXiv 1712.02779",
    ),
    "flow": SceneCard(run=flow, limits=("max_flow",), paper="Xiao et al. 2018, arXiv 1801.02612"),
    "hsv": SceneCard(
        run=hsv,
        limits=("max_hue", "max_saturation"),
        paper="Hosseini and Poovendran 2018, arXiv 1804.00499",
    ),
    "light": SceneCard(
        run=light,
        limits=("max_brightness", "max_contrast", "max_gamma"),
        paper="Hosseini and Poovendran 2018, arXiv 1804.00499",
    ),
    "colour": SceneCard(
        run=colour,
        limits=("max_hue", "max_saturation", "max_brightness", "max_contrast", "max_gamma"),
        paper="Hosseini and Poovendran 2018, arXiv 1804.00499",
    ),
    "negative": SceneCard(run=negative, limits=(), paper="Hosseini et al. 2017, arXiv 1703.06857"),
    "patch": SceneCard(learn=patch, limits=_PATCH, paper="Brown et al. 2017, arXiv 1712.09665"),
    "patch-each": SceneCard(
        run=patch_each, limits=_PATCH, paper="Brown et al. 2017, arXiv 1712.09665"
    ),
    "eyeglasses": SceneCard(
        learn=eyeglasses, limits=_FRAMES, paper="Sharif et al. 2016, doi 10.1145/2976749.2978392"
    ),
    "eyeglasses-each": SceneCard(
        run=eyeglasses_each, limits=_FRAMES, paper="Sharif et al. 2016, doi 10.1145/2976749.2978392"
    ),
    "universal": SceneCard(
        learn=universal, limits=("norm", "eps"), paper="Shafahi et al. 2020, arXiv 1811.11304"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A scene with its options bound."""

    card: SceneCard
    options: Mapping[str, Any]
    written: Mapping[str, Any]
    """The options as the policy writes them."""

    @property
    def run(self) -> SceneAttack | None:
        return partial(self.card.run, **self.options) if self.card.run else None

    @property
    def learn(self) -> SceneLearner | None:
        return partial(self.card.learn, **self.options) if self.card.learn else None

    @property
    def limits(self) -> str:
        """The limits in force, as a reader sees them."""
        values = self.card.defaults | dict(self.options)
        return ", ".join(f"{name} = {_shown(values[name])}" for name in self.card.limits)


def find(name: str, options: Mapping[str, Any], folder: Path = Path()) -> Bound:
    """The scene called `name` with its options; files that they name are read relative to `folder`.

    Raises InputError for an unknown name or option, or a value of the wrong type.
    """
    if name not in SCENES:
        raise InputError(f'unknown scene "{name}"{nearest(name, SCENES)}')
    card = SCENES[name]
    known = inspect.signature(card.function).parameters
    bound: dict[str, Any] = {}
    for key, value in options.items():
        if key not in card.defaults:
            takes = ", ".join(sorted(card.defaults)) or "none"
            raise InputError(f'{name} has no option "{key}"; it takes {takes}')
        if key == "palette":
            bound[key] = read_palette(folder / str(value), str(value))
        else:
            bound[key] = _typed(f"{name}: {key}", value, known[key].annotation)
    return Bound(card=card, options=bound, written=dict(options))


def _typed(name: str, value: object, annotation: Any) -> object:
    """The value as the function wants it: a whole number, a number, a fraction such as "8/255", a text."""
    wanted = get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if str in wanted:
        if isinstance(value, str):
            return value
        raise InputError(f"{name} must be a text, got {value!r}")
    if int in wanted and isinstance(value, int) and not isinstance(value, bool):
        return value
    if float in wanted:
        try:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            if isinstance(value, str) and len(value) <= 40 and "e" not in value.lower():
                return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError, OverflowError):
            pass
        raise InputError(f'{name} must be a number or a fraction such as "8/255", got {value!r}')
    raise InputError(f"{name} must be a whole number, got {value!r}")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
