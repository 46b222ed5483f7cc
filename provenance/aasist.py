"""AASIST and AASIST-L: samples of speech, through convolutions and graphs of frequencies and times.

Jung et al., "AASIST: audio anti-spoofing using integrated spectro-temporal graph attention networks",
ICASSP 2022, https://arxiv.org/abs/2110.01200, sections 2 and 3, with the names under which weights are
published. The published first layer of each residual block but the first computes a norm that is not
used; it is loaded and not computed here.
"""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from assaymark.provenance.weight_files import fill, read_weights
from assaymark.reports.errors import InputError

RATE = 16_000  # samples a second
LENGTH = 64_600  # samples, 4.04 s
_FILTERS = 70
_TAPS = 129
_PIECE = 500  # times after pooling

Waveforms = Float[Tensor, "batch samples"]  # in [-1, 1], 16 kHz
Nodes = Float[Tensor, "batch nodes channels"]


class Kind(NamedTuple):
    """What differs between the two: channels of the last four blocks, of graph nodes, kept shares."""

    channels: int
    nodes: int
    keep: tuple[float, float, float]


KINDS = {"AASIST": Kind(64, 64, (0.5, 0.7, 0.5)), "AASIST-L": Kind(24, 24, (0.4, 0.5, 0.7))}
_GRAPH = 32
_PLAIN, _JOINT = 2.0, 100.0  # temperatures of attention


class Aasist(nn.Module):
    """Waveforms of at least 64,600 samples, of which the first 64,600 are heard, to one logit each.

    Positive: generated; it is the first output less the second, which is published as the score of
    genuine speech.
    """

    filters: Tensor

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.register_buffer("filters", band_passes(), persistent=False)
        self.first_bn = nn.BatchNorm2d(1)
        widths = (1, 32, 32, *(kind.channels,) * 4)
        self.encoder = nn.Sequential(
            *(nn.Sequential(_Residual(*pair)) for pair in pairwise(widths))
        )
        for layer in self.encoder.modules():
            if isinstance(layer, nn.Conv2d):  # twice as fast
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        self.pos_S = nn.Parameter(torch.zeros(1, _FILTERS // 3, kind.channels))
        self.master1 = nn.Parameter(torch.zeros(1, 1, kind.nodes))
        self.master2 = nn.Parameter(torch.zeros(1, 1, kind.nodes))
        self.GAT_layer_S = _GraphAttention(kind.channels, kind.nodes)
        self.GAT_layer_T = _GraphAttention(kind.channels, kind.nodes)
        self.pool_S = _Pool(kind.nodes, kind.keep[0])
        self.pool_T = _Pool(kind.nodes, kind.keep[1])
        for way in (1, 2):
            self.add_module(f"HtrgGAT_layer_ST{way}1", _JointAttention(kind.nodes))
            self.add_module(f"HtrgGAT_layer_ST{way}2", _JointAttention(_GRAPH))
            self.add_module(f"pool_hS{way}", _Pool(_GRAPH, kind.keep[2]))
            self.add_module(f"pool_hT{way}", _Pool(_GRAPH, kind.keep[2]))
        self.out_layer = nn.Linear(5 * _GRAPH, 2)

    def forward(self, x: Waveforms) -> Float[Tensor, " batch"]:
        genuine = self.outputs(x)
        return genuine[:, 0] - genuine[:, 1]

    def outputs(self, x: Waveforms) -> Float[Tensor, "batch 2"]:
        """The published outputs: generated, genuine."""
        if x.shape[-1] < LENGTH:
            raise InputError(f"AASIST hears {LENGTH:,} samples, got {x.shape[-1]:,}: repeat them")
        heard = functional.conv1d(x[:, None, :LENGTH], self.filters)
        e = self.encoder(functional.selu(self.first_bn(_loudest(heard)))).abs()
        tones = self.pool_S(self.GAT_layer_S(e.amax(3).transpose(1, 2) + self.pos_S))
        times = self.pool_T(self.GAT_layer_T(e.amax(2).transpose(1, 2)))
        ways = [self._way(way, times, tones) for way in (1, 2)]
        times, tones, master = (torch.maximum(*pair) for pair in zip(*ways, strict=True))
        parts = [
            times.abs().amax(1),
            times.mean(1),
            tones.abs().amax(1),
            tones.mean(1),
            master[:, 0],
        ]
        out: Tensor = self.out_layer(torch.cat(parts, 1))
        return out

    def _way(self, way: int, times: Nodes, tones: Nodes) -> tuple[Nodes, Nodes, Nodes]:
        """Two joint attentions, the second added to what it was given."""
        part = self.get_submodule
        master = self.get_parameter(f"master{way}").expand(len(times), -1, -1)
        times, tones, master = part(f"HtrgGAT_layer_ST{way}1")(times, tones, master)
        times, tones = part(f"pool_hT{way}")(times), part(f"pool_hS{way}")(tones)
        more = part(f"HtrgGAT_layer_ST{way}2")(times, tones, master)
        return times + more[0], tones + more[1], master + more[2]


def _loudest(heard: Float[Tensor, "batch filters samples"]) -> Float[Tensor, "batch 1 bands times"]:
    """The largest magnitude of each 3 x 3 cell."""
    return functional.max_pool2d(heard.abs()[:, None], 3)


class _Residual(nn.Module):
    """Two convolutions over 2 bands x 3 times, a short cut, and the largest of three times."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        if inputs > 1:
            self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, (2, 3), padding=(1, 1))
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, (2, 3), padding=(0, 1))
        if inputs != outputs:
            self.conv_downsample = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1))
        self.widened = inputs != outputs

    def forward(self, x: Float[Tensor, "batch channels bands times"]) -> Tensor:
        """Piece by piece, so that what lies between the layers stays in the cache: four times as fast."""
        size = x.shape[3] // 3
        pieces = []
        for start in range(0, size, _PIECE):
            stop = min(start + _PIECE, size)
            # one more cell on both sides: the convolutions together reach two times to each
            first, last = start > 0, stop < size
            end = 3 * (stop + 1) if last else x.shape[3]
            y = self.whole(x[..., 3 * (start - first) : end])
            pieces.append(y[..., int(first) : y.shape[3] - last])
        return torch.cat(pieces, 3)

    def whole(self, x: Float[Tensor, "batch channels bands times"]) -> Tensor:
        y = self.conv2(functional.selu(self.bn2(self.conv1(x))))
        y = y + (self.conv_downsample(x) if self.widened else x)
        y = y[..., : y.shape[3] // 3 * 3]
        return torch.maximum(torch.maximum(y[..., ::3], y[..., 1::3]), y[..., 2::3])


class _GraphAttention(nn.Module):
    """Attention between all nodes by their products (section 2.2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.att_proj = nn.Linear(inputs, outputs)
        self.att_weight = nn.Parameter(torch.zeros(outputs, 1))
        self.proj_with_att = nn.Linear(inputs, outputs)
        self.proj_without_att = nn.Linear(inputs, outputs)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Nodes) -> Nodes:
        weights = (self.att_proj(products(x)).tanh() @ self.att_weight)[..., 0] / _PLAIN
        seen = self.proj_with_att(weights.softmax(-1) @ x)
        return _activated(self.bn, seen + self.proj_without_att(x))


class _JointAttention(nn.Module):
    """The same over times and tones, a weight for each pair of kinds, and a master node (section 3.1)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.proj_type1 = nn.Linear(inputs, inputs)
        self.proj_type2 = nn.Linear(inputs, inputs)
        self.att_proj = nn.Linear(inputs, _GRAPH)
        self.att_projM = nn.Linear(inputs, _GRAPH)
        for pair in ("11", "22", "12", "M"):
            self.register_parameter(f"att_weight{pair}", nn.Parameter(torch.zeros(_GRAPH, 1)))
        self.proj_with_att = nn.Linear(inputs, _GRAPH)
        self.proj_without_att = nn.Linear(inputs, _GRAPH)
        self.proj_with_attM = nn.Linear(inputs, _GRAPH)
        self.proj_without_attM = nn.Linear(inputs, _GRAPH)
        self.bn = nn.BatchNorm1d(_GRAPH)

    def forward(self, times: Nodes, tones: Nodes, master: Nodes) -> tuple[Nodes, Nodes, Nodes]:
        x = torch.cat([self.proj_type1(times), self.proj_type2(tones)], 1)
        first = times.shape[1]
        master = self._master(x, master)
        seen = self.proj_with_att(self._weights(x, first) @ x)
        y = _activated(self.bn, seen + self.proj_without_att(x))
        return y[:, :first], y[:, first:], master

    def _weights(self, x: Nodes, first: int) -> Float[Tensor, "batch nodes nodes"]:
        pairs = self.att_proj(products(x)).tanh()
        is_first = torch.arange(x.shape[1], device=x.device) < first
        both, neither = is_first[:, None] & is_first, ~is_first[:, None] & ~is_first
        scores = (pairs @ self.att_weight12)[..., 0]
        scores = torch.where(both, (pairs @ self.att_weight11)[..., 0], scores)
        scores = torch.where(neither, (pairs @ self.att_weight22)[..., 0], scores)
        return (scores / _JOINT).softmax(-1)

    def _master(self, x: Nodes, master: Nodes) -> Nodes:
        weights = ((self.att_projM(x * master).tanh() @ self.att_weightM) / _JOINT).softmax(-2)
        seen = self.proj_with_attM(weights.transpose(1, 2) @ x)
        out: Tensor = seen + self.proj_without_attM(master)
        return out


class _Pool(nn.Module):
    """The share of nodes with the largest score, each times its score, in falling order."""

    def __init__(self, channels: int, share: float) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 1)
        self.share = share

    def forward(self, x: Nodes) -> Nodes:
        scores: Tensor = self.proj(x).sigmoid()
        best = scores.topk(max(int(x.shape[1] * self.share), 1), dim=1).indices
        return (x * scores).gather(1, best.expand(-1, -1, x.shape[2]))


def products(x: Nodes) -> Float[Tensor, "batch nodes nodes channels"]:
    """Each node times each other."""
    return x[:, :, None] * x[:, None]


def _activated(norm: nn.BatchNorm1d, x: Nodes) -> Nodes:
    return functional.selu(norm(x.transpose(1, 2)).transpose(1, 2))


def band_passes() -> Float[Tensor, "filters 1 taps"]:
    """Ideal band passes between 71 frequencies on the mel scale, under a Hamming window."""
    highest = 2595 * numpy.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (numpy.linspace(0, highest, _FILTERS + 1) / 2595) - 1)
    places = numpy.arange(_TAPS) - _TAPS // 2
    low_passes = [2 * edge / RATE * numpy.sinc(2 * edge * places / RATE) for edge in edges]
    window = numpy.hamming(_TAPS).astype(numpy.float32)
    filters = window * numpy.diff(low_passes, axis=0).astype(numpy.float32)
    return torch.from_numpy(filters)[:, None]


def repeated(samples: Float[Tensor, " samples"]) -> Float[Tensor, " heard"]:
    """The first 64,600 samples; shorter speech is repeated until there are as many."""
    if not samples.numel():
        raise InputError("there are no samples: AASIST hears speech of some seconds")
    return samples.repeat(-(-LENGTH // samples.numel()))[:LENGTH]


def load_aasist(path: Path) -> nn.Module:
    """AASIST.pth or AASIST-L.pth as published; the width of its position vector says which it is."""
    weights = read_weights(path)
    width = weights["pos_S"].shape[-1] if "pos_S" in weights else None
    name = "AASIST-L" if width == KINDS["AASIST-L"].channels else "AASIST"
    detector = Aasist(KINDS[name])
    fill(detector, weights, name=path.name, kind=f"weights of {name}")
    return detector
