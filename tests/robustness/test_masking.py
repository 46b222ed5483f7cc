"""The masking zoo: broken defenses are found out, sound models are not accused."""

import copy
import io
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from assaymark.reports.model import Gate, Limit, Verdict
from assaymark.robustness import demo, formats
from assaymark.robustness.check import Threat, check_robustness
from assaymark.robustness.images import ImageData
from assaymark.robustness.masking import examine
from assaymark.robustness.models import Loaded
from assaymark.robustness.streams import Streams

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 20), 1).values[:, -1:]
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


def k_winners(model: nn.Module) -> nn.Module:
    layers = [
        KWinners() if isinstance(layer, nn.ReLU) else copy.deepcopy(layer)
        for layer in model.children()
    ]
    return nn.Sequential(*layers)


def broken() -> dict[str, nn.Module]:
    model = sound("digits-hardened")
    before = {"bit depth": BitDepth(), "jpeg": Jpeg(), "random resize": RandomResize()}
    before |= {"thermometer": Thermometer(), "dropout": Dropout()}
    after = {"softmax": Softmax(), "temperature": Temperature()}
    zoo: dict[str, nn.Module] = {k: nn.Sequential(layer, model) for k, layer in before.items()}
    zoo |= {k: nn.Sequential(model, layer) for k, layer in after.items()}
    return zoo | {"k-winners": k_winners(model)}


ZOO = broken()


def points() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = demo.digits()
    return x[:N], y[:N]


def found(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[str]:
    torch.manual_seed(0)
    streams = Streams.of(0, "zoo", list(range(len(x))))
    masking, _ = examine(model.eval(), x, y, batch_size=64, streams=streams)
    assert masking.signs
    return [sign.name for sign in masking.found]


@pytest.mark.parametrize("name", ZOO)
def test_a_broken_defense_is_found_out(name: str) -> None:
    x, _ = points()
    torch.manual_seed(0)
    y = ZOO[name](x).argmax(1)  # whatever it says is right: that is not what is measured here
    assert found(ZOO[name], x, y)


@pytest.mark.parametrize("name", ["digits", "digits-hardened", "linear", "tanh", "pooled", "deep"])
def test_a_sound_model_is_not_accused(name: str) -> None:
    x, _ = points()
    torch.manual_seed(1)
    models: dict[str, Any] = {
        "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        "tanh": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)
        ),
        "pooled": lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
        ),
        "deep": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 32), nn.SiLU(),
            nn.LayerNorm(32), nn.Linear(32, 10),
        ),
    }  # fmt: skip
    model = models[name]() if name in models else sound(name)
    assert found(model, x, model(x).argmax(1)) == []


def check(model: nn.Module, minimum: float) -> tuple[float, Verdict, str | None]:
    x, y = points()
    result = check_robustness(
        "zoo",
        Loaded(name="zoo", module=model.eval(), sha256=None, classes=10),
        ImageData(name="digits", images=x, labels=y, classes=None),
        Threat(attacks=(("quick", {}),), norm="linf", eps=0.1),
        gates=(Gate(metric="robust_accuracy", limit=Limit(minimum=minimum, on="lower")),),
    )
    finding = next(f for f in result.findings if f.measure == "robust_accuracy")
    assert finding.value is not None
    return finding.value, finding.judged, finding.unreliable


@pytest.mark.parametrize("name", ["softmax", "temperature", "bit depth", "thermometer"])
def test_a_number_that_would_pass_is_not_believed(name: str) -> None:
    """And what hides the gradient is worked around: as few stand as without it."""
    plain, verdict, doubt = check(sound("digits-hardened"), 0.01)
    assert verdict is Verdict.PASS
    assert doubt is None
    hidden, verdict, doubt = check(ZOO[name], 0.01)
    assert verdict is Verdict.INCONCLUSIVE
    assert doubt is not None
    slack = 0.15 if name in ("bit depth", "thermometer") else 0.0  # these change the images too
    assert hidden <= plain + slack


def test_a_broken_limit_is_broken_whatever_is_hidden() -> None:
    _, verdict, doubt = check(nn.Sequential(sound("digits"), Softmax()), 0.999)
    assert doubt is not None
    assert verdict is Verdict.FAIL
