"""The encoder of TruFor: two MiT-B2 transformers, one for the picture and one for its noise, that mend
and join each other after every stage.

SegFormer (https://arxiv.org/abs/2105.15203, section 3.1) and CMX (https://arxiv.org/abs/2203.04838,
sections III-B and III-C), with the names under which the weights are published.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from assaymark.provenance.image_tensors import Features

WIDTHS = (64, 128, 320, 512)
HEADS = (1, 2, 5, 8)
DEPTHS = (3, 4, 6, 3)
REDUCTIONS = (8, 4, 2, 1)  # keys and values are made of cells this many times larger

Tokens = Float[Tensor, "batch tokens channels"]
Size = tuple[int, int]


def tokens(x: Features) -> Tokens:
    return x.flatten(2).transpose(1, 2)


def grid(x: Tokens, size: Size) -> Features:
    return x.transpose(1, 2).reshape(len(x), -1, *size)


class PatchEmbedding(nn.Module):
    """Overlapping patches: a convolution, and a norm over its channels."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Features) -> tuple[Tokens, Size]:
        y = self.proj(x)
        return self.norm(tokens(y)), (y.shape[2], y.shape[3])


class Attention(nn.Module):
    """Self-attention whose keys and values come from a smaller grid."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.reduction = reduction
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x: Tokens, size: Size) -> Tokens:
        seen = x if self.reduction == 1 else self.norm(tokens(self.sr(grid(x, size))))
        keys, values = (_by_head(part, self.heads) for part in self.kv(seen).chunk(2, -1))
        y = functional.scaled_dot_product_attention(_by_head(self.q(x), self.heads), keys, values)
        out: Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return out


def _by_head(x: Tokens, heads: int) -> Float[Tensor, "batch heads tokens part"]:
    parts: Tensor = x.unflatten(-1, (heads, -1))
    return parts.transpose(1, 2)


class _Depthwise(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)


class MixedFeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.dwconv = _Depthwise(4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tokens, size: Size) -> Tokens:
        y = tokens(self.dwconv.dwconv(grid(self.fc1(x), size)))
        out: Tensor = self.fc2(functional.gelu(y))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MixedFeedForward(width)

    def forward(self, x: Tokens, size: Size) -> Tokens:
        x = x + self.attn(self.norm1(x), size)
        out: Tensor = x + self.mlp(self.norm2(x), size)
        return out


class _ChannelWeights(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(4 * width, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, 2 * width),
            nn.Sigmoid(),
        )

    def forward(self, both: Features) -> tuple[Tensor, Tensor]:
        first, second = self.mlp(torch.cat([both.mean((2, 3)), both.amax((2, 3))], 1)).chunk(2, 1)
        return first[:, :, None, None], second[:, :, None, None]


class _PlaceWeights(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(2 * width, width, 1), nn.ReLU(), nn.Conv2d(width, 2, 1), nn.Sigmoid()
        )

    def forward(self, both: Features) -> tuple[Tensor, Tensor]:
        first, second = self.mlp(both).chunk(2, 1)
        return first, second


class Rectification(nn.Module):
    """Each branch is given half of what the other's channels and places weigh (CMX, section III-B)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channel_weights = _ChannelWeights(width)
        self.spatial_weights = _PlaceWeights(width)

    def forward(self, picture: Features, noise: Features) -> tuple[Features, Features]:
        both = torch.cat([picture, noise], 1)
        of_picture, of_noise = (
            channel + place
            for channel, place in zip(
                self.channel_weights(both), self.spatial_weights(both), strict=True
            )
        )
        return picture + 0.5 * of_noise * noise, noise + 0.5 * of_picture * picture


class _CrossAttention(nn.Module):
    """Each branch's queries meet the channel-by-channel context of the other: linear in tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.kv1 = nn.Linear(width, 2 * width, bias=False)
        self.kv2 = nn.Linear(width, 2 * width, bias=False)

    def forward(self, first: Tokens, second: Tokens) -> tuple[Tokens, Tokens]:
        return (
            self._through(first, self._context(self.kv2(second))),
            self._through(second, self._context(self.kv1(first))),
        )

    def _context(self, both: Tokens) -> Tensor:
        keys, values = (_by_head(part, self.heads) for part in both.chunk(2, -1))
        scale: float = keys.shape[-1] ** -0.5
        return (keys.transpose(-2, -1) @ values * scale).softmax(-2)

    def _through(self, x: Tokens, context: Tensor) -> Tokens:
        return (_by_head(x, self.heads) @ context).transpose(1, 2).flatten(2)


class _CrossPath(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.channel_proj1 = nn.Linear(width, 2 * width)
        self.channel_proj2 = nn.Linear(width, 2 * width)
        self.cross_attn = _CrossAttention(width, heads)
        self.end_proj1 = nn.Linear(2 * width, width)
        self.end_proj2 = nn.Linear(2 * width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, first: Tokens, second: Tokens) -> tuple[Tokens, Tokens]:
        y1, u1 = self.channel_proj1(first).relu().chunk(2, -1)
        y2, u2 = self.channel_proj2(second).relu().chunk(2, -1)
        v1, v2 = self.cross_attn(u1, u2)
        return (
            self.norm1(first + self.end_proj1(torch.cat([y1, v1], -1))),
            self.norm2(second + self.end_proj2(torch.cat([y2, v2], -1))),
        )


class _ChannelEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Conv2d(2 * width, width, 1, bias=False)
        self.channel_embed = nn.Sequential(
            nn.Conv2d(2 * width, width, 1),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
        )
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Features) -> Features:
        out: Tensor = self.norm(self.residual(x) + self.channel_embed(x))
        return out


class Fusion(nn.Module):
    """Both branches as one (CMX, section III-C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross = _CrossPath(width, heads)
        self.channel_emb = _ChannelEmbedding(width)

    def forward(self, picture: Features, noise: Features) -> Features:
        size = (picture.shape[2], picture.shape[3])
        both = torch.cat(self.cross(tokens(picture), tokens(noise)), -1)
        out: Tensor = self.channel_emb(grid(both, size))
        return out


class TwoBranches(nn.Module):
    """Picture and noise (3 channels each) to four joint maps, at 1/4, 1/8, 1/16 and 1/32 of their size."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for i, (width, heads, depth, reduction) in enumerate(
            zip(WIDTHS, HEADS, DEPTHS, REDUCTIONS, strict=True), 1
        ):
            kernel, stride = (7, 4) if i == 1 else (3, 2)
            for side in ("", "extra_"):
                patches = PatchEmbedding(inputs, width, kernel, stride)
                blocks = nn.ModuleList(Block(width, heads, reduction) for _ in range(depth))
                self.add_module(f"{side}patch_embed{i}", patches)
                self.add_module(f"{side}block{i}", blocks)
                self.add_module(f"{side}norm{i}", nn.LayerNorm(width, eps=1e-6))
            inputs = width
        self.FRMs = nn.ModuleList(map(Rectification, WIDTHS))
        self.FFMs = nn.ModuleList(map(Fusion, WIDTHS, HEADS))

    def forward(self, picture: Features, noise: Features) -> list[Features]:
        joint = []
        for i, (rectify, fuse) in enumerate(zip(self.FRMs, self.FFMs, strict=True), 1):
            picture, noise = rectify(self._stage("", i, picture), self._stage("extra_", i, noise))
            joint.append(fuse(picture, noise))
        return joint

    def _stage(self, side: str, i: int, x: Features) -> Features:
        y, size = self.get_submodule(f"{side}patch_embed{i}")(x)
        for block in self.get_submodule(f"{side}block{i}").children():
            y = block(y, size)
        return grid(self.get_submodule(f"{side}norm{i}")(y), size)
