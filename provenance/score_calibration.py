"""From a detector's score to a log-likelihood ratio that its measurements can carry.

The map is fitted with every label's clusters (sources of reals, generators of fakes) weighed by what they
are worth as witnesses, and cut where the number of files ends: a score that none of n photographs reached
has still been reached by up to 1 - 0.05^(1/n) of all (Hanley and Lippman-Hand 1983, JAMA 249), so no ratio
beyond its inverse is claimed. Shrinking the ratios further, by what predicts left-out sources best, was
tried on simulated sources that differ: it made the ratios worse, since so few sources cannot choose it.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from assaymark.provenance.detection_intervals import Sample, effective
from assaymark.provenance.detection_scores import Scores
from assaymark.reports.errors import InputError, nearest

Weights = Float[numpy.ndarray, " files"]
_STEEPEST = 1e3


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A non-decreasing map from scores to log-odds at even prior odds.

    platt: offset + slope · score (Platt 1999). beta: offset + a · ln σ(score) - b · ln(1 - σ(score)), of
    scores that are logits (Kull et al. 2017, AISTATS). isotonic: straight lines between knots of
    (score, log-odds), level beyond them (Zadrozny and Elkan 2002).
    """

    kind: str
    parameters: tuple[float, ...] = ()
    knots: tuple[tuple[float, float], ...] = ()

    def log_odds(self, scores: ArrayLike) -> Scores:
        s = numpy.asarray(scores, dtype=numpy.float64)
        if self.kind == "isotonic":
            x, y = numpy.asarray(self.knots, dtype=float).T
            return numpy.asarray(numpy.interp(s, x, y))
        found: Scores = _FEATURES[self.kind](s) @ numpy.asarray(self.parameters)
        return found


def _platt_features(s: Scores) -> Float[numpy.ndarray, "*files features"]:
    return numpy.stack([s, numpy.ones_like(s)], axis=-1)


def _beta_features(s: Scores) -> Float[numpy.ndarray, "*files features"]:
    log_fake, log_real = -numpy.logaddexp(0, -s), -numpy.logaddexp(0, s)
    return numpy.stack([log_fake, -log_real, numpy.ones_like(s)], axis=-1)


_FEATURES: Mapping[str, Callable[[Scores], Scores]] = MappingProxyType(
    {"platt": _platt_features, "beta": _beta_features}
)
KINDS = (*_FEATURES, "isotonic")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A frozen calibration; JSON and back by `to_json` and `from_json`.

    lowest, highest: the log-likelihood ratios that so many files support, natural logarithms. reals,
    fakes, sources, generators: how many it was fitted to.
    """

    curve: Curve
    lowest: float
    highest: float
    reals: int
    fakes: int
    sources: int
    generators: int
    measured_on: str = ""

    def llr(self, score: float) -> float:
        """ln P(score | generated) / P(score | real), within [lowest, highest]."""
        return float(self.llrs([score])[0])

    def llrs(self, scores: ArrayLike) -> Scores:
        found: Scores = numpy.clip(self.curve.log_odds(scores), self.lowest, self.highest)
        return found

    def probability(self, score: float, *, prior: float = 0.5) -> float:
        """P(generated | score) where such a share in (0, 1) of files is generated."""
        return float(expit(self.llr(score) + math.log(prior / (1 - prior))))

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Calibration":
        """Raises InputError for anything that `to_json` did not write."""
        try:
            return _read(json.loads(text))
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise InputError(
                f"this is no calibration of scores ({error}): expected the JSON that evaluation wrote"
            ) from error


def calibrate(of: Sample, kind: str = "platt", *, measured_on: str = "") -> Calibration:
    """Fit to all files. The scores must come from a detector that was not trained on these sources.

    kind: one of KINDS. Raises InputError with fewer than two sources or two generators.
    """
    reals, fakes = _clusters(of)
    lowest, highest = _limits(of)
    return Calibration(
        curve=_fitted(of, kind),
        lowest=lowest,
        highest=highest,
        reals=int((~of.labels).sum()),
        fakes=int(of.labels.sum()),
        sources=len(reals),
        generators=len(fakes),
        measured_on=measured_on,
    )


def held_out_llrs(of: Sample, kind: str = "platt") -> Scores:
    """Of every file, the ratio by a calibration that has seen no file of its source or generator."""
    _clusters(of)
    found = numpy.empty(len(of.labels))
    for places in [*of.members(False).values(), *of.members(True).values()]:
        rest = numpy.ones(len(found), dtype=bool)
        rest[places] = False
        others = of.only(rest)
        log_odds = _fitted(others, kind).log_odds(of.scores[places])
        found[places] = numpy.clip(log_odds, *_limits(others))
    return found


def weights(of: Sample) -> Weights:
    """Each file's weight: a cluster of n counts n / (1 + (n - 1) · likeness), each label one half."""
    found = numpy.zeros(len(of.labels))
    for fake in (False, True):
        members = of.members(fake).values()
        whole = effective([len(places) for places in members])
        for places in members:
            found[places] = effective([len(places)]) / len(places) / (2 * whole)
    return found


def _fitted(of: Sample, kind: str) -> Curve:
    if kind not in KINDS:
        raise InputError(f'there is no calibration "{kind}"{nearest(kind, KINDS)}')
    weight, target = weights(of), _targets(of)
    if kind == "isotonic":
        return _isotonic(of.scores, target, weight)
    x = _FEATURES[kind](of.scores)
    scale = numpy.maximum(numpy.abs(x).max(axis=0), 1e-12)

    def loss(w: Weights) -> tuple[float, Weights]:
        z = (x / scale) @ w
        value = (weight * (numpy.logaddexp(0, z) - target * z)).sum()
        return float(value), ((weight * (expit(z) - target)) @ (x / scale))

    steep = (0.0, _STEEPEST)
    bounds = [steep] * (x.shape[1] - 1) + [(-_STEEPEST, _STEEPEST)]
    best = minimize(loss, numpy.zeros(x.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return Curve(kind=kind, parameters=tuple(float(value) for value in best / scale))


def _targets(of: Sample) -> Weights:
    """Platt's targets (1999, section 2.2), of effective numbers: no fit is certain of a label."""
    fakes, reals = _effective(of, True), _effective(of, False)
    return numpy.where(of.labels, (fakes + 1) / (fakes + 2), 1 / (reals + 2))


def _isotonic(scores: Scores, target: Weights, weight: Weights) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(scores, target, weight)
    p = numpy.clip(fitted.y_thresholds_, 1e-6, 1 - 1e-6)
    knots = zip(fitted.X_thresholds_, numpy.log(p / (1 - p)), strict=True)
    return Curve(kind="isotonic", knots=tuple((float(x), float(y)) for x, y in knots))


def _limits(of: Sample) -> tuple[float, float]:
    """What n effective fakes and reals support: no ratio beyond the 95 % bound of a rate never seen."""
    low, high = (-math.log(1 - 0.05 ** (1 / _effective(of, fake))) for fake in (True, False))
    return -max(low, 0.0), max(high, 0.0)


def _effective(of: Sample, fake: bool) -> float:
    return effective([len(places) for places in of.members(fake).values()])


def _clusters(of: Sample) -> tuple[list[str], list[str]]:
    reals, fakes = list(of.members(False)), list(of.members(True))
    if min(len(reals), len(fakes)) < 2:
        raise InputError(
            f"{len(reals)} sources of reals and {len(fakes)} generators: a calibration that holds for "
            "others needs at least 2 of each, and is better with 8"
        )
    return reals, fakes


def _read(data: Mapping[str, Any]) -> Calibration:
    curve = Curve(
        kind=data["curve"]["kind"],
        parameters=tuple(finite_number(value) for value in data["curve"]["parameters"]),
        knots=tuple((finite_number(x), finite_number(y)) for x, y in data["curve"]["knots"]),
    )
    lowest, highest = finite_number(data["lowest"]), finite_number(data["highest"])
    if not lowest <= 0 <= highest:
        raise ValueError("limits must enclose 0")
    _check_rising(curve)
    return Calibration(
        curve=curve,
        lowest=lowest,
        highest=highest,
        reals=int(finite_number(data["reals"])),
        fakes=int(finite_number(data["fakes"])),
        sources=int(finite_number(data["sources"])),
        generators=int(finite_number(data["generators"])),
        measured_on=str(data.get("measured_on", "")),
    )


def _check_rising(curve: Curve) -> None:
    if curve.kind == "isotonic":
        x, y = zip(*curve.knots, strict=True)
        if list(x) != sorted(set(x)) or list(y) != sorted(y):
            raise ValueError("knots must rise")
    elif len(curve.parameters) != {"platt": 2, "beta": 3}.get(curve.kind):
        raise ValueError(f"{len(curve.parameters)} parameters of a {curve.kind!r} curve")
    elif min(curve.parameters[:-1]) < 0:
        raise ValueError("a higher score must not make a file more likely real")


def finite_number(value: Any) -> float:
    """The value as a float; raises ValueError where it is none or not finite."""
    if isinstance(value, bool | str):
        raise ValueError(f"{str(value)[:80]!r} is no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number
