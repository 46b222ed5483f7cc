"""The picture half of CLIP, read from OpenAI's files or from those of transformers.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
https://arxiv.org/abs/2103.00020, section 2.4; a vision transformer with the names of OpenAI's code.
"""

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from assaymark.provenance.image_tensors import Images

_HEAD = 64  # channels of each head of attention
_PARTS = {  # of a layer: transformers' name to OpenAI's
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_AROUND = {  # the layers
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        out: Tensor = x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))
        return out


class _Layers(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(_Layer(width, heads) for _ in range(layers)))


class ClipVision(nn.Module):
    """Normalised images of side x side pixels to CLIP's embedding; the sizes are those of ViT-L/14."""

    def __init__(
        self,
        *,
        width: int = 1024,
        layers: int = 24,
        patch: int = 14,
        side: int = 224,
        out: int = 768,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((side // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _Layers(width, layers, width // _HEAD)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, out))

    def forward(self, x: Images) -> Float[Tensor, "batch out"]:
        patches = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        y = self.ln_pre(torch.cat([first, patches], 1) + self.positional_embedding)
        out: Tensor = self.ln_post(self.transformer.resblocks(y)[:, 0]) @ self.proj
        return out


def vision_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the picture half by OpenAI's names, in single precision; empty where there is none."""
    if any(name.startswith("vision_model.") for name in weights):
        return _of_transformers(weights)
    visual = {name: value for name, value in weights.items() if name.startswith("visual.")}
    return {name.removeprefix("visual."): value.float() for name, value in visual.items()}


def _of_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, value in weights.items():
        inner = name.removeprefix("vision_model.")
        if name == "visual_projection.weight":
            found["proj"] = value.float().T
        elif inner in _AROUND:
            found[_AROUND[inner]] = value.float()
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", inner):
            layer, part, kind = match.groups()
            place = f"transformer.resblocks.{layer}"
            if part in _PARTS:
                found[f"{place}.{_PARTS[part]}.{kind}"] = value.float()
            elif part == "self_attn.q_proj":
                stacked = _stacked(weights, name)
                if stacked is not None:
                    found[f"{place}.attn.in_proj_{kind}"] = stacked
    return found


def _stacked(weights: Mapping[str, Tensor], query: str) -> Tensor | None:
    """Queries, keys and values in one tensor."""
    names = [query.replace("q_proj", f"{part}_proj") for part in "qkv"]
    if not all(name in weights for name in names):
        return None
    return torch.cat([weights[name].float() for name in names])


def central(x: Images, side: int) -> Images:
    """The middle side x side pixels, with black beyond the border, as torchvision's CenterCrop."""
    height, width = x.shape[-2:]
    missing = [max(side - length, 0) for length in (width, height)]
    before = [length // 2 for length in missing]
    x = functional.pad(x, (before[0], missing[0] - before[0], before[1], missing[1] - before[1]))
    top, left = (round((length - side) / 2) for length in x.shape[-2:])
    return x[..., top : top + side, left : left + side]
