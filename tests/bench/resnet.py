"""What a lower precision saves on a ResNet-18: `python tests/bench/resnet.py ROOT WEIGHTS [N] [PEER]`.

ROOT holds the shared data. WEIGHTS is a .safetensors file, trained first where it does not exist: 12,000
images, three epochs of fast adversarial training, about 20 minutes. The suite `standard` attacks N
points (100) in float32 and in bfloat16 with channels last, which search on the same points and are
confirmed in float32; verdicts are compared point by point. AutoAttack standard of torchattacks, where it
is installed, gets the first PEER points (0).
"""

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import subjects

import robustness

# isort: split
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import relu

from assaymark.robustness.evaluate import Evaluation, evaluate
from assaymark.robustness.recipes import Recipe
from assaymark.robustness.shard import Search
from assaymark.robustness.suites import SUITES
from assaymark.robustness.training import train

EPS = 8 / 255
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16, channels last": {"channels_last": True, "precision": torch.bfloat16},
}


class Block(nn.Module):
    """The basic block of He et al. 2016 (https://arxiv.org/abs/1512.03385, figure 2)."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.second, self.norm2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.short = nn.Sequential()
        if stride != 1 or a != b:
            self.short = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.second(relu(self.norm1(self.first(x)))))
        return relu(inner + self.short(x))


def resnet18() -> nn.Module:
    """The form for 32×32 images: a first convolution of 3×3, no pooling behind it."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    width = 64
    for out, stride in (
        (64, 1),
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        (512, 1),
    ):
        layers.append(Block(width, out, stride))
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def weights(root: Path, path: Path) -> nn.Module:
    """The network with the weights in `path`, which are trained where there are none."""
    torch.manual_seed(0)
    network = resnet18()
    if path.exists():
        network.load_state_dict(load_file(path))
    else:
        x, y = subjects.cifar(root, "train", 12_000)
        recipe = Recipe(method="fast-at", eps=EPS, epochs=3, flip=True, bf16=True, lr=0.1)
        held = (x[:50], y[:50])
        train(network, x[50:], y[50:], held, recipe, each=lambda epoch: print(epoch, flush=True))
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return network.eval().requires_grad_(False)


def measure(network: nn.Module, x: Tensor, y: Tensor, **how: Any) -> tuple[Evaluation, float]:
    began = time.process_time()
    result = evaluate(
        network, x, y, SUITES["standard"].build("linf"), eps=EPS, norm="linf", search=Search(**how)
    )
    return result, time.process_time() - began


def main(root: Path, path: Path, n: int = 100, peer: int = 0) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    network = weights(root, path)
    x, y = subjects.points(root, "cifar10", n)
    print(f"ResNet-18, {n} points, L∞ {EPS:.4f}, standard")
    found: dict[str, tuple[Evaluation, float]] = {}
    for name, how in WAYS.items():
        found[name] = measure(network, x, y, **how)
        result, seconds = found[name]
        reference, whole = found["float32"]
        passes, other = result.passes, int((result.robust != reference.robust).sum())
        lost = sum(outcome.unconfirmed for outcome in result.outcomes)
        print(
            f"  {name:<24} {int(result.correct.sum())} right, {int(result.robust.sum())} stand | "
            f"{passes.forward} + {passes.backward} passes | {seconds:7.1f} s, {whole / seconds:.2f} × | "
            f"{other} other verdicts, {lost} not confirmed",
            flush=True,
        )
    if peer:
        _, seconds = measure(network, x[:peer], y[:peer], **WAYS["bfloat16, channels last"])
        print(f"  first {peer} points, ours in bfloat16: {seconds:.1f} s")
        print(robustness.theirs(network, x[:peer], y[:peer], EPS, robustness.autoattack))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python tests/bench/resnet.py ROOT WEIGHTS [N] [PEER]")
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:5]))
