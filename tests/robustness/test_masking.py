"""The masking zoo: broken defenses are found out, sound models are not accused."""

from pathlib import Path

import pytest
import torch
from masking_zoo import Softmax, broken, k_winners, points, sound, sound_models
from networks import digits_hard
from torch import nn

from assaymark.reports.model import Gate, Limit, Verdict
from assaymark.robustness.check import Threat, check_robustness
from assaymark.robustness.images import ImageData
from assaymark.robustness.masking import examine
from assaymark.robustness.models import Loaded
from assaymark.robustness.streams import Streams

ZOO, SOUND = broken(), sound_models()


def found(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[str]:
    torch.manual_seed(0)
    streams = Streams.of(0, "zoo", list(range(len(x))))
    masking, _ = examine(model.eval(), x, y, batch_size=64, streams=streams)
    assert masking.signs
    return [sign.name for sign in masking.found]


@pytest.mark.parametrize("name", ZOO)
def test_a_broken_defense_is_found_out(name: str) -> None:
    x, _ = points()
    torch.manual_seed(0)
    y = ZOO[name](x).argmax(1)  # whatever it says is right: that is not what is measured here
    assert found(ZOO[name], x, y)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("name", ["digits_at", "digits_std"])
def test_many_winners_jump_too(name: str, share: float, shared: Path) -> None:
    """Their gradient foretells much of the change, and yet not where it jumps."""
    x, _ = points()
    plain = digits_hard(shared, name)
    assert found(plain, x, plain(x).argmax(1)) == []
    model = k_winners(plain, share)
    assert "the answer jumps" in found(model, x, model(x).argmax(1))


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_is_not_accused(name: str) -> None:
    x, _ = points()
    assert found(SOUND[name], x, SOUND[name](x).argmax(1)) == []


def check(model: nn.Module, minimum: float) -> tuple[float, Verdict, str | None]:
    x, y = points()
    result = check_robustness(
        "zoo",
        Loaded(name="zoo", module=model.eval(), sha256=None, classes=10),
        ImageData(name="digits", images=x, labels=y, classes=None),
        Threat(attacks=(("quick", {}),), norm="linf", eps=0.1),
        gates=(Gate(metric="robust_accuracy", limit=Limit(minimum=minimum, on="lower")),),
    )
    finding = next(f for f in result.findings if f.measure == "robust_accuracy")
    assert finding.value is not None
    return finding.value, finding.judged, finding.unreliable


@pytest.mark.parametrize("name", ["softmax", "temperature", "bit depth", "thermometer"])
@pytest.mark.long
def test_a_number_that_would_pass_is_not_believed(name: str) -> None:
    """And what hides the gradient is worked around: as few stand as without it."""
    plain, verdict, doubt = check(sound("digits-hardened"), 0.01)
    assert verdict is Verdict.PASS
    assert doubt is None
    hidden, verdict, doubt = check(ZOO[name], 0.01)
    assert verdict is Verdict.INCONCLUSIVE
    assert doubt is not None
    slack = 0.15 if name in ("bit depth", "thermometer") else 0.0  # these change the images too
    assert hidden <= plain + slack


def test_a_broken_limit_is_broken_whatever_is_hidden() -> None:
    _, verdict, doubt = check(nn.Sequential(sound("digits"), Softmax()), 0.999)
    assert doubt is not None
    assert verdict is Verdict.FAIL
