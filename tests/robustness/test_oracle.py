"""How models are asked: in parts, with weights cast once, and with the same answers as without."""

import copy

import pytest
import torch
from networks import SHAPE, network
from torch import Tensor, nn

from assaymark.robustness.oracle import Oracle, ascent, logits_of


class Sizes(nn.Module):
    """Remembers how many images came together, and takes so many at most."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.most, self.seen = most, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return x.flatten(1)[:, :2]


def test_a_cpu_is_asked_64_images_at_a_time_and_a_server_as_many_as_it_takes() -> None:
    x, model, seen = torch.rand(150, 1, 2, 2), Sizes(), list[int]()

    def server(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.flatten(1)[:, :2]

    expected = x.flatten(1)[:, :2]
    assert torch.equal(logits_of(Oracle(model), x), expected)
    assert torch.equal(logits_of(Oracle(server), x), expected)
    logits_of(Oracle(model, batch_size=40), x)
    assert model.seen == [64, 64, 22, 40, 40, 40, 30]
    assert seen == [150]


def test_parts_that_do_not_fit_are_halved() -> None:
    x, model = torch.rand(100, 1, 2, 2), Sizes(most=20)
    assert torch.equal(logits_of(Oracle(model), x), x.flatten(1)[:, :2])
    assert model.seen == [64, 32, 16, 16, 16, 16, 16, 16, 4]


@pytest.mark.parametrize("kind", ["conv", "residual", "curves"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_weights_cast_once_give_the_answers_of_autocast(kind: str, channels_last: bool) -> None:
    model, x = network(kind), torch.rand(9, *SHAPE)
    before = copy.deepcopy(model.state_dict())
    oracle = Oracle(model, precision=torch.bfloat16, channels_last=channels_last)
    logits, _, gradient = ascent(oracle, x, lambda logits, rows: logits.logsumexp(1))
    ours = x.contiguous(memory_format=torch.channels_last) if channels_last else x.clone()
    ours.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        plain = model(ours).float()
    (slope,) = torch.autograd.grad(plain.logsumexp(1).sum(), ours)
    assert torch.equal(logits, plain)
    assert torch.equal(gradient, slope)
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert {value.dtype for value in after.values()} == {value.dtype for value in before.values()}


def test_a_model_that_cannot_be_copied_is_asked_as_it_is() -> None:
    class Single(nn.Sequential):
        def __deepcopy__(self, memo: object) -> "Single":
            raise TypeError("there is one of me")

    model, x = Single(nn.Flatten(), nn.Linear(4, 3)).requires_grad_(False), torch.rand(2, 1, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(x).float()
    assert torch.equal(Oracle(model, precision=torch.bfloat16)(x), expected)
