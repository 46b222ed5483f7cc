"""A linear classifier, whose distance to the nearest other class is known in closed form.

For logits W x + b the change of z_t - z_y along delta is (w_t - w_y) · delta, so class t is reached
at distance (z_y - z_t) / ||w_t - w_y||_q with q the dual norm: 1 for L-infinity, 2 for L2, infinity
for L1.
"""

import torch
from torch import Tensor, nn

SHAPE = (2, 3, 3)
CLASSES = 4


def model(classes: int = CLASSES, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.tensor(SHAPE).prod())
    linear = nn.Linear(size, classes)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(classes, size, generator=generator))
        # undecided at mid-grey, so that margins are far smaller than the pixel range
        linear.bias.copy_(-linear.weight.sum(1) / 2)
    return nn.Sequential(nn.Flatten(), linear).eval()


def points(n: int = 24, classes: int = CLASSES, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Points well inside the pixel range, with the class the model gives them."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.45 + 0.1 * torch.rand(n, *SHAPE, generator=generator)
    with torch.no_grad():
        return x, model(classes)(x).argmax(1)


def distances(x: Tensor, y: Tensor, norm: str, classes: int = CLASSES) -> Tensor:
    """Exact distance of every point to every class; infinite to its own."""
    linear = model(classes)[1]  # type: ignore[index]
    logits = linear(x.flatten(1)).detach()
    weights = linear.weight.detach()
    gap = logits.gather(1, y[:, None]) - logits
    difference = weights[None] - weights[y][:, None]
    order = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}[norm]  # of the dual norm
    length = torch.linalg.vector_norm(difference, order, dim=2)
    result: Tensor = gap / length.clamp_min(1e-12)
    result[torch.arange(len(y)), y] = torch.inf
    return result
