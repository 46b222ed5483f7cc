"""Protective noise against linear recognisers, whose margins are known in closed form."""

import io
import math
from pathlib import Path

import linear
import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from assaymark.reports.errors import InputError
from assaymark.robustness import picture_files, recognisers
from assaymark.robustness.balls import BALLS
from assaymark.robustness.countermeasures import COUNTERMEASURES, Blur, countermeasure
from assaymark.robustness.picture_files import encode, find, read, written_name
from assaymark.robustness.protect import grid_radius, inside, on_grid, protect, quantise
from assaymark.robustness.recognisers import RecogniserSpec, Seen
from assaymark.robustness.similarity import psnr, ssim
from assaymark.robustness.transforms import Jpeg
from assaymark.robustness.types import Norm

EPS: dict[Norm, float] = {"linf": 8 / 255, "l2": 0.12}


def deep_points(n: int, classes: int = linear.CLASSES) -> Tensor:
    """Pictures up to a dozen steps of 8 bits inside their class, where the pixel range does not bind."""
    generator = torch.Generator().manual_seed(3)
    weight = linear.model(classes)[1].weight.detach()  # type: ignore[index]
    apart = (weight[torch.arange(n) % classes] - weight.mean(0)).sign().view(n, *linear.SHAPE)
    depth = torch.rand(n, 1, 1, 1, generator=generator)
    return on_grid(0.5 + 0.12 * apart * depth * torch.rand(n, *linear.SHAPE, generator=generator))


@pytest.mark.parametrize("classes", [2, 4])
def test_exactly_the_pictures_within_reach_are_protected(classes: int) -> None:
    """The corner of the ball lies on the grid, so the margin decides to the last step."""
    x = deep_points(200, classes)
    model = linear.model(classes)
    y = model(x).argmax(1)
    needed = linear.distances(x, y, "linf", classes).amin(1) * 255
    steps = int(needed.median())
    reached = model(protect(x, [model], eps=steps / 255)).argmax(1) != y
    near, far = needed < steps - 1e-3, needed > steps + 1e-3
    assert near.sum() > 50
    assert far.sum() > 50
    assert reached[near].all()
    assert not reached[far].any()


def test_in_l2_rounding_costs_no_more_than_the_grid() -> None:
    """Half a step in each value is what the grid may take away."""
    x = deep_points(200)
    model = linear.model()
    y = model(x).argmax(1)
    needed = linear.distances(x, y, "l2").amin(1)
    eps = float(needed.median())
    reached = model(protect(x, [model], eps=eps, norm="l2")).argmax(1) != y
    lost = math.sqrt(x[0].numel()) / 2 / 255
    near, far = needed < eps - lost, needed > eps
    assert near.sum() > 50
    assert far.sum() > 50
    assert reached[near].all()
    assert not reached[far].any()


def test_two_recognisers_are_both_kept_from_it() -> None:
    """With two classes each model is a half-space, and a picture leaves both or does not count."""
    models = [linear.model(2, seed=seed) for seed in (0, 3)]
    x = on_grid(linear.points(100, 2)[0])
    before = [model(x).argmax(1) for model in models]
    moved = protect(x, models, eps=32 / 255)
    changed = torch.stack(
        [m(moved).argmax(1) != own for m, own in zip(models, before, strict=True)]
    )
    # each alone in reach does not make both: the least change of both is a linear program
    least = torch.tensor(
        [
            linear.least_change(
                image.double().flatten(),
                torch.stack([_away(m, int(own[i])) for m, own in zip(models, before, strict=True)]),
                torch.stack([
                    _lead(m, image, int(own[i])) for m, own in zip(models, before, strict=True)
                ]),
                "linf",
            )
            for i, image in enumerate(x[:40])
        ]
    )  # fmt: skip
    both = changed.all(0)[:40]
    assert (least < 28 / 255).any()
    assert both[least < 28 / 255].all()
    assert not both[least > 32 / 255].any()


def _away(model: nn.Module, own: int) -> Tensor:
    weight: Tensor = model[1].weight.detach().double()  # type: ignore[index]
    return torch.sub(weight[1 - own], weight[own])


def _lead(model: nn.Module, image: Tensor, own: int) -> Tensor:
    logits: Tensor = model(image[None])[0].detach().double()
    return torch.sub(logits[own], logits[1 - own])


def test_recognisers_with_other_classes_are_held_to_their_own_answers() -> None:
    models = [linear.model(2), linear.model(4, seed=5)]
    x = on_grid(linear.points(60)[0])
    moved = protect(x, models, eps=60 / 255)
    for model in models:
        assert (model(moved).argmax(1) != model(x).argmax(1)).float().mean() > 0.9


@pytest.mark.parametrize("batch_size", [1, 7])
def test_neither_batch_nor_company_changes_a_picture(batch_size: int) -> None:
    x = on_grid(linear.points(20)[0])
    keys = list(range(100, 120))
    whole = protect(x, [linear.model()], eps=4 / 255, keys=keys)
    part = protect(x[5:9], [linear.model()], eps=4 / 255, keys=keys[5:9], batch_size=batch_size)
    assert torch.equal(whole[5:9], part)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_quantised_pictures_lie_on_the_grid_and_in_the_ball(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    x = on_grid(torch.rand(50, 3, 9, 9, generator=generator))
    eps = EPS[norm]
    wild = x + torch.randn(x.shape, generator=generator) * 0.02
    moved = BALLS[norm].project(x, wild, eps)
    found = quantise(x, moved, eps, norm)
    assert torch.equal(found, on_grid(found))
    assert inside(x, found, eps, norm).all()
    assert torch.equal(quantise(x, found, eps, norm), found)
    assert torch.equal(quantise(x, x, eps, norm), x)
    # half a step is all that a value loses where the ball leaves room
    assert ((found - moved).abs() * 255).median() <= 0.5


@pytest.mark.parametrize(
    ("eps", "norm", "expected"),
    [
        (0.0, "linf", "below one step of 8 bits"),
        (0.5 / 255, "linf", "below one step of 8 bits"),
        (math.nan, "linf", "below one step of 8 bits"),
        (0.5, "linf", "reaches mid-grey"),
        (1.0, "linf", 'try eps = "8/255"$'),
        (3.0, "l2", "reaches mid-grey"),
        (3.0, "l2", r"try eps = 0\.\d+$"),  # as large for every value as 8/255 in linf
    ],
)
def test_a_radius_that_protects_nothing_or_everything_is_refused(
    eps: float, norm: Norm, expected: str
) -> None:
    x = on_grid(linear.points(2)[0])
    with pytest.raises(InputError, match=expected):
        protect(x, [linear.model()], eps=eps, norm=norm)


def test_what_makes_no_sense_is_refused() -> None:
    x = on_grid(linear.points(2)[0])
    with pytest.raises(InputError, match="no model"):
        protect(x, [])
    with pytest.raises(InputError, match="not on the grid"):
        protect(x + 0.001, [linear.model()])
    assert protect(x[:0], [linear.model()]).shape == (0, *linear.SHAPE)


def test_a_step_of_eight_bits_is_kept_by_rounding() -> None:
    assert grid_radius(8 / 255, "linf", 1) == 8 / 255
    assert grid_radius(0.03, "linf", 1) == 7 / 255
    assert grid_radius(1 / 255, "linf", 1) == 1 / 255


def checkers() -> nn.Module:
    """It adds up a checkerboard, which JPEG takes away, and a third as much of the brightness."""
    places = torch.arange(16)
    board = ((places[:, None] + places) % 2 * 2 - 1).float()
    network = nn.Linear(256, 2)
    with torch.no_grad():
        network.weight.zero_()
        network.weight[0] = (board + 0.3).flatten()
        # at mid-grey ahead by half of what brightness alone can take away with 16 steps
        network.bias.copy_(torch.tensor([0.5 * 0.3 * 256 * 16 / 255 - 0.3 * 256 * 128 / 255, 0.0]))
    return nn.Sequential(nn.Flatten(), network).eval()


def test_noise_outlasts_what_it_is_made_for() -> None:
    """The steepest noise is the board, and JPEG undoes it; brightness alone is enough for both."""
    x = on_grid(torch.full((1, 1, 16, 16), 0.5))
    model, step = checkers(), Jpeg(10)
    assert model(x).argmax(1) == model(step(x)).argmax(1) == 0
    control, made = (protect(x, [model], eps=16 / 255, survive=s) for s in ((), (step,)))
    assert model(control).argmax(1) == model(made).argmax(1) == 1
    assert model(step(control)).argmax(1) == 0
    assert model(step(made)).argmax(1) == 1


@pytest.mark.parametrize("change", [1 / 255, 0.1, 0.5])
def test_psnr_of_a_constant_shift_is_known(change: float) -> None:
    x = torch.full((3, 12, 12), 0.25)
    assert psnr(x, x + change) == pytest.approx(-20 * math.log10(change), abs=1e-4)
    assert psnr(x, x) == math.inf


def test_ssim_is_as_published() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 24, 30, generator=generator)
    y = (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    assert ssim(x, x) == pytest.approx(1, abs=1e-12)
    assert ssim(x, y) == pytest.approx(_plain_ssim(x.numpy(), y.numpy()), abs=1e-9)
    # flat pictures: only the luminance term is left
    low, high = torch.full((1, 11, 11), 0.2), torch.full((1, 11, 11), 0.6)
    expected = (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert ssim(low, high) == pytest.approx(expected, abs=1e-6)
    assert ssim(x[:, :6], y[:, :6]) is None


def _plain_ssim(x: numpy.ndarray, y: numpy.ndarray) -> float:
    """Wang et al. 2004, equations 13 to 16, window by window."""
    place = numpy.arange(11) - 5
    row = numpy.exp(-(place**2) / (2 * 1.5**2))
    window = numpy.outer(row, row) / numpy.outer(row, row).sum()
    values = []
    for one, other in zip(x.astype(float), y.astype(float), strict=True):
        for i in range(one.shape[0] - 10):
            for j in range(one.shape[1] - 10):
                a, b = one[i : i + 11, j : j + 11], other[i : i + 11, j : j + 11]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                both = (window * (a - ma) * (b - mb)).sum()
                values.append(
                    (2 * ma * mb + 1e-4) * (2 * both + 9e-4)
                    / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
                )  # fmt: skip
    return float(numpy.mean(values))


@pytest.mark.parametrize("name", COUNTERMEASURES)
def test_every_countermeasure_keeps_a_grey_picture_and_has_a_gradient(name: str) -> None:
    step = countermeasure(name, {})
    grey = torch.full((2, 3, 16, 20), 128 / 255)
    levels = 1 / 15 if name == "bit-depth" else 1e-2
    assert (step(grey) - grey).abs().max() <= levels
    x = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    step(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).any()


def test_a_blur_is_that_of_scipy() -> None:
    from scipy.ndimage import gaussian_filter

    x = torch.rand(1, 1, 20, 23, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter(x[0, 0].numpy(), 1.0, mode="nearest", truncate=3.0)
    assert Blur(1.0)(x)[0, 0].numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("jpg", {}, 'unknown countermeasure "jpg": did you mean "jpeg"'),
        ("jpeg", {"quality": 0}, "whole number from 1 to 100"),
        ("resize", {"scale": 1.0}, "above 0 and below 1"),
        ("blur", {"sigma": 0.0}, "above 0"),
        ("median", {"width": 3}, "it takes size"),
    ],
)
def test_wrong_countermeasures_are_explained(
    name: str, options: dict[str, float], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        countermeasure(name, options)


def test_a_recogniser_sees_what_pillow_would_show_it() -> None:
    """Resized as Pillow does, to one step of 8 bits; grey as Pillow has it."""
    generator = numpy.random.default_rng(0)
    pixels = generator.integers(0, 256, (41, 53, 3), dtype=numpy.uint8)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    picture = Image.fromarray(pixels)
    small = numpy.asarray(picture.resize((16, 12), Image.Resampling.BILINEAR), dtype=float) / 255
    seen = Seen(nn.Identity(), 3, (12, 16)).shown(x)[0].permute(1, 2, 0).numpy()
    assert numpy.abs(seen - small).max() < 1.5 / 255
    grey = numpy.asarray(picture.convert("L"), dtype=float) / 255
    assert numpy.abs(Seen(nn.Identity(), 1, None).shown(x)[0, 0].numpy() - grey).max() < 1.01 / 255


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def noisy(*shape: int) -> numpy.ndarray:
    return numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)


def test_pictures_are_read_upright_and_keep_their_colours(tmp_path: Path) -> None:
    pixels = noisy(5, 7, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    turned = read(saved(tmp_path / "t.png", Image.fromarray(pixels), exif=exif), "t.png")
    upright = numpy.rot90(pixels, -1)
    assert numpy.array_equal(turned.pixels.permute(1, 2, 0).numpy(), upright)
    again = read(io.BytesIO(encode(turned, turned.pixels, "t.png")), "again")
    assert torch.equal(again.pixels, turned.pixels)
    grey = read(saved(tmp_path / "g.png", Image.fromarray(pixels[..., 0])), "g.png")
    assert grey.pixels.shape == (1, 5, 7)
    opaque = Image.fromarray(pixels).convert("RGBA")
    assert torch.equal(
        read(saved(tmp_path / "o.png", opaque), "o").pixels.permute(1, 2, 0),
        torch.from_numpy(pixels),
    )
    palette = Image.fromarray(pixels).quantize(8)
    colours = numpy.asarray(palette.convert("RGB"))
    assert numpy.array_equal(
        read(saved(tmp_path / "p.png", palette), "p").pixels.permute(1, 2, 0).numpy(), colours
    )
    two = Image.fromarray(pixels[..., 0] > 128)
    assert set(read(saved(tmp_path / "b.png", two), "b").pixels.unique().tolist()) == {0, 255}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tif", ".ppm"])
def test_lossless_formats_give_back_every_pixel(suffix: str) -> None:
    pixels = torch.from_numpy(noisy(3, 9, 8))
    picture = picture_files.StoredPicture(name=f"a{suffix}", pixels=pixels, profile=b"abc")
    stored = io.BytesIO(encode(picture, pixels, picture.name))
    assert torch.equal(read(stored, "a").pixels, pixels)


def _transparent(path: Path) -> Path:
    return saved(path, Image.fromarray(noisy(4, 4, 4)))


def _deep(path: Path) -> Path:
    return saved(path, Image.fromarray(noisy(4, 4).astype(numpy.uint16) * 257))


def _deep_colour(path: Path) -> Path:
    """RGB with 16 bits, which Pillow reads and cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_)

    rows = b"".join(b"\0" + bytes(noisy(4 * 6)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


def _moving(path: Path) -> Path:
    frames = [Image.fromarray(noisy(4, 4, 3) // (i + 1)) for i in range(2)]
    return saved(path, frames[0], save_all=True, append_images=frames[1:])


def _cmyk(path: Path) -> Path:
    return saved(path.with_suffix(".jpg"), Image.fromarray(noisy(4, 4, 3)).convert("CMYK"))


def _broken(path: Path) -> Path:
    path.write_bytes(b"no picture")
    return path


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_transparent, "transparent in places"),
        (_deep, "more than 8 bits"),
        (_deep_colour, "more than 8 bits"),
        (_moving, "holds 2 frames"),
        (_cmyk, "is in CMYK"),
        (_broken, "cannot read the picture"),
    ],
)
def test_pictures_that_are_not_understood_are_refused(
    make: object, expected: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "a.png")  # type: ignore[operator]
    with pytest.raises(InputError, match=expected):
        find([path.name], tmp_path)


def test_pictures_are_found_in_folders_files_and_data(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.JPG", ".hidden/c.png", "sub/note.txt"):
        if name.endswith("txt"):
            (tmp_path / "in" / name).write_text("x")
        else:
            saved(tmp_path / "in" / name, Image.fromarray(noisy(4, 5, 3)))
    assert [p.name for p in find(["in"], tmp_path)] == ["b.png", "sub/a.JPG"]
    assert [p.name for p in find(["in/sub/a.JPG"], tmp_path)] == ["a.JPG"]
    digits = find(["demo:digits"])
    assert (len(digits), digits[3].name, digits[0].pixels.shape) == (597, "000003.png", (1, 8, 8))
    for specs, expected in [
        (["in/sub/note.txt"], "no image data"),
        (["nowhere"], "no pictures at nowhere"),
        (["in", "in/b.png"], r"in/b\.png is named twice: name it once"),
        (["in", "in/sub", "in/sub/a.JPG"], r"in/sub/a\.JPG is named twice"),
    ]:
        with pytest.raises(InputError, match=expected):
            find(specs, tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        find(["none"], tmp_path)
    saved(tmp_path / "in" / "b.jpg", Image.fromarray(noisy(4, 5, 3)))
    with pytest.raises(
        InputError, match=r"in/b\.png and \S*in/b\.jpg would both be written as b\.png"
    ):
        find(["in"], tmp_path)


def test_names_are_kept() -> None:
    assert written_name("a.b/c.d.jpeg", "png") == "a.b/c.d.png"
    assert written_name("a.b/c.d.jpeg", "keep") == "a.b/c.d.jpeg"


def test_a_format_of_few_colours_is_not_kept() -> None:
    pixels = torch.from_numpy(noisy(3, 4, 4))
    picture = picture_files.StoredPicture(name="a.gif", pixels=pixels)
    with pytest.raises(InputError, match="does not hold every colour"):
        encode(picture, pixels, "a.gif")


def test_grey_pictures_are_shown_in_colour_to_a_network_of_three_channels() -> None:
    grey = [torch.rand(1, 8, 8)]
    one = recognisers.load(RecogniserSpec(model="demo:digits"), grey)
    assert one.module.channels == 1
    three = recognisers.load(RecogniserSpec(model="test_protect:coloured"), grey)
    assert three.module.channels == 3
    with pytest.raises(InputError, match="cannot read images of 3×8×8"):
        recognisers.load(RecogniserSpec(model="test_protect:five"), [torch.rand(3, 8, 8)])
    sizes = [torch.rand(1, 8, 8), torch.rand(1, 12, 8)]
    with pytest.raises(InputError, match="cannot see a picture of 12×8 pixels"):
        recognisers.load(RecogniserSpec(model="demo:digits"), sizes)
    resized = recognisers.load(RecogniserSpec(model="demo:digits", image_size=(8, 8)), sizes)
    assert resized.module(sizes[1][None]).shape == (1, 10)


def coloured() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))


def five() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(5 * 8 * 8, 4))
