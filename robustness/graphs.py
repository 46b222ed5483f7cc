"""A network as a list of steps that bounds can be carried through, recorded while it runs.

The operations that torch executes are recorded, so that modules, exported programs, TorchScript and
ONNX graphs all become the same few. What does not depend on the image is a constant of its step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.evaluate import frozen
from assaymark.robustness.graph_calls import Call, Recorder, reads
from assaymark.robustness.graph_steps import not_covered, step_of
from assaymark.robustness.relaxations import (
    Step,
)
from assaymark.robustness.streams import seed_of
from assaymark.robustness.types import Images, Logits, Model

_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Steps in the order they run; value 0 is the image, value i what steps[i - 1] makes.

    It holds for batches of `batch` images in float64.
    """

    steps: tuple[Step, ...]
    shapes: tuple[torch.Size, ...]
    output: int

    @property
    def batch(self) -> int:
        return self.shapes[0][0]

    @property
    def classes(self) -> int:
        return self.shapes[self.output][1]

    def values(self, x: Images, last: int | None = None) -> list[Tensor]:
        """What each step makes of the images, up to value `last`; one empty where nothing needs it."""
        made = [x.double()]
        for step in self.steps[: self.output if last is None else last]:
            made.append(step.run(*(made[source] for source in step.sources)))
        return made


def trace(model: nn.Module | Model, x: Images) -> Graph:
    """The steps a model takes for batches like x.

    Raises InputError where a step cannot be bounded, where the path through the model depends on the
    image, or where images of a batch change each other's answers.
    """
    x = x.detach().float().clone()
    with frozen(model), torch.no_grad(), Recorder(x) as recorder:
        logits = model(x)
    if id(logits) not in recorder.numbers:
        raise InputError(
            "the model's answer does not depend on the image in a way that was recorded"
        )
    output = recorder.numbers[id(logits)]
    needed = _needed(recorder.calls, output)
    for number in range(1, len(recorder.calls) + 1):
        call = recorder.calls[number - 1]
        if call.name == "_local_scalar_dense":
            raise not_covered(call, "the path through the model depends on the image")
    numbers = {0: 0} | {old: new for new, old in enumerate(needed, 1)}
    steps = tuple(step_of(recorder.calls[old - 1], numbers, recorder.shape) for old in needed)
    shapes = (x.shape, *(recorder.calls[old - 1].shape for old in needed))
    graph = Graph(steps=steps, shapes=shapes, output=len(steps))
    _check(graph, model, x, logits)
    return graph


def _needed(calls: list[Call], output: int) -> list[int]:
    found, open_ = set(), [output]
    while open_:
        number = open_.pop()
        if number and number not in found:
            found.add(number)
            open_ += reads(calls[number - 1])
    return sorted(found)


def _check(graph: Graph, model: nn.Module | Model, x: Images, logits: Logits) -> None:
    """The steps answer as the model does, for these images and others, and for each image alone."""
    generator = torch.Generator().manual_seed(seed_of("other images"))
    other = torch.rand(x.shape, generator=generator).to(x)
    with frozen(model), torch.no_grad():
        pairs = ((x, logits), (other, model(other)))
    for images, answer in pairs:
        scale = answer.abs().amax().clamp_min(1)
        far = (graph.values(images)[-1] - answer).abs().amax() / scale
        if not far <= _TOLERANCE:
            raise InputError(
                f"the recorded steps of the model differ from its answers by {float(far):.2g} "
                f"(relative, at most {_TOLERANCE:g} accepted): a path that depends on the image, or "
                "random numbers, cannot be certified; certify it with smoothing instead"
            )
    half = len(x) // 2
    if half:
        mixed = graph.values(torch.cat([x[:half], other[half:]]))[-1][:half]
        if not torch.allclose(mixed, graph.values(x)[-1][:half], rtol=1e-6, atol=1e-6):
            raise InputError(
                "the model's answer to an image depends on the other images of the batch, so no "
                "image can be certified: put it in eval mode, or certify with batch_size = 1"
            )
