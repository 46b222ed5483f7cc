"""Pairs share everything but the process; masks are exact; noise goes in and out as its level says."""

import csv
import dataclasses
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from assaymark.provenance.decoder_training import Course
from assaymark.provenance.decoders import RECIPES, build, reconstruct
from assaymark.provenance.denoiser import (
    Denoiser,
    Shape,
    build_denoiser,
    load_denoiser,
    renew,
    save_denoiser,
    train_denoiser,
)
from assaymark.provenance.evidence import Says
from assaymark.provenance.fake_folder import make_pairs, photos_in
from assaymark.provenance.fakes import Made, Process, blend_into, crop, pair, processes, region
from assaymark.provenance.picture_history import Step, draw_history, passed, passed_mask
from assaymark.reports.errors import InputError

SIDE = 48
DECODER = build(dataclasses.replace(RECIPES["transposed2-4-fsq"], width=4))
DENOISER = build_denoiser(Shape(width=8, depth=1))
PROCESSES = processes({"t2": DECODER}, {"small": DENOISER})


def photo(height: int = 70, width: int = 90, seed: int = 0) -> numpy.ndarray:
    random = numpy.random.default_rng(seed)
    coarse = random.integers(30, 226, (6, 8, 3), dtype=numpy.uint8)
    smooth = numpy.asarray(
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    )
    noisy = smooth + random.normal(0, 4, smooth.shape)
    return numpy.clip(noisy, 0, 255).astype(numpy.uint8)


def random(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def unchanged(pixels: numpy.ndarray, rng: numpy.random.Generator) -> Made:
    return Made(pixels, numpy.zeros(pixels.shape[:2], bool))


SAME = Process(name="same", says=Says.NOTHING, make=unchanged)


def test_the_table_says_what_is_true_of_every_result() -> None:
    says = {name: process.says for name, process in PROCESSES.items()}
    assert says == {
        "decoder-t2": Says.GENERATED,
        "renewed-small": Says.GENERATED,
        "inpaint-t2": Says.MANIPULATED,
        "inpaint-small": Says.MANIPULATED,
        "blend": Says.MANIPULATED,
        "resample": Says.NOTHING,
        "retouch": Says.NOTHING,
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_process_that_does_nothing_leaves_two_equal_sides(seed: int) -> None:
    """Whatever history is drawn: then the process is all in which the sides of a pair differ."""
    rng = random(seed)
    real, fake, mask = pair(photo(), SAME, rng, side=SIDE, history=draw_history(random(seed)))
    assert numpy.array_equal(real, fake)
    assert mask.shape == real.shape[:2]
    assert not mask.any()


@pytest.mark.parametrize("name", PROCESSES)
def test_a_pair_is_the_same_crop_made_the_same_way_twice(name: str) -> None:
    process, history = PROCESSES[name], draw_history(random(5))
    real, fake, mask = pair(photo(), process, random(3), side=SIDE, history=history)
    again = pair(photo(), process, random(3), side=SIDE, history=history)
    assert all(numpy.array_equal(a, b) for a, b in zip((real, fake, mask), again, strict=True))
    assert numpy.array_equal(real, passed(crop(photo(), random(3), side=SIDE), history))
    assert real.shape == fake.shape
    assert not numpy.array_equal(real, fake)
    assert mask.any() == (process.says is not Says.NOTHING)
    assert mask.all() == (process.says is Says.GENERATED)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["inpaint-t2", "blend"])
def test_outside_the_mask_no_pixel_differs(name: str, seed: int) -> None:
    real, fake, mask = pair(photo(), PROCESSES[name], random(seed), side=SIDE)
    assert numpy.array_equal(real[~mask], fake[~mask])
    if name == "inpaint-t2":
        assert numpy.array_equal(fake[mask], reconstruct(DECODER, real)[mask])
    assert (real[mask] != fake[mask]).any(1).mean() > 0.5
    assert 0.02 < mask.mean() < 0.75


def test_a_crop_keeps_the_pixels_where_the_photograph_is_no_larger() -> None:
    exact = photo(SIDE, SIDE)
    assert numpy.array_equal(crop(exact, random(), side=SIDE), exact)
    wide = photo(SIDE, 200)  # cannot be reduced: every crop is a window
    found = crop(wide, random(1), side=SIDE)
    windows = numpy.lib.stride_tricks.sliding_window_view(wide, SIDE, 1)
    assert any(numpy.array_equal(windows[:, at].swapaxes(1, 2), found) for at in range(153))


@pytest.mark.parametrize("seed", range(5))
def test_a_region_is_one_in_it_and_covers_a_part(seed: int) -> None:
    found = region(100, 160, random(seed))
    assert set(numpy.unique(found)) == {0.0, 1.0}
    assert 0.02 < found.mean() < 0.5


def test_a_blend_mixes_by_its_outline() -> None:
    """Far inside a full outline the picture is the altered one; with none it is untouched."""
    pixels = photo()
    nowhere = blend_into(pixels, numpy.zeros(pixels.shape[:2]), random())
    assert numpy.array_equal(nowhere.pixels, pixels)
    assert not nowhere.mask.any()
    with pytest.raises(InputError, match="outline has shape"):
        blend_into(pixels, numpy.zeros((3, 3)), random())


STEPS = [
    (Step(kind="resize", amount=0.5, detail="box"), (20, 24)),
    (Step(kind="resize", amount=1.5, detail="lanczos"), (60, 72)),
    (Step(kind="blur", amount=1.0), (40, 48)),
    (Step(kind="noise", amount=3.0, detail="7"), (40, 48)),
    (Step(kind="jpeg", amount=60, detail="4:4:4"), (40, 48)),
    (Step(kind="webp", amount=70), (40, 48)),
]


@pytest.mark.parametrize(
    ("step", "size"), STEPS, ids=lambda v: getattr(v, "kind", None) or str(v[0])
)
def test_a_step_changes_the_picture_and_the_mask_alike(step: Step, size: tuple[int, int]) -> None:
    pixels = photo(40, 48)
    found = passed(pixels, (step,))
    assert found.shape == (*size, 3)
    assert numpy.array_equal(found, passed(pixels, (step,)))
    half = numpy.zeros((40, 48), bool)
    half[:, :24] = True
    expected = numpy.zeros(size, bool)
    expected[:, : size[1] // 2] = True
    assert numpy.array_equal(passed_mask(half, (step,)), expected)


def test_steps_do_what_they_say() -> None:
    grey = numpy.full((64, 64, 3), 100, numpy.uint8)
    noise = passed(grey, (Step(kind="noise", amount=4.0),)).astype(float) - 100
    assert noise.std() == pytest.approx(4.0, rel=0.05)
    blocks = numpy.arange(16, dtype=numpy.uint8).reshape(4, 4).repeat(2, 0).repeat(2, 1)
    halved = passed(numpy.stack([blocks] * 3, 2), (Step(kind="resize", amount=0.5, detail="box"),))
    assert numpy.array_equal(halved[:, :, 0], numpy.arange(16).reshape(4, 4))


@pytest.mark.parametrize(
    ("kind", "amount", "says"),
    [("jpg", 90, 'did you mean "jpeg"'), ("jpeg", 101, "got 101"), ("resize", 0, "got 0")],
    ids=["name", "quality", "factor"],
)
def test_a_step_that_is_none(kind: str, amount: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Step(kind=kind, amount=amount)


def test_a_resize_is_bounded_before_it_is_made() -> None:
    with pytest.raises(InputError, match="too large"):
        passed(numpy.zeros((2000, 2, 3), numpy.uint8), (Step(kind="resize", amount=8),))
    with pytest.raises(InputError, match="no filter"):
        passed(photo(), (Step(kind="resize", amount=0.5, detail="cubic?"),))


class Gaussian(Denoiser):
    """The best denoiser of independent N(0, s^2) pixels: x s^2 / (s^2 + noise^2)."""

    spread = 0.25

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return images * self.spread**2 / (self.spread**2 + noise[:, None, None, None] ** 2)


def test_the_sampler_ends_at_the_closed_form_of_a_gaussian() -> None:
    """dx/dn = n x / (s^2 + n^2) is solved by x = c sqrt(s^2 + n^2): the flow only rescales."""
    model, pixels = Gaussian(Shape(width=4, depth=1)), photo(32, 32)
    found = renew(model, pixels, noise=0.5, steps=200, seed=4) / 127.5 - 1
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn((1, 3, 32, 32), generator=generator)[0].permute(1, 2, 0).numpy()
    start = pixels / 127.5 - 1 + 0.5 * noise
    expected = numpy.clip(start * 0.25 / numpy.hypot(0.25, 0.5), -1, 1)
    assert abs(found - expected).max() < 0.03


def test_a_denoiser_learns_to_look_at_neighbours(tmp_path: Path) -> None:
    """On flat colours it does better than x v / (v + n^2), the best linear guess from one pixel."""
    colours = random().integers(20, 236, (24, 3), dtype=numpy.uint8)
    model = train_denoiser(
        [numpy.tile(colour, (16, 16, 1)) for colour in colours],
        shape=Shape(width=8, depth=1),
        course=Course(steps=80, batch=8, side=16, rate=1e-2),
    )
    generator = torch.Generator().manual_seed(0)
    flat = (torch.rand((64, 3, 1, 1), generator=generator) * 1.6 - 0.8).expand(64, 3, 16, 16)
    noise = 0.3 * torch.randn(flat.shape, generator=generator)
    with torch.no_grad():
        error = float((model(flat + noise, torch.full((64,), 0.3)) - flat).square().mean())
    variance = 1.6**2 / 12
    assert error < 0.85 * variance * 0.3**2 / (variance + 0.3**2)
    save_denoiser(model, tmp_path / "n")
    again, unseen = load_denoiser(tmp_path / "n"), photo(33, 41, 8)
    found = renew(again, unseen, noise=0.1, seed=2)
    assert numpy.array_equal(found, renew(model, unseen, noise=0.1, seed=2))
    assert found.shape == unseen.shape
    (tmp_path / "bad").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is no denoiser"):
        load_denoiser(tmp_path / "bad")


@pytest.mark.parametrize(
    "settings", [{"noise": 0.0}, {"noise": 9.0}, {"noise": 0.1, "steps": 0}], ids=str
)
def test_noise_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected noise in"):
        renew(DENOISER, photo(), **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="width lies in"):
        Shape(width=0)


def test_a_folder_of_photographs_becomes_a_folder_of_pairs(tmp_path: Path) -> None:
    folder, into = tmp_path / "photos", tmp_path / "pairs"
    for source, seed in (("one", 0), ("two", 1)):
        (folder / source).mkdir(parents=True)
        Image.fromarray(photo(seed=seed)).save(folder / source / "a.png")
    Image.fromarray(photo(20, 20)).save(folder / "two" / "small.png")
    (folder / "two" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    chosen = {name: PROCESSES[name] for name in ("decoder-t2", "inpaint-t2", "resample")}
    outcome = make_pairs(folder, chosen, into, side=SIDE)
    assert (outcome.made, outcome.kept) == (8, 0)
    assert sorted(path.name for path in outcome.left_out) == ["broken.jpg", "small.png"]
    assert "48 pixels cannot be cut" in outcome.left_out[folder / "two" / "small.png"]
    with (into / "pairs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["says"] for row in rows[:4]] == ["authentic", "generated", "manipulated", "nothing"]

    def read(name: str) -> numpy.ndarray:
        with Image.open(into / name) as opened:
            return numpy.asarray(opened)

    real, mask = read("real/two/a.png"), read("masks/inpaint-t2/two/a.png")
    assert numpy.array_equal(read("decoder-t2/two/a.png"), reconstruct(DECODER, real))
    assert numpy.array_equal(read("inpaint-t2/two/a.png")[~mask], real[~mask])
    (into / "decoder-t2/one/a.png").unlink()
    before = (into / "real/one/a.png").stat().st_mtime_ns
    again = make_pairs(folder, chosen, into, side=SIDE)
    assert (again.made, again.kept) == (1, 7)
    assert (into / "real/one/a.png").stat().st_mtime_ns == before


def test_folders_that_cannot_be_paired(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        photos_in(tmp_path / "none")
    with pytest.raises(InputError, match="has no photographs"):
        photos_in(tmp_path)
    (tmp_path / "s").mkdir()
    for name in ("a.png", "a.jpg"):
        Image.fromarray(photo()).save(tmp_path / "s" / name)
    with pytest.raises(InputError, match="differ by their endings"):
        photos_in(tmp_path)
    with pytest.raises(InputError, match="cannot name a process"):
        make_pairs(tmp_path, {"real": SAME}, tmp_path / "out")


@pytest.mark.parametrize("side", [7, 71], ids=str)
def test_a_crop_that_cannot_be_cut(side: int) -> None:
    with pytest.raises(InputError, match="cannot be cut"):
        crop(photo(), random(), side=side)
