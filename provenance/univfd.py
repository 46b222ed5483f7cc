"""UnivFD: one linear layer on the embedding of CLIP ViT-L/14.

Ojha et al., "Towards Universal Fake Image Detectors that Generalize Across Generative Models", CVPR 2023,
https://arxiv.org/abs/2302.10174, section 4.2; the middle 224 x 224 pixels, not resized (their validate.py).
"""

from pathlib import Path

import torch
from torch import nn

from assaymark.provenance.clip_vision import ClipVision, central, vision_weights
from assaymark.provenance.image_tensors import CLIP, Images, LogOdds, normalised
from assaymark.provenance.weight_files import fill, read_weights, unfilled
from assaymark.reports.errors import InputError

SIDE = 224
HEADS = ("fc_weights.pth", "fc_weights.safetensors")
BACKBONES = ("ViT-L-14.pt", "model.safetensors", "pytorch_model.bin")


class UnivFd(nn.Module):
    """Images in [0, 1] of any size, of which the middle is seen, to one logit each; positive: generated."""

    def __init__(self, clip: ClipVision | None = None) -> None:
        super().__init__()
        self.clip = clip or ClipVision()
        self.fc = nn.Linear(self.clip.proj.shape[1], 1)

    def forward(self, x: Images) -> LogOdds:
        seen = central(x, SIDE)
        logit: torch.Tensor = self.fc(self.clip(normalised(seen, CLIP)))
        return logit[:, 0]


def load_univfd(path: Path) -> nn.Module:
    """The folder that holds fc_weights.pth of UnivFD and CLIP ViT-L/14 (OpenAI's or of transformers)."""
    head, backbone = _one_of(path, HEADS), _one_of(path, BACKBONES)
    detector = unfilled(UnivFd)
    fill(detector.fc, read_weights(head), name=head.name, kind="the linear layer of UnivFD")
    weights = vision_weights(read_weights(backbone))
    fill(detector.clip, weights, name=backbone.name, kind="the picture half of CLIP ViT-L/14")
    return detector.eval().requires_grad_(False)


def _one_of(folder: Path, names: tuple[str, ...]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise InputError(
            f"UnivFD needs two files in one folder, and {folder} holds none of {', '.join(names)}: "
            "put fc_weights.pth and CLIP ViT-L/14 there and name the folder"
        )
    return found
