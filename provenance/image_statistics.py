"""Second-order and wavelet statistics of what a high-pass filter leaves: neighbours, scales, tails.

The autocorrelation of a residual shows the period of an up-sampler (Popescu and Farid, Exposing Digital
Forgeries by Detecting Traces of Resampling, 2005); moments of wavelet coefficients over scales tell
photographs from rendered pictures (Lyu and Farid, How Realistic is Photorealistic?, 2005, section II).
"""

import numpy
from scipy.fft import irfft2, rfft2

from assaymark.provenance.image_planes import Plane, Planes, Vector, halved

_LEVELS = 5


def neighbours(picture: Planes) -> Vector:
    """Autocorrelation of the residual of luma (lags to 9), and of half-size luma and colour (to 4)."""
    sources = [(picture.luma, 10)] + [
        (halved(plane), 5) for plane in (picture.luma, picture.blue, picture.red)
    ]
    return numpy.concatenate([_autocorrelation(plane, lags) for plane, lags in sources])


def _autocorrelation(plane: Plane, lags: int) -> Vector:
    """Of the Laplacian, clipped at three times its mean size; both diagonals of lags are averaged."""
    middle = plane[1:-1, 1:-1]
    rest = 4 * middle - plane[:-2, 1:-1] - plane[2:, 1:-1] - plane[1:-1, :-2] - plane[1:-1, 2:]
    most = numpy.abs(rest).mean() * 3 + 0.1
    power = numpy.abs(rfft2(numpy.clip(rest, -most, most))) ** 2
    # the mean power over all frequencies is the product at lag 0
    products = irfft2(power, s=rest.shape)[:lags, :lags]
    ratio = products / (products[0, 0] + 1e-6)
    both: Vector = (ratio + ratio.T)[numpy.triu_indices(lags)][1:].astype(numpy.float32)
    return both


def scales(picture: Planes) -> Vector:
    """Of 5 levels of Haar wavelets of luma and colour: log size less the mean, tail weight, parent-child."""
    return numpy.concatenate([_scales(p) for p in (picture.luma, picture.blue, picture.red)])


def _scales(plane: Plane) -> Vector:
    sizes, tails, kin = [], [], []
    parents: list[Plane] = []
    for _ in range(_LEVELS):
        plane, details = _haar(plane)
        amounts = [numpy.abs(detail) for detail in details]
        mean = numpy.array([amount.mean() for amount in amounts]) + 0.05
        square = numpy.array([(amount * amount).mean() for amount in amounts]) + 0.01
        sizes.append(numpy.log(mean))
        tails.append(numpy.log(square) - 2 * numpy.log(mean))
        kin += [_correlation(amounts[0], amounts[1]), _correlation(amounts[0], amounts[2])]
        kin += [_correlation(halved(a), b) for a, b in zip(parents, amounts, strict=False)]
        parents = amounts
    size = numpy.concatenate(sizes)
    return numpy.concatenate([size - size.mean(), *tails, kin]).astype(numpy.float32)


def _haar(plane: Plane) -> tuple[Plane, tuple[Plane, Plane, Plane]]:
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    a, b = plane[:height:2, :width:2], plane[:height:2, 1:width:2]
    c, d = plane[1:height:2, :width:2], plane[1:height:2, 1:width:2]
    top, bottom, left, right = a + b, c + d, a - b, c - d
    return (top + bottom) / 4, ((left + right) / 4, (top - bottom) / 4, (left - right) / 4)


def _correlation(x: Plane, y: Plane) -> float:
    """Pearson's, of the part that both have; 0 where one is constant."""
    height, width = min(x.shape[0], y.shape[0]), min(x.shape[1], y.shape[1])
    x, y = x[:height, :width] - x.mean(), y[:height, :width] - y.mean()
    size = float(numpy.sqrt(numpy.vdot(x, x) * numpy.vdot(y, y)))
    return float(numpy.vdot(x, y)) / size if size > 1e-6 else 0.0
