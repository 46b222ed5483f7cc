"""NPR: differences of neighbouring pixels, which up-sampling leaves behind, and the head of a ResNet-50.

Tan et al., "Rethinking the Up-Sampling Operations in CNN-based Generative Network for Generalizable
Deepfake Detection", CVPR 2024, https://arxiv.org/abs/2312.10461, section 3.2, in the form of the
published code: the residual of 2x2 blocks from their first pixel, two thirds of it, two stages.
"""

from pathlib import Path

from torch import nn

from assaymark.provenance.image_tensors import IMAGENET, Images, LogOdds, at_least, normalised
from assaymark.provenance.resnet_blocks import ResNet
from assaymark.provenance.weight_files import fill, read_weights

STAGES = ((64, 3), (128, 4))


class Npr(nn.Module):
    """Images in [0, 1], at least 8 x 8, to one logit each; positive: generated.

    Published for pictures as they are, or stretched to 256 x 256 to be batched; here as they are. A last
    odd row or column is left out, as blocks need even sizes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = ResNet(STAGES, stem=3, head="fc1")

    def forward(self, x: Images) -> LogOdds:
        at_least(x, 8, "NPR")
        return self.network.features(neighbours(normalised(x, IMAGENET)) * (2 / 3))[:, 0]


def neighbours(x: Images) -> Images:
    """What is left of each 2 x 2 block when its first pixel is taken from all four."""
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    first = x[..., ::2, ::2]
    return x - first.repeat_interleave(2, -2).repeat_interleave(2, -1)


def load_npr(path: Path) -> nn.Module:
    """NPR.pth as published (1,437,761 parameters); raises InputError for any other file."""
    detector = Npr()
    fill(
        detector.network, read_weights(path), name=path.name, kind="weights of NPR (ResNet-50 stub)"
    )
    return detector.eval().requires_grad_(False)
