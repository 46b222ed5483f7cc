"""Corruptions against closed forms, SciPy, Pillow and the published procedures."""

import io
import math
from itertools import pairwise
from typing import Any

import numpy
import pytest
import scipy.ndimage
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.robustness.corruption_blur import disk, moved, scrambled, trail
from assaymark.robustness.corruption_digital import elastic_transform
from assaymark.robustness.corruption_edges import away_from, edges, equalized
from assaymark.robustness.corruption_filters import border_places, gaussian, zoomed
from assaymark.robustness.corruption_frost import TEXTURES, textures
from assaymark.robustness.corruption_noise import poisson_counts
from assaymark.robustness.corruption_severities import SEVERITIES as CONSTANTS
from assaymark.robustness.corruption_severities import constants
from assaymark.robustness.corruption_weather import plasma
from assaymark.robustness.corruptions import CORRUPTIONS, MAIN, SEVERITIES, corrupt
from assaymark.robustness.streams import Streams

SIZES = [(3, 8, 8), (1, 8, 8), (3, 32, 32), (1, 32, 32), (3, 64, 48), (1, 48, 64)]


def pictures(n: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth coloured shapes with edges and a little texture, so that nothing is without effect."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 4, 4, generator=generator)
    x = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    x[:, :, height // 4 : height // 2, width // 3 : 2 * width // 3] += 0.3
    return (0.9 * x + 0.1 * torch.rand(x.shape, generator=generator)).clamp(0, 1)


def streams(n: int, seed: int = 0) -> Streams:
    return Streams.of(seed, "test", list(range(n)))


def test_the_table_holds_the_published_names() -> None:
    assert len(MAIN) == 15
    assert list(CORRUPTIONS)[15:] == ["speckle_noise", "gaussian_blur", "spatter", "saturate"]
    assert set(CONSTANTS) == set(CORRUPTIONS)
    assert all(len(five) == 5 for both in CONSTANTS.values() for five in both)


@pytest.mark.parametrize(
    ("name", "severity", "side", "expected"),
    [
        ("gaussian_noise", 3, 224, (0.18,)),
        ("gaussian_noise", 3, 32, (0.08,)),
        ("jpeg_compression", 5, 65, (7,)),
        ("jpeg_compression", 5, 64, (40,)),
        ("glass_blur", 2, 299, (0.9, 2, 1)),
        ("snow", 5, 32, (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
    ],
)
def test_large_images_take_the_constants_of_imagenet_c_and_small_ones_of_cifar_10_c(
    name: str, severity: int, side: int, expected: tuple[float, ...]
) -> None:
    assert constants(name, severity, 16, side) == expected


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_keeps_the_form_and_changes_the_content(
    name: str, shape: tuple[int, int, int]
) -> None:
    x = pictures(3, *shape)
    before = x.clone()
    for severity in SEVERITIES:
        y = corrupt(x, name, severity, streams(3))
        assert y.shape == x.shape
        assert y.dtype == x.dtype
        assert torch.equal(x, before)
        assert float(y.min()) >= 0
        assert float(y.max()) <= 1
        if shape[0] == 1 and CORRUPTIONS[name].colour_only:
            assert torch.equal(y, x)
        elif name == "defocus_blur" and severity == 4 and max(shape) <= 64:
            # the published radius of 1 with a smoothing of 0.2 is a cross of five pixels
            assert float((y - x).abs().mean()) > 1e-4
        else:
            assert not torch.equal(y, x)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_large_pictures_work(name: str) -> None:
    x = pictures(2, 3, 224, 224)
    y = corrupt(x, name, 3, streams(2))
    assert y.shape == x.shape
    assert float((y - x).abs().mean()) > 1e-3


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 8, 8), (1, 9, 13), (3, 11, 7), (3, 80, 71), (1, 75, 70)], ids=str
)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(name: str, shape: tuple[int, int, int]) -> None:
    x, five = pictures(5, *shape), streams(5)
    together = corrupt(x, name, 4, five)
    for i in range(5):
        alone = corrupt(x[i : i + 1], name, 4, Streams.of(0, "test", [i]))
        assert torch.equal(alone[0], together[i])
    turned = torch.tensor([3, 1, 4])
    assert torch.equal(corrupt(x[turned], name, 4, five.select(turned)), together[turned])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_seed_says_everything(name: str) -> None:
    x = pictures(2, 3, 32, 32)
    once, again, other = (corrupt(x, name, 3, streams(2, seed)) for seed in (0, 0, 1))
    assert torch.equal(once, again)
    same_for_all = {
        "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression",
        "gaussian_blur", "saturate",
    }  # fmt: skip
    assert torch.equal(once, other) is (name in same_for_all)
    layout = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(corrupt(layout, name, 3, streams(2)), once)
    double = corrupt(x.double(), name, 3, streams(2))
    assert double.dtype == torch.float64
    assert torch.equal(double.float(), once)


# In the published tables these do not grow from each severity to the next.
UNEVEN = {"elastic_transform", "saturate", "glass_blur", "frost", "spatter", "snow", "defocus_blur"}


@pytest.mark.parametrize("side", [32, 96])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_with_severity(name: str, side: int) -> None:
    x = pictures(16, 3, side, side)
    distances = [
        float((corrupt(x, name, severity, streams(16)) - x).abs().mean()) for severity in SEVERITIES
    ]
    if name not in UNEVEN | {"fog"}:
        # the size of blocks that fit badly decides too
        assert all(later > 0.99 * earlier for earlier, later in pairwise(distances))
        assert distances[4] > distances[0]
    elif name != "elastic_transform":
        assert max(distances[3:]) > distances[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_no_images_are_corrupted_to_no_images(name: str) -> None:
    assert corrupt(torch.empty(0, 3, 8, 8), name, 1, streams(0)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    "name", [name for name in CORRUPTIONS if name not in ("jpeg_compression", "shot_noise")]
)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_flat_pictures_stay_finite(name: str, value: float) -> None:
    x = torch.full((2, 3, 16, 16), value)
    assert torch.isfinite(corrupt(x, name, 5, streams(2))).all()


@pytest.mark.parametrize(
    ("x", "name", "severity", "expected"),
    [
        (torch.zeros(1, 3, 8, 8), "fogg", 1, 'unknown corruption "fogg": did you mean "fog"?'),
        (torch.zeros(1, 3, 8, 8), "fog", 0, "from 1 to 5, got 0"),
        (torch.zeros(1, 4, 8, 8), "fog", 1, "1 or 3 channels, got images of 4"),
        (torch.full((1, 3, 8, 8), 200.0), "fog", 1, "divide 8-bit images by 255"),
        (torch.full((1, 3, 8, 8), math.nan), "fog", 1, "pixels must lie in [0, 1]"),
        (torch.zeros(2, 3, 8, 8), "fog", 1, "got 1 for 2 images"),
    ],
    ids=["name", "severity", "channels", "range", "nan", "streams"],
)
def test_wrong_input_is_explained(x: Tensor, name: str, severity: int, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        corrupt(x, name, severity, streams(1))
    assert expected in str(caught.value)


# Noise


def test_the_noises_have_their_variance() -> None:
    x = torch.full((40, 3, 96, 96), 0.5)
    many = streams(40)
    assert float((corrupt(x, "gaussian_noise", 1, many) - x).std()) == pytest.approx(0.08, rel=0.01)
    speckled = corrupt(x, "speckle_noise", 1, many) - x
    assert float(speckled.std()) == pytest.approx(0.5 * 0.15, rel=0.01)
    broken = corrupt(x, "impulse_noise", 5, many)
    assert float((broken == 1).float().mean()) == pytest.approx(0.135, rel=0.02)
    assert float((broken == 0).float().mean()) == pytest.approx(0.135, rel=0.02)


@pytest.mark.parametrize("value", [0.0, 1 / 255, 0.5001, 100 / 255, 1.0])
@pytest.mark.parametrize("scale", [3.0, 60.0, 500.0])
def test_photons_follow_the_poisson_distribution(scale: float, value: float) -> None:
    x = torch.full((10, 1, 64, 64), value)
    counts = poisson_counts(x, scale, streams(10)).flatten().numpy()
    mean = scale * float(x[0, 0, 0, 0])
    assert counts.mean() == pytest.approx(mean, abs=4 * math.sqrt(mean / counts.size) + 1e-9)
    if mean == 0:
        return
    low, high = (int(stats.poisson.ppf(q, mean)) for q in (0.02, 0.98))
    bins = numpy.arange(low, high + 1)
    seen = numpy.array([(counts <= low).sum(), *((counts == k).sum() for k in bins[1:])])
    seen = numpy.append(seen, counts.size - seen.sum())
    inner = [stats.poisson.cdf(low, mean), *stats.poisson.pmf(bins[1:], mean)]
    chances = numpy.array([*inner, 1 - sum(inner)])
    kept = chances * counts.size > 5
    test = stats.chisquare(seen[kept], chances[kept] / chances[kept].sum() * seen[kept].sum())
    assert test.pvalue > 1e-3


# Blur


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("border", ["nearest", "reflect"])
def test_the_gaussian_is_that_of_scipy(sigma: float, border: Any) -> None:
    x = pictures(1, 1, 40, 28)
    ours = gaussian(x, sigma, border=border)[0, 0].numpy()
    theirs = scipy.ndimage.gaussian_filter(x[0, 0].numpy().astype(float), sigma, mode=border)
    numpy.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("border", ["nearest", "reflect", "mirror"])
def test_borders_are_those_of_scipy(border: str) -> None:
    wide = numpy.pad(
        numpy.arange(5), 13, {"nearest": "edge", "reflect": "symmetric"}.get(border, "reflect")
    )  # type: ignore[call-overload]
    assert border_places(5, 13, 13, border).tolist() == wide.tolist()  # type: ignore[arg-type]


def test_a_disk_of_radius_3_covers_29_pixels_evenly() -> None:
    kernel = disk(3.0, 0.1)
    assert int((kernel > 1e-6).sum()) == 29
    assert float(kernel.max()) == pytest.approx(1 / 29)
    assert all(
        float(disk(*map(float, c)).sum()) == pytest.approx(1, abs=1e-5)
        for c in CONSTANTS["defocus_blur"][1]
    )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_a_convolution_with_the_disk(severity: int) -> None:
    x = pictures(1, 1, 70, 90)
    kernel = disk(*constants("defocus_blur", severity, 70, 90)).numpy()
    ours = corrupt(x, "defocus_blur", severity, streams(1))[0, 0].numpy()
    theirs = scipy.ndimage.correlate(x[0, 0].numpy(), kernel, mode="mirror")
    numpy.testing.assert_allclose(ours, theirs, atol=3e-6)


def test_a_trail_sums_to_one_and_keeps_flat_pictures() -> None:
    assert sum(trail(15.0, 8.0)) == pytest.approx(1)
    flat = torch.full((2, 3, 20, 20), 0.3)
    torch.testing.assert_close(moved(flat, 15.0, 8.0, [-45.0, 30.0]), flat)


@pytest.mark.parametrize(("angle", "down", "right"), [(0.0, 0, 1), (90.0, 1, 0), (-45.0, -1, 1)])
def test_a_point_leaves_its_trail_in_the_direction_of_the_angle(
    angle: float, down: int, right: int
) -> None:
    x = torch.zeros(1, 1, 41, 41)
    x[0, 0, 20, 20] = 1
    weights = trail(4.0, 2.0)
    smeared = moved(x, 4.0, 2.0, [angle])
    for i in range(3):
        step = round(i * (math.sqrt(0.5) if down and right else 1))
        place = smeared[0, 0, 20 - step * down, 20 - step * right]
        assert float(place) >= weights[i] - 1e-6
    assert float(smeared.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("side", [32, 75, 224])
@pytest.mark.parametrize("factor", [1.0, 1.01, 1.15, 1.3, 2.0, 4.5])
def test_a_zoom_is_the_published_one(factor: float, side: int) -> None:
    """Cut out the middle, magnify with scipy.ndimage.zoom, trim (hendrycks/robustness)."""
    image = pictures(1, 1, side, side)
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    middle = image[0, 0, top : top + kept, top : top + kept].numpy().astype(float)
    large = scipy.ndimage.zoom(middle, factor, order=1, mode="nearest")
    trim = (len(large) - side) // 2
    expected = large[trim : trim + side, trim : trim + side]
    numpy.testing.assert_allclose(zoomed(image, factor)[0, 0].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("height", "width", "reach", "rounds"), [(9, 12, 1, 2), (17, 13, 2, 3), (24, 20, 4, 2)]
)
def test_moves_behind_glass_are_those_of_the_published_loop(
    height: int, width: int, reach: int, rounds: int
) -> None:
    """Pixel by pixel, from the lower right, each copying a neighbour as it stands by then."""
    from assaymark.robustness.corruption_blur import _wavefronts

    two = streams(2)
    taken = scrambled(2, height, width, reach, rounds, two, torch.device("cpu"))
    cells, bounds, rank = _wavefronts(height, width, reach)
    for image in range(2):
        standing = numpy.arange(height * width).reshape(height, width)
        for number in range(rounds):
            drawn = two.uniform(torch.empty(2, bounds[-1]), f"move/{number}")[image]
            choice = (drawn * (2 * reach) ** 2).long()
            for h in range(height - reach, reach, -1):
                for w in range(width - reach, reach, -1):
                    chosen = int(choice[rank[h * width + w]])
                    dy, dx = chosen // (2 * reach) - reach, chosen % (2 * reach) - reach
                    standing[h, w] = standing[h + dy, w + dx]
        assert taken[image].tolist() == standing.flatten().tolist()
    assert sorted(cells.tolist()) == list(range(height * width))


# Weather


def test_a_plasma_has_the_roughness_of_diamond_square() -> None:
    """Fills [0, 1], wraps round, and is smoother for a larger decay."""
    rough, smooth = (plasma(64, decay, streams(8), torch.device("cpu")) for decay in (1.4, 3.0))
    for field in (rough, smooth):
        assert torch.equal(field.amin((1, 2)), torch.zeros(8))
        assert torch.equal(field.amax((1, 2)), torch.ones(8))
    steps = [float((f - f.roll(1, 1)).abs().mean()) for f in (rough, smooth)]
    assert steps[1] < steps[0] / 2
    seam = float((smooth[:, 0] - smooth[:, -1]).abs().mean())
    assert seam < 4 * steps[1]


def test_fog_keeps_the_brightest_value_as_its_bound() -> None:
    x = 0.4 * pictures(4, 3, 32, 32)
    assert float(corrupt(x, "fog", 5, streams(4)).max()) <= float(x.max()) + 1e-6


def test_textures_of_ice_are_like_photographs_of_ice() -> None:
    ice = textures(128)
    assert ice.shape == (TEXTURES, 3, 128, 128)
    # the six published photographs have means of 0.28 to 0.84 and deviations of 0.06 to 0.19
    means, deviations = ice.mean((2, 3)), ice.std((2, 3))
    assert bool(((means > 0.28) & (means < 0.84)).all())
    assert bool(((deviations > 0.06) & (deviations < 0.19)).all())
    assert bool((means[:, 2] >= means[:, 0]).all())
    assert float((ice[0] - ice[1]).abs().mean()) > 0.05


def test_edges_of_a_square_are_its_outline() -> None:
    x = torch.zeros(1, 1, 20, 20)
    x[..., 5:15, 5:15] = 200
    found = edges(x, 50.0, 150.0)[0, 0]
    rows, columns = found.nonzero().T
    assert bool(((rows - 9.5).abs().maximum((columns - 9.5).abs()) <= 5.5).all())
    assert not found[7:13, 7:13].any()
    assert found[9, :8].any()
    assert found[:8, 9].any()


def test_weak_edges_count_only_beside_strong_ones() -> None:
    x = torch.zeros(2, 1, 12, 24)
    x[:, :, :, 12:] = torch.linspace(20, 60, 12)[:, None]  # Sobel: 80 at the top, 240 below
    x[1] = x[1].clamp_max(35)  # never strong
    assert edges(x, 50.0, 150.0)[0, 0, :, 11:13].any(1).all()
    assert not edges(x, 50.0, 150.0)[1].any()


def test_distances_are_euclidean_and_end_at_the_bound() -> None:
    edge = torch.rand(3, 1, 40, 50, generator=torch.Generator().manual_seed(0)) > 0.99
    edge[2] = False
    ours = away_from(edge, 20)
    for i in range(2):
        exact = scipy.ndimage.distance_transform_edt(~edge[i, 0].numpy()).clip(max=20)
        numpy.testing.assert_allclose(ours[i, 0].numpy(), exact, atol=1e-5)
    assert bool((ours[2] == 20).all())


def test_an_equal_histogram() -> None:
    x = torch.tensor([[0.0, 0, 1, 2], [7, 7, 7, 7]]).view(2, 1, 1, 4)
    # (cumulated - first) · 255 / (all - first); a flat picture stays
    assert equalized(x).flatten(1).tolist() == [[0, 0, 128, 255], [7, 7, 7, 7]]


# Digital


def hsv(x: Tensor) -> Tensor:
    import colorsys

    planes = x.permute(0, 2, 3, 1).double().reshape(-1, 3)
    return torch.tensor([colorsys.rgb_to_hsv(*pixel) for pixel in planes.tolist()])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(severity: int) -> None:
    import colorsys

    x = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    x[0, :, 0, 0], x[0, :, 0, 1] = 0.0, 0.6  # black and grey
    (raise_by,) = constants("brightness", severity, 9, 9)
    factor, plus = constants("saturate", severity, 9, 9)
    brighter, stronger = [], []
    for hue, saturation, value in hsv(x).tolist():
        brighter.append(colorsys.hsv_to_rgb(hue, saturation, min(1, value + raise_by)))
        stronger.append(colorsys.hsv_to_rgb(hue, min(1, saturation * factor + plus), value))
    for name, expected in (("brightness", brighter), ("saturate", stronger)):
        ours = corrupt(x, name, severity, streams(2)).permute(0, 2, 3, 1).reshape(-1, 3)
        torch.testing.assert_close(ours, torch.tensor(expected), atol=2e-6, rtol=0)


def test_contrast_is_drawn_to_the_mean_of_each_channel() -> None:
    x = pictures(2, 3, 32, 32)
    mean = x.mean((2, 3), keepdim=True)
    expected = ((x - mean) * 0.15 + mean).clamp(0, 1)
    torch.testing.assert_close(corrupt(x, "contrast", 5, streams(2)), expected)


def test_large_pixels_are_block_means() -> None:
    x = pictures(1, 3, 96, 80)
    blocks = x.view(1, 3, 48, 2, 40, 2).mean((3, 5))  # severity 2 halves the sides
    expected = blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(corrupt(x, "pixelate", 2, streams(1)), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (224, 224), (100, 65)])
def test_large_pixels_are_those_of_pillow(severity: int, height: int, width: int) -> None:
    pixels = (pictures(1, 3, height, width) * 255).round()
    image = Image.fromarray(pixels[0].byte().permute(1, 2, 0).numpy())
    (share,) = constants("pixelate", severity, height, width)
    box = Image.Resampling.BOX
    small = image.resize((int(width * share), int(height * share)), box)
    expected = numpy.asarray(small.resize((width, height), box))
    ours = corrupt(pixels / 255, "pixelate", severity, streams(1))[0].permute(1, 2, 0) * 255
    assert numpy.abs(ours.numpy() - expected).max() <= 1.01  # Pillow rounds twice


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_pillow(channels: int) -> None:
    pixels = (pictures(1, channels, 32, 24) * 255).round().byte()
    array = pixels[0].permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(array[:, :, 0] if channels == 1 else array).save(stream, "JPEG", quality=58)
    expected = numpy.asarray(Image.open(stream)).reshape(array.shape)
    ours = corrupt(pixels.float() / 255, "jpeg_compression", 3, streams(1))
    assert torch.equal((ours[0] * 255).round().byte().permute(1, 2, 0), torch.tensor(expected))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 56)])
def test_warping_is_an_affine_map_and_then_map_coordinates(height: int, width: int) -> None:
    x, one = pictures(1, 1, height, width), streams(1)
    side = min(height, width)
    c = (0.08, 0.06, 0.06)
    ours = elastic_transform(x, c, one)[0, 0].numpy()
    half, middle = side // 3, numpy.array([width // 2, height // 2], float)
    corners = middle + half * numpy.array([[1, 1], [1, -1], [-1, -1]], float)
    drawn = one.uniform(torch.empty(1, 3, 2), "corners")[0].double().numpy()
    ends = corners + c[2] * side * (2 * drawn - 1)
    ones = numpy.ones((3, 1))
    back = numpy.linalg.solve(numpy.hstack([ends, ones]), corners)  # end @ back = corner
    rows, columns = numpy.meshgrid(numpy.arange(height), numpy.arange(width), indexing="ij")
    points = numpy.stack([columns, rows, numpy.ones_like(rows)], -1) @ back
    image = x[0, 0].numpy().astype(float)
    warped = scipy.ndimage.map_coordinates(
        image, [points[..., 1], points[..., 0]], order=1, mode="mirror"
    )
    noise = one.uniform(torch.empty(1, 2, height, width), "waves")[0].double().numpy()
    waves = [
        scipy.ndimage.gaussian_filter(2 * plane - 1, c[1] * side, mode="reflect", truncate=3)
        * c[0] * side
        for plane in noise
    ]  # fmt: skip
    expected = scipy.ndimage.map_coordinates(
        warped, [rows + waves[1], columns + waves[0]], order=1, mode="reflect"
    )
    numpy.testing.assert_allclose(ours, expected, atol=2e-4)
