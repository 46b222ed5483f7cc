"""CNNDetection: a ResNet-50 trained on ProGAN with blur and JPEG.

Wang et al., "CNN-generated images are surprisingly easy to spot… for now", CVPR 2020,
https://arxiv.org/abs/1912.11035, section 4; pictures are neither resized nor cropped (their demo).
"""

from pathlib import Path

from torch import nn

from assaymark.provenance.image_tensors import IMAGENET, Images, LogOdds, at_least, normalised
from assaymark.provenance.resnet_blocks import ResNet
from assaymark.provenance.weight_files import fill, read_weights

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


class CnnDetection(nn.Module):
    """Images in [0, 1], at least 32 x 32, to one logit each; positive: generated."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ResNet(STAGES, stem=7, head="fc")

    def forward(self, x: Images) -> LogOdds:
        at_least(x, 32, "CNNDetection")
        return self.network.features(normalised(x, IMAGENET))[:, 0]


def load_cnn_detection(path: Path) -> nn.Module:
    """blur_jpg_prob0.1.pth or blur_jpg_prob0.5.pth as published, or its state dict alone."""
    detector = CnnDetection()
    kind = "weights of CNNDetection (ResNet-50 with one output)"
    fill(detector.network, read_weights(path), name=path.name, kind=kind)
    return detector.eval().requires_grad_(False)
