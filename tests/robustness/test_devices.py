"""What a device changes: nothing but the speed. Tests with the marker `gpu` need CUDA (`make gpu`)."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from assaymark.reports.errors import InputError
from assaymark.robustness import demo, formats
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.balls import BALLS, exactly, within
from assaymark.robustness.certify_check import check_certificate
from assaymark.robustness.evaluate import Evaluation, evaluate
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.oracle import Oracle, ascent, logits_of
from assaymark.robustness.proofs import Claim
from assaymark.robustness.shard import Search
from assaymark.robustness.streams import Streams
from assaymark.robustness.suites import SUITES
from assaymark.robustness.types import Norm

CASES = [(name, norm) for name, card in ATTACKS.items() for norm in card.norms]


def digits(n: int) -> tuple[nn.Module, Tensor, Tensor]:
    model = demo.network()
    formats.fill(model, formats.safetensors(demo.weights("digits")), "digits")
    x, y = demo.digits()
    return model.eval().requires_grad_(False), x[:n], y[:n]


def run(name: str, norm: Norm, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    streams = Streams.of(0, "devices", list(range(len(x))))
    eps = {"linf": 0.1, "l2": 0.5, "l1": 2.0, "l0": 4.0}[norm]
    moved = ATTACKS[name].run(
        Oracle(model), x, y, eps=eps, norm=norm, targeted=False, streams=streams
    )
    assert within(x, moved, eps, BALLS[norm]).all()
    return moved


class NoFloat64(TorchDispatchMode):
    """MPS has no float64: only `exactly`, which goes to the CPU for it, may widen a number."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and out.dtype is torch.float64:
            frame, callers = sys._getframe(), set()
            while frame.f_back is not None:
                frame = frame.f_back
                callers.add(frame.f_code.co_name)
            assert "exactly" in callers, "a tensor on the device is made float64"
        return out


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_no_attack_needs_float64_on_the_device(name: str, norm: Norm) -> None:
    model, x, y = digits(1)
    attack: Any = ATTACKS[name].run
    streams = Streams.of(0, "devices", [0])
    known = inspect.signature(attack).parameters
    few: dict[str, Any] = {
        key: value for key, value in {"steps": 2, "queries": 20}.items() if key in known
    }
    with NoFloat64():
        partial(attack, **few)(
            Oracle(model), x, y, eps=1.0, norm=norm, targeted=False, streams=streams
        )


def test_the_guard_sees_float64() -> None:
    with NoFloat64(), pytest.raises(AssertionError, match="float64"):
        torch.zeros(1).double()
    with NoFloat64():
        assert exactly(torch.zeros(1)).dtype is torch.float64


def test_a_certificate_is_not_computed_in_less_than_float64() -> None:
    model, x, y = digits(2)
    with pytest.raises(InputError, match="--device cpu"):
        check_certificate(
            "c",
            Loaded(name="digits", module=model, sha256=None, classes=10),
            ImageData(name="digits", images=x, labels=y, classes=None),
            Claim(norm="linf", eps=0.01, methods=("ibp",)),
            device="mps",
        )


@pytest.fixture
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def both(attacks: Callable[[], Any], n: int, **how: Any) -> tuple[Evaluation, Evaluation]:
    model, x, y = digits(n)
    how |= {"eps": 0.1, "norm": "linf", "collect": True}
    on_cpu = evaluate(model, x, y, attacks(), **how)
    return on_cpu, evaluate(model.cuda(), x, y, attacks(), device="cuda", **how)


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("suite", ["quick", "standard"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_a_suite_says_the_same_on_a_gpu(suite: str, precision: torch.dtype) -> None:
    search = Search(precision=precision, channels_last=True)
    on_cpu, on_gpu = both(lambda: SUITES[suite].build("linf"), 300, search=search)
    assert float((on_cpu.robust != on_gpu.robust).float().mean()) <= 0.01
    model, x, y = digits(300)
    fell = on_gpu.correct & ~on_gpu.robust
    assert fell.any()
    assert on_gpu.adversarial is not None
    moved = on_gpu.adversarial[fell]
    assert within(x[fell], moved, 0.1, BALLS["linf"]).all()
    assert float((model(moved).argmax(1) != y[fell]).float().mean()) >= 0.99


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_every_attack_runs_on_a_gpu_and_finds_as_much(name: str, norm: Norm) -> None:
    model, x, y = digits(16)
    with torch.no_grad():
        fell = int((model(run(name, norm, model, x, y)).argmax(1) != y).sum())
        model, x, y = model.cuda(), x.cuda(), y.cuda()
        moved = run(name, norm, model, x, y)
        assert moved.device == x.device
        assert abs(int((model(moved).argmax(1) != y).sum()) - fell) <= 1


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
def test_a_batch_that_does_not_fit_is_halved() -> None:
    class Wide(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            large = x.flatten(1).repeat(1, 1 << 15)  # 8 MiB an image of 64 values
            return torch.stack([large.sum(1), -large.square().sum(1)], 1)

    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((1 << 30) / total)
    try:
        oracle, x = Oracle(Wide(), batch_size=512), torch.rand(512, 1, 8, 8, device="cuda")
        logits, _, gradient = ascent(oracle, x, lambda logits, rows: logits[:, 0])
        assert 1 <= oracle.batch_size < 512
        assert logits.shape == (512, 2)
        assert torch.equal(gradient, torch.full_like(x, 1 << 15))
        assert torch.allclose(logits_of(Oracle(Wide(), batch_size=8), x), logits)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
