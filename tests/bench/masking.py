"""The masking zoo of the tests, and what AutoAttack's flags say of it: `python tests/bench/masking.py`.

AutoAttack (https://github.com/fra31/auto-attack) cannot be installed by the usual way and its ports have
no flags, so its decision rules are written down here from its checks: answers that change in five passes
(1e-4 of normalised logits), answers that are probabilities (1e-5), a point whose targeted DLR has no
gradient at a start, derivatives taken inside the model, and Square lowering the accuracy by more than 0.2
points. Its attacks are our suite `autoattack` with 1,000 queries of Square in place of 5,000. Labels are
the answers of each model.
"""

import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "robustness"))

import torch
from masking_zoo import broken, points, sound_models
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness.apgd import random_start
from assaymark.robustness.evaluate import Evaluation, evaluate
from assaymark.robustness.losses import Loss, other_classes, targeted_dlr
from assaymark.robustness.masking import examine
from assaymark.robustness.oracle import Oracle, ascent
from assaymark.robustness.shard import Search
from assaymark.robustness.square import square
from assaymark.robustness.streams import Streams
from assaymark.robustness.suites import SUITES

EPS = 0.1
QUERIES = 1000


def randomized(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    with torch.no_grad():
        answers = [model(x) for _ in range(5)]
    right = {int((answer.argmax(1) == y).sum()) for answer in answers}
    scaled = [answer / (answer.norm(dim=1, keepdim=True) + 1e-10) for answer in answers]
    return len(right) > 1 or any(
        float((a - b).norm(dim=1).max()) > 1e-4 for a in scaled for b in scaled
    )


def probabilities(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    with torch.no_grad():
        answer = model(x)
    inside = float(answer.max()) < 1 + 1e-5 and float(answer.min()) > -1e-5
    return inside and bool(((answer.sum(1) - 1).abs() < 1e-5).all())


def dynamic(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    called: list[str] = []

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name in ("grad", "backward", "_make_grads"):
            called.append(frame.f_code.co_name)

    before = sys.gettrace()
    sys.settrace(look)
    try:
        model(x)
    finally:
        sys.settrace(before)
    return bool(called)


def no_gradient(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    order = other_classes(model(x).detach(), y)
    for rank in range(order.shape[1]):
        streams = Streams.of(rank, "flags", list(range(len(x))))
        start = random_start(x, eps=EPS, norm="linf", streams=streams, tag="start")

        def loss(logits: Tensor, rows: slice, to: Tensor = order[:, rank]) -> Loss:
            return targeted_dlr(logits, y[rows], to[rows])

        _, _, gradient = ascent(Oracle(model), start, loss)
        if bool((gradient.flatten(1).abs().sum(1) == 0).any()):
            return True
    return False


FLAGS: dict[str, Callable[[nn.Module, Tensor, Tensor], bool]] = {
    "randomized": randomized,
    "probabilities": probabilities,
    "dynamic": dynamic,
    "zero gradient": no_gradient,
}


def attacked(model: nn.Module, x: Tensor, y: Tensor, **how: Any) -> Evaluation:
    stages = SUITES["autoattack"].build("linf")
    stages["square"] = partial(square, queries=QUERIES)
    return evaluate(model, x, y, stages, eps=EPS, norm="linf", **how)


def theirs(model: nn.Module, x: Tensor, y: Tensor) -> tuple[list[str], str]:
    """The flags raised, and how many points stand after the attacks."""
    try:
        raised = [name for name, rule in FLAGS.items() if rule(model, x, y)]
        result = attacked(model, x, y)
    except InputError:
        return [], "an error: no gradient"
    before = sum(out.fooled for out in result.outcomes if out.name == "square")
    if before > 0.002 * len(x):
        raised.append("square")
    return raised, str(int(result.robust.sum()))


def ours(model: nn.Module, x: Tensor, y: Tensor) -> tuple[list[str], str]:
    """The signs found, and how many points stand after `standard` on what `examine` makes of them."""
    streams = Streams.of(0, "zoo", list(range(len(x))))
    masking, view = examine(model, x, y, batch_size=64, streams=streams)
    suite = SUITES["standard"].stages("linf", gradient=masking.gradient)
    search = Search(samples=view.samples)
    result = evaluate(model, x, y, suite, eps=EPS, norm="linf", view=view.model, search=search)
    return [sign.name for sign in masking.after(result).found], str(int(result.robust.sum()))


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    x, _ = points()
    for kind, models in (("broken", broken()), ("sound", sound_models())):
        found, flagged = 0, 0
        for name, model in models.items():
            torch.manual_seed(0)
            y = model.eval().requires_grad_(False)(x).argmax(1)
            signs, mine = ours(model, x, y)
            flags, other = theirs(model, x, y)
            found, flagged = found + bool(signs), flagged + bool(flags)
            print(
                f"| {name} | {', '.join(signs) or '–'} | {mine} | {', '.join(flags) or '–'} | {other} |",
                flush=True,
            )
        print(
            f"{kind}: ours {found} of {len(models)}, AutoAttack's flags {flagged} of {len(models)}"
        )


if __name__ == "__main__":
    main()
