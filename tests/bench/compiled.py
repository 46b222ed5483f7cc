"""What torch.compile costs and saves on a CPU: `python tests/bench/compiled.py ROOT MODEL`.

MODEL is one of the shared models or resnet18 (random weights). CPU seconds of one process: the first calls,
which compile, and an image's forward pass, alone and with the backward pass to the image, 64 at a time.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import subjects
from resnet import resnet18

# isort: split
import torch
from torch import Tensor, nn

ROWS = 64


def spent(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def measure(name: str, model: nn.Module, ask: Callable[[Tensor], Tensor], x: Tensor) -> None:
    def forward() -> None:
        with torch.no_grad():
            ask(x)

    def both() -> None:
        part = x.detach().requires_grad_()
        torch.autograd.grad(ask(part).float().logsumexp(1).sum(), part)

    first = spent(forward) + spent(both)
    times = [min(spent(run) for _ in range(5)) / len(x) * 1e3 for run in (forward, both)]
    print(
        f"{name:<22} first calls {first:6.1f} s | forward {times[0]:.3f} ms | both {times[1]:.3f} ms",
        flush=True,
    )


def main(root: Path, name: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = resnet18() if name == "resnet18" else subjects.network(root, name)
    model.eval().requires_grad_(False)
    shape = (1, 8, 8) if name.startswith("digits") else (3, 32, 32)
    x = torch.rand(ROWS, *shape).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(model)
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            kind = "bfloat16" if half else "float32"
            measure(f"{name} {kind}", model, model, x)
            measure(f"{name} {kind} compiled", model, compiled, x)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tests/bench/compiled.py ROOT MODEL")
    main(Path(sys.argv[1]), sys.argv[2])
