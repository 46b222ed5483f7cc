"""How strong each corruption is: the published constants of ImageNet-C and CIFAR-10-C.

Hendrycks and Dietterich 2019, arXiv 1903.12261, and the constants of the authors' two programs. An
image whose longer side has at most 64 pixels takes those of CIFAR-10-C, a larger one those of
ImageNet-C. Lengths are pixels and are not scaled with the image, but for elastic_transform, whose
lengths are shares of the shorter side.
"""

SMALL = 64
"""The longest side, in pixels, that still takes the constants of CIFAR-10-C."""

Constants = tuple[float, ...]
Five = tuple[Constants, Constants, Constants, Constants, Constants]

_UNIT = 244 / 224
"""ImageNet-C counts its elastic lengths in units of 244 pixels at 224."""

# name: (CIFAR-10-C, ImageNet-C), each for severity 1 to 5
SEVERITIES: dict[str, tuple[Five, Five]] = {
    # standard deviation
    "gaussian_noise": (
        ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
        ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    ),
    # photons of a white pixel
    "shot_noise": (
        ((500,), (250,), (100,), (75,), (50,)),
        ((60,), (25,), (12,), (5,), (3,)),
    ),
    # share of values replaced
    "impulse_noise": (
        ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
        ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    ),
    # radius of the disk, standard deviation of its smoothing
    "defocus_blur": (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    # standard deviation of the blur, largest move, rounds
    "glass_blur": (
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    # radius, standard deviation along the motion
    "motion_blur": (
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    # step from one zoom to the next, number of zooms (the first is 1)
    "zoom_blur": (
        ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
        ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)),
    ),
    # mean and standard deviation of the flakes' noise, zoom, threshold, radius and standard
    # deviation of their motion, share of the image kept from whitening
    "snow": (
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    # weight of the image, weight of the ice
    "frost": (
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    # amount, decay of the roughness from one scale to the next
    "fog": (
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    # added to the value of HSV
    "brightness": (
        ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
        ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    ),
    # factor around the mean
    "contrast": (
        ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
        ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    ),
    # height and smoothing of the displacement, moves of the affine map's corners
    "elastic_transform": (
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        (
            (2 * _UNIT, 0.7 * _UNIT, 0.1 * _UNIT),
            (2 * _UNIT, 0.08 * _UNIT, 0.2 * _UNIT),
            (0.05 * _UNIT, 0.01 * _UNIT, 0.02 * _UNIT),
            (0.07 * _UNIT, 0.01 * _UNIT, 0.02 * _UNIT),
            (0.12 * _UNIT, 0.01 * _UNIT, 0.02 * _UNIT),
        ),
    ),
    # the side's share of blocks
    "pixelate": (
        ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
        ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    ),
    # quality
    "jpeg_compression": (
        ((80,), (65,), (58,), (50,), (40,)),
        ((25,), (18,), (15,), (10,), (7,)),
    ),
    # standard deviation, as a share of the pixel
    "speckle_noise": (
        ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
        ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
    ),
    # standard deviation in pixels
    "gaussian_blur": (
        ((0.4,), (0.6,), (0.7,), (0.8,), (1,)),
        ((1,), (2,), (3,), (4,), (6,)),
    ),
    # mean and standard deviation of the drops' noise, its smoothing, threshold, strength (water) or
    # smoothing (mud), 0 for water and 1 for mud
    "spatter": (
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
    ),
    # factor of the saturation of HSV, and what is added to it
    "saturate": (
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
}


def constants(name: str, severity: int, height: int, width: int) -> Constants:
    """The constants of a corruption for images of this size; severity in 1 to 5.

    >>> constants("contrast", 5, 32, 32), constants("contrast", 5, 65, 8)
    ((0.15,), (0.05,))
    """
    small, large = SEVERITIES[name]
    chosen = (small if max(height, width) <= SMALL else large)[severity - 1]
    return tuple(float(value) for value in chosen)
