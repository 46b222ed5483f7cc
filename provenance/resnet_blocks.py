"""The bottleneck of ResNet-50 with the names of torchvision, in which checkpoints are published.

https://arxiv.org/abs/1512.03385, section 4.1; the stride lies on the 3x3 convolution (version 1.5).
"""

from jaxtyping import Float
from torch import Tensor, nn

from assaymark.provenance.image_tensors import Features

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a short cut; `width` channels inside, four times it outside."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, x: Features) -> Features:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        both: Tensor = y + (x if self.downsample is None else self.downsample(x))
        return both.relu()


def stack(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """One stage: its first block changes size and number of channels."""
    first = Bottleneck(inputs, width, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width) for _ in range(1, blocks)))


class ResNet(nn.Module):
    """Stages of bottlenecks, the mean over the picture, and one logit.

    stages: (width, blocks) of each; stem: kernel of the first convolution, whose stride is 2;
    head: name of the last layer.
    """

    def __init__(self, stages: tuple[tuple[int, int], ...], *, stem: int, head: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, stem, 2, padding=stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.stages = [f"layer{i}" for i in range(1, len(stages) + 1)]
        channels = 64
        for name, (width, blocks) in zip(self.stages, stages, strict=True):
            self.add_module(name, stack(channels, width, blocks, 1 if name == "layer1" else 2))
            channels = EXPANSION * width
        self.head = head
        self.add_module(head, nn.Linear(channels, 1))

    def features(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1"]:
        y = self.maxpool(self.bn1(self.conv1(x)).relu())
        for name in self.stages:
            y = self.get_submodule(name)(y)
        logit: Tensor = self.get_submodule(self.head)(y.mean((2, 3)))
        return logit
