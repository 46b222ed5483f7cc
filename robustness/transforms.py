"""Input transforms that are sold as defenses, each with a stand-in that has a gradient.

Many transforms stop an attack only because they have no gradient. An attacker who knows of them
keeps the transform in the forward pass and takes the gradient of something smooth that is near it
(BPDA, https://arxiv.org/abs/1802.00420, section 4.1). So does every transform here, unless it is
`masked`; random ones are averaged over by `assaymark.robustness.defended.adaptive`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness import jpeg
from assaymark.robustness.types import Images


class Transform(nn.Module):
    """Images in [0, 1] to what the network is given.

    A subclass gives `transform`, which is deployed, and `surrogate`, whose gradient stands in for
    it. differentiable: `transform` has a useful gradient of its own. random: it draws from torch's
    global generator, as a deployed model does, or with `seed` the same numbers at every call.
    masked: leave the gradient as autograd makes it, to show what a naive attacker meets.
    """

    differentiable: ClassVar[bool] = False
    random: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.masked = False
        self.seed: int | None = None

    def transform(self, x: Images) -> Tensor:
        """What each transform is; this class has none of its own."""
        raise NotImplementedError

    def surrogate(self, x: Images) -> Tensor:
        """By default the identity: near every transform that keeps the picture."""
        return x

    def forward(self, x: Images) -> Tensor:
        # lower precision would change what is rounded
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.masked or self.differentiable or not torch.is_grad_enabled():
                return self.transform(x)
            return straight_through(self.transform(x.detach()), self.surrogate(x))

    def generator(self, x: Tensor) -> torch.Generator | None:
        """None, which is the global one, or a fresh one with the seed."""
        if self.seed is None:
            return None
        return torch.Generator(x.device).manual_seed(self.seed)


def straight_through(real: Tensor, stand_in: Tensor) -> Tensor:
    """The value of `real` to the last bit, with the gradient of `stand_in`."""
    return real.detach() + (stand_in - stand_in.detach())


class Jpeg(Transform):
    """Encode and decode as JPEG; the stand-in rounds coefficients smoothly."""

    def __init__(self, quality: int = 75) -> None:
        super().__init__()
        self.quality = _whole("quality", quality, 1, 100)

    def transform(self, x: Images) -> Tensor:
        return jpeg.codec(x, self.quality, rounding=torch.round, steps=torch.round)

    def surrogate(self, x: Images) -> Tensor:
        return jpeg.codec(x, self.quality, rounding=jpeg.soft_rounding, steps=_as_it_is)


class BitDepth(Transform):
    """Round to 2^bits levels, 0 and 1 among them."""

    def __init__(self, bits: int = 4) -> None:
        super().__init__()
        self.bits = _whole("bits", bits, 1, 8)

    def transform(self, x: Images) -> Tensor:
        levels = (1 << self.bits) - 1
        return (x * levels).round() / levels


class Median(Transform):
    """Median of a square window around each value; edges are mirrored."""

    differentiable = True

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.size = _whole("size", size, 2, 15)

    def transform(self, x: Images) -> Tensor:
        mirrored = x
        for axis in (2, 3):
            places = _mirror(x.shape[axis], self.size, x.device)
            mirrored = mirrored.index_select(axis, places)
        windows = mirrored.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(4)
        middle = self.size**2 // 2
        return windows.kthvalue(middle + 1, dim=4).values


class TotalVariation(Transform):
    """The image u with the least ½ ‖u - x‖² + weight · total variation of u.

    Isotropic, each channel alone; found by the fast gradient projection of the dual (Beck and
    Teboulle 2009, IEEE Transactions on Image Processing 18).
    """

    differentiable = True

    def __init__(self, weight: float = 0.05, iterations: int = 30) -> None:
        super().__init__()
        self.weight = _number("weight", weight, above=0.0, most=10.0)
        self.iterations = _whole("iterations", iterations, 1, 10_000)

    def transform(self, x: Images) -> Tensor:
        dual = x.new_zeros(2, *x.shape)
        ahead, momentum = dual, 1.0
        for _ in range(self.iterations):
            image = x + self.weight * _divergence(ahead)
            moved = ahead + _slopes(image) / (8 * self.weight)
            moved = moved / moved.norm(dim=0, keepdim=True).clamp_min(1)
            faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = moved + (momentum - 1) / faster * (moved - dual)
            dual, momentum = moved, faster
        return x + self.weight * _divergence(dual)


class RandomResizePad(Transform):
    """Shrink each image to a random size and put it at a random place on black.

    The paper enlarges instead, which needs a network that takes the larger size. least: the smallest
    size, as a share of the image's own.
    """

    differentiable = True
    random = True

    def __init__(self, least: float = 0.8, *, seed: int | None = None) -> None:
        super().__init__()
        self.least = _number("least", least, above=0.0, most=1.0)
        self.seed = seed

    def transform(self, x: Images) -> Tensor:
        n, _, height, width = x.shape
        drawn = torch.rand(3, n, 1, device=x.device, generator=self.generator(x))
        share = self.least + (1 - self.least) * drawn[0]
        down, inside_down = self._axis(height, share, drawn[1])
        across, inside_across = self._axis(width, share, drawn[2])
        grid = torch.stack(
            [across[:, None].expand(n, height, width), down[:, :, None].expand(n, height, width)], 3
        )
        picture = grid_sample(x, grid, padding_mode="border", align_corners=False)
        return picture * (inside_down[:, :, None] & inside_across[:, None])[:, None]

    def _axis(
        self, length: int, share: Float[Tensor, "batch 1"], drawn: Float[Tensor, "batch 1"]
    ) -> tuple[Tensor, Tensor]:
        """Where each place of an axis looks, from -1 to 1, and whether it lies on the picture."""
        size = (share * length).round().clamp_min(1)
        begin = (drawn * (length - size + 1)).floor()
        place = torch.arange(length, device=share.device) - begin
        return (2 * place + 1) / size - 1, (place >= 0) & (place < size)


class GaussianNoise(Transform):
    """Add normal noise of `sigma` in pixel units; values may leave [0, 1]."""

    differentiable = True
    random = True

    def __init__(self, sigma: float = 0.05, *, seed: int | None = None) -> None:
        super().__init__()
        self.sigma = _number("sigma", sigma, above=0.0, most=10.0)
        self.seed = seed

    def transform(self, x: Images) -> Tensor:
        noise = torch.randn(x.shape, device=x.device, dtype=x.dtype, generator=self.generator(x))
        return x + self.sigma * noise


class Thermometer(Transform):
    """Each value as `levels` channels: 1 where it is above k / levels, k from 0.

    The network must have been trained on this code. The stand-in is that of
    https://arxiv.org/abs/1802.00420, section 5.1: min(max(x - k / levels, 0), 1).
    """

    def __init__(self, levels: int = 16) -> None:
        super().__init__()
        self.levels = _whole("levels", levels, 2, 255)

    def transform(self, x: Images) -> Tensor:
        return (self._above(x) > 0).to(x.dtype).flatten(1, 2)

    def surrogate(self, x: Images) -> Tensor:
        return self._above(x).clamp(0, 1).flatten(1, 2)

    def _above(self, x: Images) -> Tensor:
        thresholds = torch.arange(self.levels, device=x.device, dtype=x.dtype) / self.levels
        return x[:, :, None] - thresholds.view(1, 1, -1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class DefenseCard:
    """A transform of the table with what a reader of the list wants to know."""

    make: Callable[..., Transform]
    paper: str
    differentiable: bool
    random: bool


def _card(kind: type[Transform], paper: str) -> DefenseCard:
    return DefenseCard(
        make=kind, paper=paper, differentiable=kind.differentiable, random=kind.random
    )


DEFENSES: dict[str, DefenseCard] = {
    "jpeg": _card(Jpeg, "Guo et al. 2018, arXiv 1711.00117"),
    "bit-depth": _card(BitDepth, "Xu et al. 2018, arXiv 1704.01155"),
    "median": _card(Median, "Xu et al. 2018, arXiv 1704.01155"),
    "tv": _card(TotalVariation, "Guo et al. 2018, arXiv 1711.00117, without dropping pixels"),
    "random-resize": _card(RandomResizePad, "Xie et al. 2018, arXiv 1711.01991"),
    "noise": _card(GaussianNoise, "Liu et al. 2018, arXiv 1712.00673, at the input"),
    "thermometer": _card(Thermometer, "Buckman et al. 2018, ICLR"),
}


def defense(name: str, options: Mapping[str, Any]) -> Transform:
    """The transform a name and its options stand for; raises InputError when they are wrong."""
    if name not in DEFENSES:
        raise InputError(f'unknown defense "{name}"{nearest(name, DEFENSES)}')
    kind = DEFENSES[name].make
    try:
        return kind(**fitting_options(kind, options))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def fitting_options(kind: Callable[..., object], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a transform or detector as their types; raises InputError for what does not fit."""
    known = parameters(kind)
    for option in options:
        if option not in known:
            raise InputError(f'it has no option "{option}"; it takes {", ".join(known)}')
    return {option: _typed(option, value, known[option]) for option, value in options.items()}


def parameters(kind: Callable[..., object]) -> dict[str, type]:
    """The options of a transform or detector and their types."""
    taken = inspect.signature(kind).parameters
    return {key: value.annotation for key, value in taken.items() if key != "seed"}


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _typed(name: str, value: object, kind: type) -> int | float:
    """An option as its type; a whole number will do for any number."""
    allowed = (int, float) if kind is float else (int,)
    if isinstance(value, bool) or not isinstance(value, allowed):
        wanted = "a number" if kind is float else "a whole number"
        raise InputError(f"{name} is {wanted}, got {value!r}")
    return float(value) if kind is float else value


def _whole(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InputError(f"{name} is a whole number from {least} to {most}, got {value}")
    return value


def _number(name: str, value: float, *, above: float, most: float) -> float:
    if not above < value <= most:
        raise InputError(f"{name} is a number above {above:g}, at most {most:g}, got {value:g}")
    return value


def _mirror(length: int, window: int, device: torch.device) -> Int[Tensor, " places"]:
    """d c b a | a b c d | d c b a: the places that windows around every value of an axis see."""
    before = window // 2
    places = torch.arange(-before, length + window - 1 - before, device=device) % (2 * length)
    return torch.where(places < length, places, 2 * length - 1 - places)


def _slopes(image: Tensor) -> Tensor:
    """Differences to the next value down and across; 0 at the last."""
    slopes = image.new_zeros(2, *image.shape)
    slopes[0, ..., :-1, :] = image[..., 1:, :] - image[..., :-1, :]
    slopes[1, ..., :-1] = image[..., 1:] - image[..., :-1]
    return slopes


def _divergence(field: Tensor) -> Tensor:
    """Minus the transpose of `_slopes`."""
    result = torch.zeros_like(field[0])
    result[..., :-1, :] += field[0, ..., :-1, :]
    result[..., 1:, :] -= field[0, ..., :-1, :]
    result[..., :-1] += field[1, ..., :-1]
    result[..., 1:] -= field[1, ..., :-1]
    return result
