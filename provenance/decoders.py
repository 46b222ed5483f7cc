"""Small image autoencoders of many kinds, built from one table: whose decoders leave a trace.

A generator's last step is a decoder that doubles a grid of features until it has pixels, and the doubling
leaves a periodic trace (Odena et al., 2016, https://distill.pub/2016/deconv-checkerboard/; Durall et al.,
https://arxiv.org/abs/2003.01826). Reconstructing a photograph through such a decoder gives a picture of
the same content with the trace alone, so that a detector cannot learn the content instead
(https://arxiv.org/abs/2410.11835, section 3). assaymark.provenance.decoder_training trains them.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from assaymark.provenance.network_files import load_network, save_network
from assaymark.reports.errors import InputError, nearest

Pixels = UInt8[numpy.ndarray, "height width 3"]
Images = Float[Tensor, "batch 3 height width"]  # in [0, 1]
Latents = Float[Tensor, "batch channels rows columns"]
LATENTS = ("plain", "kl", "fsq", "thumbnail")
LOSSES = ("l1", "detail", "adversarial")
LARGEST = 4_000_000  # pixels of one picture that is reconstructed
_LEVELS = 4  # of finite scalar quantisation, on each side of zero


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a decoder is built and trained.

    up: a name in UPSAMPLERS, or `patch`, one step of `factor`. factor: side of a latent's cell, in pixels.
    channels: numbers in a cell (3 of a thumbnail). latent: `plain`; `kl`, with noise and a normal prior
    (https://arxiv.org/abs/1312.6114); `fsq`, numbers rounded to nine levels
    (https://arxiv.org/abs/2309.15505); `thumbnail`, the mean colour, so that the decoder invents all
    detail. loss: `l1`; `detail`, that of the gradients too; `adversarial`, with a critic of patches.
    width: features of a pixel. refine: blocks after the last doubling.
    """

    up: str
    factor: int
    channels: int
    latent: str = "plain"
    loss: str = "l1"
    width: int = 12
    refine: int = 1

    def __post_init__(self) -> None:
        ups = (*UPSAMPLERS, "patch")
        for what, value, known in (
            ("up-sampler", self.up, ups),
            ("latent", self.latent, LATENTS),
            ("loss", self.loss, LOSSES),
        ):
            if value not in known:
                raise InputError(f"{value!r} is no {what}{nearest(str(value), known)}")
        if self.factor not in (2, 4, 8, 16):
            raise InputError(f"a decoder's factor is 2, 4, 8 or 16, got {self.factor}")
        for name, low, high in (("channels", 1, 256), ("width", 1, 128), ("refine", 0, 4)):
            if not low <= getattr(self, name) <= high:
                raise InputError(
                    f"a decoder's {name} lies in [{low}, {high}], got {getattr(self, name)}"
                )
        if self.latent == "thumbnail" and self.channels != 3:
            raise InputError(f"a thumbnail has 3 channels, got {self.channels}")


class _Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.body(x)
        return found


def _interpolated(mode: str, enter: int, leave: int) -> nn.Module:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(enter, leave, 3, padding=1)
    )


def _transposed(kernel: int, padding: int, extra: int, enter: int, leave: int) -> nn.Module:
    return nn.ConvTranspose2d(enter, leave, kernel, 2, padding, output_padding=extra)


def _shuffled(enter: int, leave: int, times: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(enter, leave * times**2, 3, padding=1), nn.PixelShuffle(times))


UPSAMPLERS: dict[str, Callable[[int, int], nn.Module]] = {
    "nearest": partial(_interpolated, "nearest"),
    "bilinear": partial(_interpolated, "bilinear"),
    "transposed2": partial(_transposed, 2, 0, 0),
    "transposed3": partial(_transposed, 3, 1, 1),
    "transposed4": partial(_transposed, 4, 1, 0),
    "shuffle": _shuffled,
}

RECIPES: dict[str, Recipe] = {
    "nearest-4": Recipe(up="nearest", factor=4, channels=12),
    "nearest-4-fsq": Recipe(up="nearest", factor=4, channels=12, latent="fsq", loss="detail"),
    "nearest-8-kl": Recipe(up="nearest", factor=8, channels=32, latent="kl", loss="adversarial"),
    "bilinear-4-kl": Recipe(up="bilinear", factor=4, channels=12, latent="kl", loss="detail"),
    "bilinear-8": Recipe(up="bilinear", factor=8, channels=48, loss="adversarial"),
    "transposed2-4-fsq": Recipe(up="transposed2", factor=4, channels=12, latent="fsq"),
    "transposed2-8": Recipe(up="transposed2", factor=8, channels=48, loss="detail", refine=0),
    "transposed3-4": Recipe(up="transposed3", factor=4, channels=12, loss="detail"),
    "transposed4-4": Recipe(up="transposed4", factor=4, channels=12, loss="adversarial"),
    "transposed4-8-kl": Recipe(up="transposed4", factor=8, channels=48, latent="kl"),
    "shuffle-4": Recipe(up="shuffle", factor=4, channels=12, refine=0),
    "shuffle-8-fsq": Recipe(up="shuffle", factor=8, channels=48, latent="fsq", loss="adversarial"),
    "patch-8": Recipe(up="patch", factor=8, channels=48, refine=0),
    "patch-4": Recipe(up="patch", factor=4, channels=12, loss="detail", refine=0),
    "nearest-2-thumbnail": Recipe(
        up="nearest", factor=2, channels=3, latent="thumbnail", loss="adversarial"
    ),
    "transposed4-2-thumbnail": Recipe(
        up="transposed4", factor=2, channels=3, latent="thumbnail", loss="adversarial"
    ),
    "bilinear-4-thumbnail": Recipe(up="bilinear", factor=4, channels=3, latent="thumbnail"),
    "shuffle-4-thumbnail": Recipe(
        up="shuffle", factor=4, channels=3, latent="thumbnail", loss="adversarial", refine=0
    ),
}


class Autoencoder(nn.Module):
    """An encoder that looks at whole cells, so that all of the trace is the decoder's."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        cell = 3 * recipe.factor**2
        wide = recipe.width * min(recipe.factor, 8)
        self.encoder: nn.Module = nn.Identity()
        if recipe.latent != "thumbnail":
            self.encoder = nn.Sequential(
                nn.PixelUnshuffle(recipe.factor),
                nn.Conv2d(cell, wide, 3, padding=1),
                _Block(wide),
                nn.Conv2d(wide, recipe.channels * (2 if recipe.latent == "kl" else 1), 1),
            )
        self.decoder = nn.Sequential(*_decoder(recipe, wide))

    def moments(self, images: Images) -> tuple[Latents, Latents]:
        """Mean and logarithm of the variance of the latents; the latter is 0 but for `kl`."""
        recipe = self.recipe
        if recipe.latent == "thumbnail":
            mean = F.avg_pool2d(images * 2 - 1, recipe.factor)
            return mean, torch.zeros_like(mean)
        found: Tensor = self.encoder(images * 2 - 1)
        if recipe.latent == "kl":
            mean, spread = found.chunk(2, 1)
            return mean, spread.clamp(-12, 4)
        if recipe.latent == "fsq":
            bounded = torch.tanh(found) * _LEVELS
            # the gradient passes the rounding (straight-through estimator)
            found = (bounded + (bounded.round() - bounded).detach()) / _LEVELS
        return found, torch.zeros_like(found)

    def decode(self, latents: Latents) -> Images:
        """Pictures, not yet cut to [0, 1]: the loss must see how far outside they are."""
        decoded: Tensor = self.decoder(latents)
        return decoded * 0.5 + 0.5

    def forward(self, images: Images) -> Images:
        """Reconstructions from the means; height and width must be multiples of the factor."""
        return self.decode(self.moments(images)[0])


def _decoder(recipe: Recipe, wide: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(recipe.channels, wide, 3, padding=1), _Block(wide)]
    if recipe.up == "patch":
        layers.append(_shuffled(wide, recipe.width, recipe.factor))
    else:
        doublings = round(math.log2(recipe.factor))
        for left in reversed(range(doublings)):
            narrow = recipe.width * min(2**left, 8)
            layers.append(UPSAMPLERS[recipe.up](wide, narrow))
            layers += [_Block(narrow)] if left else []
            wide = narrow
    layers += [_Block(recipe.width) for _ in range(recipe.refine)]
    return [
        *layers,
        nn.SiLU(),
        nn.Conv2d(recipe.width, 3, 1 if recipe.refine == 0 else 3, padding="same"),
    ]


def build(recipe: Recipe, *, seed: int = 0) -> Autoencoder:
    """A decoder that has learnt nothing yet; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Autoencoder(recipe)


def recipe_named(name: str) -> Recipe:
    """Raises InputError for a name that is not in the table."""
    if name not in RECIPES:
        raise InputError(f"{name!r} is no decoder{nearest(name, RECIPES)}")
    return RECIPES[name]


def reconstruct(model: Autoencoder, pixels: Pixels) -> Pixels:
    """A picture of 8-bit RGB through the decoder and back, of the same size; the model's device computes.

    Edges are mirrored up to a whole cell. Raises InputError for another array, or over 4 million pixels.
    """
    check_pixels(pixels)
    images = to_images(pixels, next(model.parameters()).device)
    cell = model.recipe.factor
    height, width = pixels.shape[:2]
    below, right = -height % cell, -width % cell
    # reflection cannot reach beyond a picture that is smaller than a cell
    mode = "reflect" if below < height and right < width else "replicate"
    with torch.inference_mode():
        found = model(F.pad(images, (0, right, 0, below), mode=mode))
    return to_pixels(found[:, :, :height, :width])


def check_pixels(pixels: Pixels) -> None:
    """Raises InputError unless it is 8-bit RGB with 1 to 4 million pixels."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != numpy.uint8 or not pixels.size:
        raise InputError(
            f"expected pixels of shape (height, width, 3) and type uint8, got {pixels.shape} of "
            f"{pixels.dtype}: convert the picture to RGB of 8 bits"
        )
    if pixels.shape[0] * pixels.shape[1] > LARGEST:
        raise InputError(
            f"a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels is too large to reconstruct: "
            f"cut it to at most {LARGEST:,}"
        )


def to_images(pixels: Pixels, device: torch.device) -> Images:
    """One picture as a batch of one in [0, 1]."""
    tensor = torch.from_numpy(numpy.array(pixels)).to(device)
    return tensor.permute(2, 0, 1)[None].float() / 255


def to_pixels(images: Images) -> Pixels:
    """The first picture of a batch, cut to [0, 1] and rounded to 8 bits."""
    levels = (images[0].clamp(0, 1) * 255).round().to(torch.uint8)
    found: Pixels = levels.permute(1, 2, 0).cpu().numpy()
    return numpy.ascontiguousarray(found)


def save_decoder(model: Autoencoder, path: Path) -> None:
    """Weights as safetensors, with the recipe in the header."""
    save_network(model, path, kind="decoder", settings=asdict(model.recipe))


def load_decoder(path: Path) -> Autoencoder:
    """The decoder of a file of save_decoder; raises InputError for any other file."""
    return load_network(path, kind="decoder", build=lambda told: Autoencoder(Recipe(**told)))
