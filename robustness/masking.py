"""Signs that a model hides its gradient, so that it looks robust without being so.

Each sign is measured on a few points before the attacks (https://arxiv.org/abs/1802.00420 and
https://arxiv.org/abs/1902.06705, section 5), and what is found is worked around where it can be: a
softmax is undone, randomness averaged over, steps without a slope passed straight through.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from assaymark.reports.errors import InputError
from assaymark.robustness.apgd import climb, random_start
from assaymark.robustness.losses import Loss, cross_entropy, fooled, margin
from assaymark.robustness.oracle import Oracle, ascent, logits_of
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Logits, Model

if TYPE_CHECKING:
    from assaymark.robustness.evaluate import Evaluation

POINTS = 32
"""How many points the signs are measured on."""
_SAME = 1e-3
_PIXEL_STEP = 1 / 255
_LARGE = 0.5
_LARGE_STEPS = 30
_EXPECTATION = 16
_SHARE = 0.1
_NO_WAY = "there is no gradient to attack with: random search by scores took its place"
_LEAST = 0.3
_PARTS = 32
_JUMP = 3.0
_ROUNDING = 1e-4
"""Changes below this share of the logits' spread may be rounding."""


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One sign: what was measured, and whether it was found."""

    name: str
    found: bool
    measured: str


@dataclass(frozen=True, kw_only=True)
class Masking:
    """All signs that were looked for, and what was done about those that were found."""

    signs: tuple[Sign, ...]
    repairs: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()
    queries: int = 0
    """What looking for them asked of a model that only answers."""
    what: str = "signs of a hidden gradient"
    """What the signs are called together."""

    def __add__(self, other: "Masking") -> "Masking":
        return replace(
            self,
            signs=self.signs + other.signs,
            repairs=self.repairs + other.repairs,
            untested=self.untested + other.untested,
            queries=self.queries + other.queries,
        )

    @property
    def found(self) -> tuple[Sign, ...]:
        return tuple(sign for sign in self.signs if sign.found)

    @property
    def gradient(self) -> bool:
        """Whether there is a gradient to attack with."""
        return _NO_WAY not in self.repairs

    @property
    def doubt(self) -> str | None:
        """Why a good robust accuracy is not to be relied on."""
        names = ", ".join(sign.name for sign in self.found)
        return f"{self.what} ({names})" if names else None

    def after(self, result: "Evaluation", carried: Collection[str] = ()) -> "Masking":
        """With what the attacks showed: random search that beats the gradient, or transfer queries.

        carried: the attacks that were made on surrogates.
        """
        if carried:
            return self._after_transfer(result, carried)
        search = [out for out in result.outcomes if out.name == "random search"]
        if not search or not self.gradient or not search[0].tried:
            return self
        return replace(
            self, signs=(*self.signs, _beaten(search[0].tried, search[0].fooled, result.n))
        )

    def _after_transfer(self, result: "Evaluation", carried: Collection[str]) -> "Masking":
        """Who asks the model itself should not do worse than who never saw it (1902.06705, 5.4)."""
        places = [place for place, out in enumerate(result.outcomes) if out.name not in carried]
        later = [
            out
            for place, out in enumerate(result.outcomes)
            if out.name in carried and places and place > places[0] and out.tried
        ]
        if not later:
            why = "whether transfer beats queries: no attack by queries was run before it"
            return replace(self, untested=(*self.untested, why))
        fell = sum(out.fooled for out in later)
        sign = Sign(
            name="transfer beats queries",
            found=fell > max(2, 0.01 * result.n),
            measured=f"images made on surrogates felled {fell} of the {later[0].tried} points that "
            "queries had left",
        )
        return replace(self, signs=(*self.signs, sign))


@dataclass(frozen=True, kw_only=True)
class View:
    """A model as the attacks shall see it: with what hides its gradient worked around."""

    model: Model
    samples: int = 1


def examine(
    model: Model, x: Images, y: Labels, *, batch_size: int, streams: Streams
) -> tuple[Masking, View]:
    """Measure the signs on up to 32 points that the model gets right, and work around what is found.

    x: n×C×H×W in [0, 1]. Costs about 110 forward and 40 backward passes a point. An n of 0 measures
    nothing and finds nothing.
    """
    oracle = Oracle(model, batch_size=batch_size)
    right = (logits_of(oracle, x).argmax(1) == y).nonzero().flatten()[:POINTS]
    x, y, streams = x[right], y[right], streams.select(right)
    if not len(x):
        return Masking(signs=()), View(model=model)
    view, repairs = View(model=model), []
    shuffling, softmax = _random(oracle, x), _softmax(oracle, x)
    if softmax.found:
        view = replace(view, model=_Logarithm(view.model))
        repairs.append("the logarithm of its probabilities was attacked")
    if shuffling.found:
        view = replace(view, samples=_EXPECTATION)
        repairs.append(f"attacks and verdicts use the mean of {_EXPECTATION} passes")
    seen = Oracle(view.model, batch_size=batch_size, samples=view.samples)
    flat = _flat(seen, x, y)
    if flat.found:
        straight = Straight(view.model)
        if not _flat(Oracle(straight, batch_size=batch_size, samples=view.samples), x, y).found:
            view = replace(view, model=straight)
            repairs.append("rounding and comparisons were passed straight through (BPDA)")
        else:
            repairs.append(_NO_WAY)
    signs = [shuffling, softmax, flat, _saturated(oracle, x, y)]
    if not flat.found:
        broken = _broken(seen, x, y)
        signs.append(broken)
        if not shuffling.found:  # else every two answers differ
            signs.append(_jumps(seen, x, y))
        if not shuffling.found and any(sign.found for sign in signs[-2:]):
            view = View(model=_Jittered(view.model), samples=_EXPECTATION // 2)
            repairs.append("gradients were averaged over small noise")
        large = Oracle(view.model, batch_size=batch_size, samples=view.samples)
        signs.append(_large_change(large, model, x, y, streams))
    return Masking(signs=tuple(signs), repairs=tuple(repairs)), view


def _beaten(standing: int, fell: int, n: int) -> Sign:
    return Sign(
        name="black-box beats white-box",
        found=fell > max(2, 0.01 * n),
        measured=f"random search felled {fell} of the {standing} points that gradients had left",
    )


def _random(oracle: Oracle, x: Images) -> Sign:
    first = logits_of(oracle, x)
    others = [logits_of(oracle, x) for _ in range(4)]
    spread = (first.amax(1) - first.amin(1)).clamp_min(1e-12)
    change = torch.stack([(other - first).abs().amax(1) / spread for other in others]).amax(0)
    moved = int((change > _SAME).sum())
    return Sign(
        name="answers change from pass to pass",
        found=moved > 0,
        measured=f"{moved} of {len(x)} points get another answer in five passes over the same image",
    )


def _softmax(oracle: Oracle, x: Images) -> Sign:
    logits = logits_of(oracle, x)
    sums = ((logits >= 0) & (logits <= 1)).all(1) & ((logits.sum(1) - 1).abs() < 1e-4)
    return Sign(
        name="answers are probabilities",
        found=bool(sums.all()),
        measured=f"{int(sums.sum())} of {len(x)} answers lie in [0, 1] and sum to 1",
    )


def _flat(oracle: Oracle, x: Images, y: Labels) -> Sign:
    try:
        gradient = _slope(oracle, x, y)
    except InputError:
        gradient = torch.zeros_like(x)
    flat = int((gradient.flatten(1).abs().amax(1) == 0).sum())
    return Sign(
        name="no gradient",
        found=flat > _SHARE * len(x),
        measured=f"the margin has no slope at {flat} of {len(x)} points",
    )


def _saturated(oracle: Oracle, x: Images, y: Labels) -> Sign:
    def loss(logits: Logits, rows: slice) -> Loss:
        return cross_entropy(logits, y[rows])

    try:
        _, _, gradient = ascent(oracle, x, loss)
    except InputError:
        gradient = torch.zeros_like(x)
    flat = int((gradient.flatten(1).abs().amax(1) == 0).sum())
    return Sign(
        name="saturated cross-entropy",
        found=flat > _SHARE * len(x),
        measured=f"the training loss has no slope in float32 at {flat} of {len(x)} points",
    )


def _broken(oracle: Oracle, x: Images, y: Labels) -> Sign:
    """One 8-bit step along the gradient's signs should change the margin about as it foretells."""
    gradient = _slope(oracle, x, y)
    step = _PIXEL_STEP * gradient.sign()
    change = (margin(logits_of(oracle, x + step), y) - margin(logits_of(oracle, x - step), y)) / 2
    foretold = _PIXEL_STEP * gradient.flatten(1).abs().sum(1)
    ratio = change / foretold.clamp_min(1e-12)
    wrong = int(((ratio < _LEAST) | (ratio > 1 / _LEAST)).sum())
    return Sign(
        name="the gradient does not foretell the change",
        found=wrong > len(x) / 2,
        measured=f"one 8-bit step along the gradient changes the margin by less than {_LEAST:g} or more "
        f"than {1 / _LEAST:.1f} times what the gradient says at {wrong} of {len(x)} points (median "
        f"{float(ratio.median()):.2f} times)",
    )


def _jumps(oracle: Oracle, x: Images, y: Labels) -> Sign:
    """A network is continuous: of 32 equal parts of an 8-bit step, none should do the work of many."""
    step = _PIXEL_STEP / _PARTS * _slope(oracle, x, y).sign()
    logits = [logits_of(oracle, x + (i - _PARTS / 2) * step) for i in range(_PARTS + 1)]
    margins = torch.stack([margin(answer, y) for answer in logits])
    changes = margins.diff(dim=0).abs()
    largest, spread = changes.amax(0), logits[0].amax(1) - logits[0].amin(1)
    ratio = largest / changes.mean(0).clamp_min(1e-12)
    jumping = int(((ratio > _JUMP) & (largest > _ROUNDING * spread)).sum())
    return Sign(
        name="the answer jumps",
        found=jumping > len(x) / 4,
        measured=f"of {_PARTS} equal parts of an 8-bit step, one changes the margin more than {_JUMP:g} "
        f"times as much as their mean does at {jumping} of {len(x)} points (median "
        f"{float(ratio.median()):.2f} times)",
    )


def _large_change(oracle: Oracle, model: Model, x: Images, y: Labels, streams: Streams) -> Sign:
    """With half of the pixel range to change, every model should fall."""
    start = random_start(x, eps=_LARGE, norm="linf", streams=streams, tag="masking/large")

    def climbs(logits: Logits, goal: Labels, steer: Labels) -> Loss:
        return margin(logits, goal)

    end, _, _ = climb(
        oracle, x, y, y, start, climbs, eps=_LARGE, norm="linf", targeted=False,
        steps=_LARGE_STEPS,
    )  # fmt: skip
    still = int((~fooled(logits_of(oracle, end), y, targeted=False)).sum())
    return Sign(
        name="a large change does not help",
        found=still > _SHARE * len(x),
        measured=f"{still} of {len(x)} points stand against changes of half the pixel range",
    )


def _slope(oracle: Oracle, x: Images, y: Labels) -> Images:
    def loss(logits: Logits, rows: slice) -> Loss:
        return margin(logits, y[rows])

    _, _, gradient = ascent(oracle, x, loss)
    return gradient


@dataclass(frozen=True)
class _Logarithm:
    """Probabilities as logits."""

    model: Model

    def __call__(self, x: Images) -> Logits:
        return self.model(x).clamp_min(1e-38).log()


@dataclass(frozen=True)
class _Jittered:
    """A model whose gradient is taken at a point nearby: the mean of many smooths its jumps."""

    model: Model

    def __call__(self, x: Images) -> Logits:
        if not x.requires_grad:
            return self.model(x)
        return self.model(x + 2 * _PIXEL_STEP * torch.randn_like(x))


@dataclass(frozen=True)
class Straight:
    """A model whose steps have the slope of what they step over (BPDA, arXiv 1802.00420, 4.1)."""

    model: Model

    def __call__(self, x: Images) -> Logits:
        if not x.requires_grad:
            return self.model(x)
        try:
            with _StraightThrough():
                return self.model(x)
        except (TypeError, RuntimeError):  # what follows a comparison may insist on truth values
            return self.model(x)


_STEPS = {
    torch.round, torch.floor, torch.ceil, torch.trunc, torch.sign, torch.fix,
    Tensor.round, Tensor.floor, Tensor.ceil, Tensor.trunc, Tensor.sign, Tensor.fix,
}  # fmt: skip
_ABOVE = {torch.gt, torch.ge, Tensor.gt, Tensor.ge, Tensor.__gt__, Tensor.__ge__}
_BELOW = {torch.lt, torch.le, Tensor.lt, Tensor.le, Tensor.__lt__, Tensor.__le__}
_SHARPNESS = 10.0


class _StraightThrough(TorchFunctionMode):
    """While it is entered, steps keep their value and take the slope of what they step over."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        if (
            func in (torch.where, Tensor.where)
            and isinstance(first, Tensor)
            and first.dtype != torch.bool
        ):
            return func(first.bool(), *args[1:], **kwargs)
        out = func(*args, **kwargs)
        if not isinstance(first, Tensor) or not first.requires_grad:
            return out
        if func in _STEPS:
            return first + (out - first).detach()
        if func in _ABOVE or func in _BELOW:
            sign = 1.0 if func in _ABOVE else -1.0
            soft = torch.sigmoid(sign * _SHARPNESS * (first - args[1]))
            return out.to(first.dtype) + (soft - soft.detach())
        return out
