"""The masking zoo: eight broken defenses in front of, inside or behind a sound model, and six sound ones."""

import copy
import io

import numpy
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from assaymark.robustness import demo, formats

N = 48


class Softmax(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(1)


class Temperature(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1e4


class BitDepth(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 7).round() / 7


class Jpeg(nn.Module):
    """Through Pillow and numpy, where gradients end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pictures = []
        for pixels in (x.detach() * 255).byte().numpy():
            stream = io.BytesIO()
            Image.fromarray(pixels[0]).save(stream, "JPEG", quality=60)
            pictures.append(torch.from_numpy(numpy.array(Image.open(stream)))[None] / 255)
        return torch.stack(pictures)


class RandomResize(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[-1]
        small = int(torch.randint(size - 2, size + 1, ()))
        left = int(torch.randint(0, size - small + 1, ()))
        shrunk = functional.interpolate(x, size=(small, small))
        return functional.pad(shrunk, (left, size - small - left, left, size - small - left))


class KWinners(nn.Module):
    """Only the largest activations pass (https://arxiv.org/abs/1905.10510)."""

    def __init__(self, share: float = 0.05) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, int(flat.shape[1] * self.share)), 1).values[:, -1:]
        return (flat * (flat >= least)).view_as(x)


class Thermometer(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = torch.arange(1, 9) / 9
        return torch.stack([(x > level).float() for level in levels]).mean(0)


class Dropout(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, 0.1, training=True)


def sound(name: str) -> nn.Module:
    model = demo.network()
    formats.fill(model, formats.safetensors(demo.weights(name)), name)
    return model.eval()


def k_winners(model: nn.Module, share: float = 0.05) -> nn.Module:
    layers = [
        KWinners(share) if isinstance(layer, nn.ReLU) else copy.deepcopy(layer)
        for layer in model.children()
    ]
    return nn.Sequential(*layers)


def sound_models() -> dict[str, nn.Module]:
    """Two trained ones, and four with random weights and other layers."""
    torch.manual_seed(1)
    return {"digits": sound("digits"), "digits-hardened": sound("digits-hardened")} | {
        "linear": nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        "tanh": nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)),
        "pooled": nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
        ),
        "deep": nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 32), nn.SiLU(),
            nn.LayerNorm(32), nn.Linear(32, 10),
        ),
    }  # fmt: skip


def broken() -> dict[str, nn.Module]:
    model = sound("digits-hardened")
    before = {"bit depth": BitDepth(), "jpeg": Jpeg(), "random resize": RandomResize()}
    before |= {"thermometer": Thermometer(), "dropout": Dropout()}
    after = {"softmax": Softmax(), "temperature": Temperature()}
    zoo: dict[str, nn.Module] = {k: nn.Sequential(layer, model) for k, layer in before.items()}
    zoo |= {k: nn.Sequential(model, layer) for k, layer in after.items()}
    return zoo | {"k-winners": k_winners(model)}


def points() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = demo.digits()
    return x[:N], y[:N]
