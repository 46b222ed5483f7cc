"""A small race on textures: attacks win and pay, hardening wins back, and goes on where it ended."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from assaymark.provenance.detect_data import Labelled
from assaymark.provenance.detect_race import Clean, Race, Split, clean_photos, race, split_photos
from assaymark.provenance.race_attacks import (
    Photos,
    Reconstructor,
    fit,
    levels,
    logits,
    pgd,
    psnr,
    reconstructed,
    rounded,
    tensor,
    told_apart,
    tune_against,
)
from assaymark.provenance.race_hardening import Hardening, harden
from assaymark.provenance.race_store import Store, first_or_stored
from assaymark.reports.errors import InputError


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Network(nn.Module):
    """Second differences, one learned layer, the mean: the smallest detector of a decoder's trace."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 8, 4, 2)
        self.head = nn.Linear(8, 1)

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(1, keepdim=True)
        rest = 4 * grey[..., 1:-1, 1:-1] - grey[..., :-2, 1:-1] - grey[..., 2:, 1:-1]
        rest = rest - grey[..., 1:-1, :-2] - grey[..., 1:-1, 2:]
        found: Tensor = self.head(torch.relu(self.layer(10 * rest)).mean((2, 3)))
        return found


def _photos(seed: int, count: int) -> Photos:
    """Waves with fine grain, of 96 x 96 pixels."""
    rng = numpy.random.default_rng(seed)
    down, right = numpy.mgrid[:96, :96] / 96
    waves = [
        numpy.sin(
            rng.uniform(3, 30, 3) * down[..., None] + rng.uniform(3, 30, 3) * right[..., None]
        )
        for _ in range(count)
    ]
    grain = rng.normal(0, 8, (count, 96, 96, 3))
    return numpy.clip(128 + 70 * numpy.stack(waves) + grain, 0, 255).astype(numpy.uint8)


@pytest.fixture(scope="module")
def split() -> Split:
    return Split(train=_photos(0, 12), test=_photos(1, 12), test_sources=("a", "b", "c") * 4)


@pytest.fixture(scope="module")
def generator(split: Split) -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = Reconstructor(width=16)
    corners = numpy.ascontiguousarray(split.train[:, :32, :32])
    fit(made, corners, steps=60, rng=numpy.random.default_rng(0))
    return made.eval()


@pytest.fixture(scope="module")
def detector(split: Split, generator: nn.Module) -> nn.Module:
    torch.set_num_threads(1)
    fakes = reconstructed(generator, split.train)
    how = Hardening(steps=30, pairs=8, rate=2e-2, eps=0)
    return harden(_Network(), split.train, [fakes], how, numpy.random.default_rng(0))


_SHORT = Hardening(steps=16, pairs=6, rate=1e-2)


def _run(
    detector: nn.Module, split: Split, generator: nn.Module, **more: object
) -> tuple[nn.Module, Race]:
    settings = {"rounds": 1, "attack_steps": 24, "hardening": _SHORT, "tolerance": 0.2} | more
    return race(detector, split, generator=generator, **settings)  # type: ignore[arg-type]


@pytest.mark.long
def test_both_sides_move(
    split: Split, generator: nn.Module, detector: nn.Module, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    hardened, found = _run(detector, split, generator, folder=tmp_path)
    assert found.start > 0.9
    first = found.rounds[0]
    tuned, perturbed = first.costs
    assert tuned.psnr_before > 15
    assert first.attacked < found.start - 0.2  # the attack fools on photographs it was not tuned on
    assert tuned.won is (tuned.reached <= 0.5)
    assert tuned.won or tuned.steps == 2 * 24
    assert perturbed.reached <= 0.5
    assert first.hardened > first.attacked
    assert len(found.rounds[-1].generations) == 2
    made = reconstructed(generator, split.test)
    assert found.rounds[-1].generations[0] == told_apart(hardened, split.test, made)
    assert found.weakest == min(found.rounds[-1].generations)
    assert found.last_cost == found.rounds[-1].costs[0].decibels
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    stored, again = _run(detector, split, generator, folder=tmp_path)  # nothing is left to do
    assert again == found
    for key, value in stored.state_dict().items():
        assert torch.equal(value, hardened.state_dict()[key])


@pytest.mark.parametrize("swapped", [False, True], ids=["rises", "falls"])
def test_hardening_that_costs_clean_files_is_not_kept(
    split: Split, generator: nn.Module, swapped: bool
) -> None:
    """Of files labelled the wrong way round, a detector that learns must lose its AUC of chance."""
    reals, fakes = split.test, reconstructed(generator, split.test)
    if swapped:
        reals, fakes = fakes, reals
    clean = Clean(reals=reals, fakes=fakes, clusters=2 * split.test_sources)
    how = {
        "hardening": Hardening(steps=25, pairs=8, rate=2e-2, eps=0, rivals=()),
        "attack_steps": 8,
    }
    start = _Network()
    last, found = _run(start, split, generator, rounds=1, tolerance=0.02, clean=clean, **how)
    only = found.rounds[0]
    assert only.kept is not swapped
    assert (only.clean_fall > 0.02) is swapped
    assert only.clean_fall_low <= only.clean_fall <= only.clean_fall_high
    same = [torch.equal(v, start.state_dict()[key]) for key, v in last.state_dict().items()]
    assert all(same) is swapped


@pytest.mark.long
def test_a_race_goes_on_where_it_ended(
    split: Split, generator: nn.Module, detector: nn.Module, tmp_path: Path
) -> None:
    short = {"attack_steps": 8, "hardening": Hardening(steps=2, pairs=2)}
    _run(detector, split, generator, rounds=1, folder=tmp_path, **short)
    ended, found = _run(detector, split, generator, rounds=2, folder=tmp_path, **short)
    whole, at_once = _run(detector, split, generator, rounds=2, **short)
    assert [each.generations for each in found.rounds] == [
        each.generations for each in at_once.rounds
    ]
    for key, value in ended.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key])
    assert found.plain()["rounds"][0]["costs"][0]["decibels"] == found.rounds[0].costs[0].decibels
    with pytest.raises(InputError, match="race with other settings"):
        _run(detector, split, generator, rounds=2, folder=tmp_path, **short | {"attack_steps": 9})
    (tmp_path / "race.json").write_text('{"settings": {}, "rounds": 3}')
    with pytest.raises(InputError, match="no race that was stored"):
        _run(detector, split, generator, rounds=2, folder=tmp_path, **short)


def test_the_first_generator_is_made_once(tmp_path: Path) -> None:
    """It takes longest, so a race that ended in its first round has it already."""

    def never() -> nn.Module:
        raise AssertionError("made again")

    made = first_or_stored(Store(tmp_path, {"seed": 1}), _Network, _Network())
    kept = first_or_stored(Store(tmp_path, {"seed": 1}), never, _Network())
    assert all(
        torch.equal(value, made.state_dict()[key]) for key, value in kept.state_dict().items()
    )
    assert Store(tmp_path, {"seed": 1}).rounds() == ()
    with pytest.raises(InputError, match="race with other settings"):
        Store(tmp_path, {"seed": 2}).rounds()


def test_a_linear_detector_moves_by_its_closed_form() -> None:
    """logit = w · x moves by -eps · Σ|w| at an inner point, and no pixel by more than eps."""
    weight = torch.linspace(-1, 1, 3 * 8 * 8)

    class Linear(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) @ weight

    images = torch.full((2, 3, 8, 8), 0.5)
    changed = pgd(Linear(), images, eps=0.1, steps=5)
    moved = logits(Linear(), changed) - logits(Linear(), images)
    assert torch.allclose(moved, -0.1 * weight.abs().sum().repeat(2), atol=1e-4)
    assert float((changed - images).abs().max()) <= 0.1 + 1e-6


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2)])
def test_logits_of_every_shape_of_head(shape: tuple[int, ...]) -> None:
    values = torch.arange(6.0).reshape(3, 2) ** 2

    class Head(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return values if len(shape) == 2 and shape[1] == 2 else values[:, 1].reshape(shape)

    wanted = values[:, 1] - values[:, 0] if shape == (3, 2) else values[:, 1]
    assert torch.equal(logits(Head(), torch.zeros(3, 3, 4, 4)), wanted)


def test_eight_bits_with_a_gradient() -> None:
    images = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.equal((rounded(images) * 255).round(), (images * 255).round())
    rounded(images).sum().backward()
    assert images.grad is not None
    assert bool((images.grad == 1).all())
    photos = levels(images.detach())
    assert numpy.array_equal(levels(tensor(photos)), photos)
    assert psnr(photos, photos) == 99
    assert psnr(photos // 2, photos // 2 + 1) == pytest.approx(20 * numpy.log10(255))


def test_an_attack_leaves_both_networks_alone(
    split: Split, generator: nn.Module, detector: nn.Module
) -> None:
    states = [{k: v.clone() for k, v in net.state_dict().items()} for net in (generator, detector)]
    tune_against(detector, generator, split.train[:2], steps=1, rng=numpy.random.default_rng(0))
    for net, state in zip((generator, detector), states, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_frozen_networks_take_part(split: Split, generator: nn.Module) -> None:
    """Shipped weights are loaded without gradients."""
    frozen, maker = _Network().requires_grad_(False), copy.deepcopy(generator).requires_grad_(False)
    tune_against(frozen, maker, split.train[:2], steps=1, rng=numpy.random.default_rng(0))
    how = Hardening(steps=2, pairs=2)
    fakes = reconstructed(maker, split.train)
    hardened = harden(frozen, split.train, [fakes], how, numpy.random.default_rng(0))
    assert not torch.equal(hardened.state_dict()["head.bias"], frozen.state_dict()["head.bias"])


class _Step(nn.Module):
    """Whether a picture is one of those it knows by heart: right, and without any gradient."""

    def __init__(self, photos: Photos) -> None:
        super().__init__()
        self.known = tensor(photos)

    def forward(self, images: Tensor) -> Tensor:
        gaps = (images[:, None] - self.known).abs().amax((2, 3, 4)).amin(1)
        return (gaps > 1e-6).float() + 0 * images.mean((1, 2, 3))


def test_an_attack_that_cannot_win_says_so(split: Split, generator: nn.Module) -> None:
    """Without a gradient every attempt is training without a detector, and costs what that does."""
    rng = numpy.random.default_rng(0)
    _, cost = tune_against(_Step(split.train[:6]), generator, split.train[:6], steps=8, rng=rng)
    assert not cost.won
    assert cost.reached == 1
    assert cost.steps == 16  # two attempts, to their end
    assert abs(cost.decibels) < 0.5  # they only drew other batches


def test_rivals_take_part(split: Split, generator: nn.Module) -> None:
    """A rival's fakes are its generator's; the one that it began with stays as it was."""
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    fakes = reconstructed(generator, split.train)
    apart = [
        harden(
            _Network(),
            split.train,
            [fakes],
            Hardening(steps=2, pairs=2, rate=1e-2, eps=0, rivals=rivals),
            numpy.random.default_rng(0),
            generator=generator,
        )
        for rivals in ((), (5.0,))
    ]
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    plain, rivalled = (each.state_dict()["layer.weight"] for each in apart)
    assert not torch.equal(plain, rivalled)


def _write(folder: Path, count: int, side: int) -> list[Labelled]:
    rows = []
    for number in range(count):
        path = folder / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = numpy.random.default_rng(number).integers(0, 256, (side, side, 3), numpy.uint8)
        Image.fromarray(pixels).save(path)
        rows.append(Labelled(path=path, fake=False, cluster=folder.name))
    return rows


def test_clean_files_are_measured_at_their_own_size(tmp_path: Path) -> None:
    rows = [*_write(tmp_path / "large", 8, 200), *_write(tmp_path / "tiny", 3, 60)]
    fakes = [replace(row, fake=True) for row in _write(tmp_path / "made", 9, 100)]
    found = clean_photos([*fakes, *rows])
    assert found.reals.shape == (8, 96, 96, 3)
    assert found.clusters == ("large",) * 8 + ("made",) * 9
    whole = numpy.random.default_rng(0).integers(0, 256, (200, 200, 3), numpy.uint8)
    assert numpy.array_equal(found.reals[0], whole[52:148, 52:148])
    with pytest.raises(InputError, match="8 photographs and 0 fakes"):
        clean_photos(rows)


def test_photographs_are_split_by_source(tmp_path: Path) -> None:
    rows = [
        *_write(tmp_path / "large", 8, 200),
        *_write(tmp_path / "middle", 6, 100),
        *_write(tmp_path / "tiny", 3, 60),
        *_write(tmp_path / "small", 4, 96),
    ]
    (tmp_path / "large/broken.png").write_bytes(b"")
    rows.append(Labelled(path=tmp_path / "large/broken.png", fake=False, cluster="large"))
    rows.append(Labelled(path=tmp_path / "large/0.png", fake=True, cluster="made"))
    found = split_photos(rows, crops=2, held_out=0.6)
    assert found.test_sources == ("small",) * 8 + ("middle",) * 12
    assert found.train.shape == (16, 96, 96, 3)
    assert found.test.shape == (20, 96, 96, 3)
    for sources in (rows[:8], rows[14:17]):
        with pytest.raises(InputError, match="a race needs 8 of each"):
            split_photos(sources)
