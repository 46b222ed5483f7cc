"""Networks with weights that are drawn, and published ones written out slowly, operation by operation."""

from collections.abc import Mapping

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

State = Mapping[str, Tensor]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def drawn(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that keep numbers near one, and statistics of norms that are not 0 and 1."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=draw))
        elif value.is_floating_point():
            width = max(value[0].numel(), 1) if value.ndim > 1 else 25
            value.copy_(torch.randn(value.shape, generator=draw) / width**0.5)
    return network.eval().requires_grad_(False)


def pixels(height: int, width: int, seed: int = 0) -> NDArray[numpy.uint8]:
    return numpy.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=numpy.uint8)


def to_tensor(levels: NDArray[numpy.uint8], by: tuple[tuple[float, ...], ...] = IMAGENET) -> Tensor:
    """torchvision's ToTensor and Normalize, pixel by pixel."""
    mean, deviation = by
    out = numpy.zeros((1, 3, *levels.shape[:2]), numpy.float32)
    for row in range(levels.shape[0]):
        for column in range(levels.shape[1]):
            for c in range(3):
                out[0, c, row, column] = (levels[row, column, c] / 255 - mean[c]) / deviation[c]
    return torch.from_numpy(out)


def norm(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    shape = (1, -1) + (1,) * (x.ndim - 2)
    y = (x - mean.view(shape)) / (variance.view(shape) + eps).sqrt()
    return y * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    y = x @ state[f"{name}.weight"].T
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def resnet(state: State, x: Tensor, blocks: tuple[int, ...], stem: int, head: str) -> Tensor:
    """He et al. 2015, with the stride on the 3 x 3 convolution, by torchvision's names."""
    x = functional.conv2d(x, state["conv1.weight"], stride=2, padding=stem // 2)
    x = functional.max_pool2d(norm(state, "bn1", x).clamp(min=0), 3, 2, 1)
    for stage, count in enumerate(blocks, 1):
        for i in range(count):
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = norm(state, f"{name}.bn1", functional.conv2d(x, state[f"{name}.conv1.weight"]))
            y = functional.conv2d(
                y.clamp(min=0), state[f"{name}.conv2.weight"], stride=stride, padding=1
            )
            y = norm(state, f"{name}.bn2", y).clamp(min=0)
            y = norm(state, f"{name}.bn3", functional.conv2d(y, state[f"{name}.conv3.weight"]))
            if i == 0:
                short = functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(state, f"{name}.downsample.1", short)
            x = (x + y).clamp(min=0)
    return linear(state, head, functional.adaptive_avg_pool2d(x, 1).flatten(1))


def halved_and_doubled(x: Tensor) -> Tensor:
    """As NPR's code takes every second pixel and repeats it."""
    small = functional.interpolate(x, scale_factor=0.5, mode="nearest", recompute_scale_factor=True)
    return functional.interpolate(
        small, scale_factor=2, mode="nearest", recompute_scale_factor=True
    )


def tiny_ladeda(state: State, x: Tensor) -> Tensor:
    x = functional.conv2d(x, state["conv1.weight"])
    x = norm(state, "bn1", functional.conv2d(x, state["conv2.weight"])).clamp(min=0)
    x = functional.conv2d(x, state["layer1.0.conv1.weight"])
    x = norm(state, "layer1.0.bn1", x).clamp(min=0)
    x = functional.conv2d(x, state["layer1.0.conv2.weight"], stride=2)
    x = norm(state, "layer1.0.bn2", x).clamp(min=0)
    return linear(state, "fc", functional.avg_pool2d(x, x.shape[2]).flatten(1))


def centre_crop(levels: NDArray[numpy.uint8], side: int) -> NDArray[numpy.uint8]:
    """torchvision.transforms.functional.center_crop of a PIL picture, black beyond its border."""
    height, width = levels.shape[:2]
    if width < side or height < side:
        left, above = max((side - width) // 2, 0), max((side - height) // 2, 0)
        larger = numpy.zeros((max(height, side), max(width, side), 3), numpy.uint8)
        larger[above : above + height, left : left + width] = levels
        levels = larger
    top = round((levels.shape[0] - side) / 2.0)
    left = round((levels.shape[1] - side) / 2.0)
    return levels[top : top + side, left : left + side]


def aasist(state: State, samples: Tensor, keep: tuple[float, float, float]) -> Tensor:
    """AASIST (Jung et al. 2021) for one waveform; graphs node by node. Answers generated, genuine."""
    x = functional.conv1d(samples.view(1, 1, -1), mel_filters())
    x = functional.max_pool2d(x.abs()[:, None], (3, 3))
    x = functional.selu(norm(state, "first_bn", x))
    for i in range(6):
        x = _residual(state, f"encoder.{i}.0", x)
    tones = x.abs().max(3).values[0].T + state["pos_S"][0]
    times = x.abs().max(2).values[0].T
    tones = _pool(state, "pool_S", _attention(state, "GAT_layer_S", tones), keep[0])
    times = _pool(state, "pool_T", _attention(state, "GAT_layer_T", times), keep[1])
    ways = [_way(state, way, times, tones, keep[2]) for way in "12"]
    times, tones, master = (torch.maximum(a, b) for a, b in zip(*ways, strict=True))
    hidden = [times.abs().max(0).values, times.mean(0), tones.abs().max(0).values, tones.mean(0)]
    return linear(state, "out_layer", torch.cat([*hidden, master]))


def mel_filters() -> Tensor:
    """70 sinc filters of 129 taps between frequencies that are evenly spaced in mel."""
    frequencies = 8000 * numpy.linspace(0, 1, 257)
    mel = 2595 * numpy.log10(1 + frequencies / 700)
    edges = 700 * (10 ** (numpy.linspace(mel.min(), mel.max(), 71) / 2595) - 1)
    filters = torch.zeros(70, 1, 129)
    for i in range(70):
        for k in range(129):
            t = k - 64
            low, high = (
                2
                * edge
                / 16000
                * (
                    1
                    if t == 0 or edge == 0
                    else numpy.sin(numpy.pi * 2 * edge * t / 16000)
                    / (numpy.pi * 2 * edge * t / 16000)
                )
                for edge in edges[i : i + 2]
            )
            filters[i, 0, k] = (0.54 - 0.46 * numpy.cos(2 * numpy.pi * k / 128)) * (high - low)
    return filters


def _residual(state: State, name: str, x: Tensor) -> Tensor:
    def convolved(part: str, x: Tensor, padding: tuple[int, int]) -> Tensor:
        at = f"{name}.{part}"
        return functional.conv2d(x, state[f"{at}.weight"], state[f"{at}.bias"], padding=padding)

    y = functional.selu(norm(state, f"{name}.bn2", convolved("conv1", x, (1, 1))))
    y = convolved("conv2", y, (0, 1))
    if f"{name}.conv_downsample.weight" in state:
        x = convolved("conv_downsample", x, (0, 1))
    return functional.max_pool2d(y + x, (1, 3))


def _attention(state: State, name: str, nodes: Tensor) -> Tensor:
    scores = torch.zeros(len(nodes), len(nodes))
    for i in range(len(nodes)):
        for j in range(len(nodes)):
            projected = linear(state, f"{name}.att_proj", nodes[i] * nodes[j]).tanh()
            scores[i, j] = (projected @ state[f"{name}.att_weight"])[0] / 2.0
    return _mixed(state, name, nodes, scores)


def _mixed(state: State, name: str, nodes: Tensor, scores: Tensor) -> Tensor:
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)  # what each node sees sums to one
    seen = linear(state, f"{name}.proj_with_att", weights @ nodes)
    return functional.selu(
        norm(state, f"{name}.bn", seen + linear(state, f"{name}.proj_without_att", nodes))
    )


def _way(state: State, way: str, times: Tensor, tones: Tensor, keep: float) -> list[Tensor]:
    first, second = f"HtrgGAT_layer_ST{way}1", f"HtrgGAT_layer_ST{way}2"
    times, tones, master = _joint(state, first, times, tones, state[f"master{way}"][0, 0])
    times = _pool(state, f"pool_hT{way}", times, keep)
    tones = _pool(state, f"pool_hS{way}", tones, keep)
    more = _joint(state, second, times, tones, master)
    return [times + more[0], tones + more[1], master + more[2]]


def _joint(
    state: State, name: str, times: Tensor, tones: Tensor, master: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    count = len(times)
    nodes = torch.cat(
        [linear(state, f"{name}.proj_type1", times), linear(state, f"{name}.proj_type2", tones)]
    )
    scores = torch.zeros(len(nodes), len(nodes))
    for i in range(len(nodes)):
        for j in range(len(nodes)):
            kind = {(True, True): "11", (False, False): "22"}.get((i < count, j < count), "12")
            projected = linear(state, f"{name}.att_proj", nodes[i] * nodes[j]).tanh()
            scores[i, j] = (projected @ state[f"{name}.att_weight{kind}"])[0] / 100.0
    to_master = torch.stack(
        [
            (
                linear(state, f"{name}.att_projM", node * master).tanh()
                @ state[f"{name}.att_weightM"]
            )[0]
            for node in nodes
        ]
    )
    weights = (to_master / 100.0).exp() / (to_master / 100.0).exp().sum()
    master = linear(state, f"{name}.proj_with_attM", weights @ nodes) + linear(
        state, f"{name}.proj_without_attM", master
    )
    mixed = _mixed(state, name, nodes, scores)
    return mixed[:count], mixed[count:], master


def _pool(state: State, name: str, nodes: Tensor, keep: float) -> Tensor:
    scores = 1 / (1 + (-linear(state, f"{name}.proj", nodes)[:, 0]).exp())
    best = sorted(range(len(nodes)), key=lambda i: -float(scores[i]))[: int(len(nodes) * keep)]
    return torch.stack([nodes[i] * scores[i] for i in best])
