"""The patches a user can name: a sticker anywhere in the image, and the frame of a pair of eyeglasses."""

from torch import Tensor

from assaymark.robustness.patch_placing import SHAPES, Scene, Shape
from assaymark.robustness.patches import Plan, Training, learn, make_each
from assaymark.robustness.printing import Palette
from assaymark.robustness.scene_types import Change, Learned, at_least
from assaymark.robustness.streams import Streams
from assaymark.robustness.types import Images, Labels, Model


def patch(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    area: float = 0.1,
    shape: str = "circle",
    centre_across: float | None = None,
    centre_down: float | None = None,
    max_shift: float = 0.05,
    max_rotation: float = 20.0,
    max_scale: float = 0.1,
    max_brightness: float = 0.1,
    max_contrast: float = 0.1,
    noise: float = 0.02,
    steps: int = 300,
    rate: float = 0.05,
    batch: int = 64,
    smoothness: float = 0.0,
    printability: float = 0.0,
    palette: Palette | None = None,
    placements: int = 1,
    resolution: int | None = None,
) -> Learned:
    """One patch for every image (https://arxiv.org/abs/1712.09665), learned from training images.

    area: share of the image, in (0, 1], before max_scale changes its width by up to that fraction. shape:
    circle or square. centre_across, centre_down: fractions of the image where the patch stands, up to
    max_shift off; without them anywhere inside. max_rotation in degrees; max_brightness and max_contrast
    as fractions of the pixel range; noise: of pixels while training. smoothness and printability: weights
    of total variation and of the distance to the palette's nearest colour. placements: so many random
    places are tried on each image. resolution: width of the patch in its own pixels.
    """
    plan = Plan(
        scene=_scene(
            x, area, shape, centre_across, centre_down, max_shift, max_rotation, max_scale,
            max_brightness, max_contrast, noise,
        ),
        training=Training(
            steps=steps, rate=rate, batch=batch, smoothness=smoothness, printability=printability,
            palette=palette,
        ),
        placements=placements,
        resolution=resolution,
        tag="patch",
    )  # fmt: skip
    return learn(model, x, y, plan, targeted=targeted, streams=streams)


def patch_each(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    area: float = 0.1,
    shape: str = "circle",
    centre_across: float | None = None,
    centre_down: float | None = None,
    max_shift: float = 0.05,
    max_rotation: float = 20.0,
    max_scale: float = 0.1,
    max_brightness: float = 0.1,
    max_contrast: float = 0.1,
    noise: float = 0.02,
    steps: int = 100,
    rate: float = 0.05,
    smoothness: float = 0.0,
    printability: float = 0.0,
    palette: Palette | None = None,
    placements: int = 1,
    resolution: int | None = None,
) -> Change:
    """A patch of its own for every image; the options are those of `patch`."""
    plan = Plan(
        scene=_scene(
            x, area, shape, centre_across, centre_down, max_shift, max_rotation, max_scale,
            max_brightness, max_contrast, noise,
        ),
        training=Training(
            steps=steps, rate=rate, batch=1, smoothness=smoothness, printability=printability,
            palette=palette,
        ),
        placements=placements,
        resolution=resolution,
        tag="patch-each",
    )  # fmt: skip
    return make_each(model, x, y, plan, targeted=targeted, streams=streams)


def eyeglasses(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    width: float = 0.8,
    rim_height: float = 0.35,
    thickness: float = 0.06,
    centre_across: float = 0.5,
    centre_down: float = 0.4,
    max_shift: float = 0.02,
    max_rotation: float = 3.0,
    max_scale: float = 0.03,
    max_brightness: float = 0.1,
    max_contrast: float = 0.1,
    noise: float = 0.02,
    steps: int = 300,
    rate: float = 0.05,
    batch: int = 64,
    smoothness: float = 0.05,
    printability: float = 0.05,
    palette: Palette | None = None,
    placements: int = 1,
    resolution: int | None = None,
) -> Learned:
    """One pair of frames for every image (https://dl.acm.org/doi/10.1145/2976749.2978392, section 5).

    width: of the frames, as a fraction of the image's. rim_height and thickness: as fractions of the
    frames' width. centre_across, centre_down: where the bridge sits, in fractions of the image. The other
    options are those of `patch`, with small movements as of a face in front of a camera. Images of one
    channel have grey frames; with other numbers than 1 and 3 set printability = 0.
    """
    plan = Plan(
        scene=_glasses_scene(
            width, rim_height, thickness, centre_across, centre_down, max_shift, max_rotation,
            max_scale, max_brightness, max_contrast, noise,
        ),
        training=Training(
            steps=steps, rate=rate, batch=batch, smoothness=smoothness, printability=printability,
            palette=palette,
        ),
        placements=placements,
        resolution=resolution,
        tag="eyeglasses",
    )  # fmt: skip
    return learn(model, x, y, plan, targeted=targeted, streams=streams)


def eyeglasses_each(
    model: Model,
    x: Images,
    y: Labels,
    *,
    targeted: bool = False,
    streams: Streams | None = None,
    width: float = 0.8,
    rim_height: float = 0.35,
    thickness: float = 0.06,
    centre_across: float = 0.5,
    centre_down: float = 0.4,
    max_shift: float = 0.02,
    max_rotation: float = 3.0,
    max_scale: float = 0.03,
    max_brightness: float = 0.1,
    max_contrast: float = 0.1,
    noise: float = 0.02,
    steps: int = 100,
    rate: float = 0.05,
    smoothness: float = 0.05,
    printability: float = 0.05,
    palette: Palette | None = None,
    placements: int = 1,
    resolution: int | None = None,
) -> Change:
    """Frames of its own for every image; the options are those of `eyeglasses`."""
    plan = Plan(
        scene=_glasses_scene(
            width, rim_height, thickness, centre_across, centre_down, max_shift, max_rotation,
            max_scale, max_brightness, max_contrast, noise,
        ),
        training=Training(
            steps=steps, rate=rate, batch=1, smoothness=smoothness, printability=printability,
            palette=palette,
        ),
        placements=placements,
        resolution=resolution,
        tag="eyeglasses-each",
    )  # fmt: skip
    return make_each(model, x, y, plan, targeted=targeted, streams=streams)


def frames(rim_height: float = 0.35, thickness: float = 0.06) -> Shape:
    """The outline of eyeglasses: two rims, a bridge between them and a stub of each temple.

    rim_height and thickness: fractions of the whole width. Each rim is the band between two rounded
    rectangles (superellipses of the fourth degree); lenses stay free.
    """
    at_least("rim_height", rim_height, 0.1, 0.6)
    at_least("thickness", thickness, 0.01, 0.15)
    half_height, band = rim_height, 2 * thickness  # in half-widths of the frames
    centre, half_width = 0.5, 0.42
    bar = band / 2

    def covers(across: Tensor, down: Tensor) -> Tensor:
        side = across.abs() - centre  # of the rim on either side
        outer = (side / half_width) ** 4 + (down / half_height) ** 4 <= 1
        free_across, free_down = half_width - band, half_height - band
        lens = (side / max(free_across, 1e-3)) ** 4 + (down / max(free_down, 1e-3)) ** 4 < 1
        height = (down + half_height / 3).abs() <= bar  # above the middle of the lenses
        bridge = (across.abs() <= centre - half_width + band / 2) & height
        temples = (across.abs() >= centre + half_width - band / 2) & height
        return (outer & ~lens) | ((bridge | temples) & ~lens)

    return Shape(covers=covers, aspect=half_height)


def _scene(
    x: Images,
    area: float,
    shape: str,
    centre_across: float | None,
    centre_down: float | None,
    max_shift: float,
    max_rotation: float,
    max_scale: float,
    max_brightness: float,
    max_contrast: float,
    noise: float,
) -> Scene:
    at_least("area", area, 1e-4, 1)
    if shape not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
    if (centre_across is None) != (centre_down is None):
        raise ValueError("centre_across and centre_down go together: give both or none")
    outline = SHAPES[shape]
    height, width = x.shape[2:]
    return Scene(
        shape=outline,
        width=float((area * height * width / outline.share) ** 0.5 / width),
        centre=None
        if centre_across is None or centre_down is None
        else (centre_across, centre_down),
        max_shift=max_shift,
        max_rotation=max_rotation,
        max_scale=max_scale,
        max_brightness=max_brightness,
        max_contrast=max_contrast,
        noise=noise,
    )


def _glasses_scene(
    width: float,
    rim_height: float,
    thickness: float,
    centre_across: float,
    centre_down: float,
    max_shift: float,
    max_rotation: float,
    max_scale: float,
    max_brightness: float,
    max_contrast: float,
    noise: float,
) -> Scene:
    at_least("width", width, 0.05, 2)
    return Scene(
        shape=frames(rim_height, thickness),
        width=width,
        centre=(centre_across, centre_down),
        max_shift=max_shift,
        max_rotation=max_rotation,
        max_scale=max_scale,
        max_brightness=max_brightness,
        max_contrast=max_contrast,
        noise=noise,
    )
