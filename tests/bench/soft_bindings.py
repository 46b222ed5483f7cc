"""Soft bindings, measured: `python tests/bench/soft_bindings.py PICTURES… [--small CIFAR.zip]`.

PICTURES are files or folders of photographs and generated pictures. Every one is marked with 64 bits
(32 of payload, 32 of seal) and fingerprinted, changed, and looked for; a watermark counts when all of its
bits are right. Two other watermarks (invisible-watermark 0.2.0, blind_watermark 0.4.4) carry 64 bits in
the same pictures where PYTHONPATH has them; they need the mark's length, and blind_watermark its key.
Then: marks found in unmarked pictures by many keys, and near pairs among the fingerprints of different
pictures, of PICTURES and of the archive of small ones. CPU is of one thread.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
from PIL import Image, ImageEnhance, ImageFilter
from scipy.ndimage import gaussian_filter

from assaymark.provenance.fingerprint import distance, fingerprint, largest_distance
from assaymark.provenance.watermark import seal
from assaymark.provenance.watermark_lattice import LatticeWatermark

Array = numpy.ndarray
Change = Callable[[Image.Image], Image.Image]
KEY = bytes(range(32))
STORED = 10_000
FALSE_MATCH = 1e-2


def encoded(kind: str, quality: int) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        picture.save(stream, kind, quality=quality)
        return Image.open(stream).convert("RGB")

    return change


def scaled(across: float, down: float | None = None) -> Change:
    return lambda picture: picture.resize(
        (round(picture.width * across), round(picture.height * (down or across))),
        Image.Resampling.BICUBIC,
    )


def cropped(away: float) -> Change:
    """Off the centre, so that a share of the area is gone."""

    def change(picture: Image.Image) -> Image.Image:
        side = (1 - away) ** 0.5
        width, height = round(picture.width * side), round(picture.height * side)
        x, y = (picture.width - width) // 3, (picture.height - height) * 2 // 3
        return picture.crop((x, y, x + width, y + height))

    return change


def noisy(deviation: float) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        noise = numpy.random.default_rng(0).normal(0, deviation, (*picture.size[::-1], 3))
        return Image.fromarray(
            numpy.clip(numpy.asarray(picture) + noise, 0, 255).astype(numpy.uint8)
        )

    return change


def after(*changes: Change) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        for one in changes:
            picture = one(picture)
        return picture

    return change


CHANGES: dict[str, Change] = {
    "none": lambda picture: picture,
    "JPEG 90": encoded("JPEG", 90),
    "JPEG 75": encoded("JPEG", 75),
    "JPEG 50": encoded("JPEG", 50),
    "WebP 75": encoded("WEBP", 75),
    "resize 0.5": scaled(0.5),
    "resize 0.75": scaled(0.75),
    "resize 2": scaled(2),
    "stretch 1 x 0.8": scaled(1, 0.8),
    "resize 0.5, JPEG 75": after(scaled(0.5), encoded("JPEG", 75)),
    "crop 2 %": cropped(0.02),
    "crop 10 %": cropped(0.1),
    "crop 25 %": cropped(0.25),
    "crop 50 %": cropped(0.5),
    "crop 50 %, JPEG 75": after(cropped(0.5), encoded("JPEG", 75)),
    "brightness 1.3": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "contrast 0.7": lambda picture: ImageEnhance.Contrast(picture).enhance(0.7),
    "blur 1 px": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
    "noise 5": noisy(5),
    "noise 15": noisy(15),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "turn 3 degrees": lambda picture: picture.rotate(3, Image.Resampling.BICUBIC),
    "turn 90 degrees": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "mirror": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


class Lattice:
    """The built-in watermark."""

    def embed(self, pixels: Array, bits: Array) -> Array:
        word = int.from_bytes(numpy.packbits(bits[:32]).tobytes())
        return LatticeWatermark().embed(pixels, word, KEY)

    def read(self, pixels: Array, bits: Array) -> Array | None:
        mark = LatticeWatermark().detect(pixels, KEY)
        if mark is None:
            return None
        word = mark.payload << 32 | seal(mark.payload, KEY)
        return numpy.unpackbits(numpy.frombuffer(word.to_bytes(8), numpy.uint8))


class Invisible:
    """invisible-watermark, by one of its methods without a model."""

    def __init__(self, method: str) -> None:
        self.method = method

    def embed(self, pixels: Array, bits: Array) -> Array:
        encoder = importlib.import_module("imwatermark").WatermarkEncoder()
        encoder.set_watermark("bits", bits.tolist())
        return numpy.asarray(encoder.encode(pixels[..., ::-1].copy(), self.method)[..., ::-1])

    def read(self, pixels: Array, bits: Array) -> Array | None:
        decoder = importlib.import_module("imwatermark").WatermarkDecoder("bits", len(bits))
        return numpy.array(decoder.decode(pixels[..., ::-1].copy(), self.method)).astype(int)


class Blind:
    """blind_watermark, as its documentation uses it."""

    def mark(self) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module("blind_watermark").WaterMark(1, 1)

    def embed(self, pixels: Array, bits: Array) -> Array:
        mark = self.mark()
        mark.read_img(img=pixels[..., ::-1].copy())
        mark.read_wm(bits.astype(bool), mode="bit")
        found: Array = numpy.clip(numpy.rint(mark.embed()), 0, 255).astype(numpy.uint8)
        return found[..., ::-1]

    def read(self, pixels: Array, bits: Array) -> Array | None:
        mark = self.mark()
        found = mark.extract(embed_img=pixels[..., ::-1].copy(), wm_shape=len(bits), mode="bit")
        return (numpy.asarray(found) > 0.5).astype(int)


def methods() -> dict[str, Any]:
    found: dict[str, Any] = {"lattice": Lattice()}
    if importlib.util.find_spec("imwatermark"):
        found |= {f"imwatermark {m}": Invisible(m) for m in ("dwtDct", "dwtDctSvd")}
    if importlib.util.find_spec("blind_watermark"):
        found["blind_watermark"] = Blind()
    return found


def psnr(a: Array, b: Array) -> float:
    error = ((a.astype(float) - b) ** 2).mean()
    return float(10 * numpy.log10(255**2 / error)) if error else numpy.inf


def ssim(a: Array, b: Array) -> float:
    """Of brightness, Gaussian window of 1.5 px (https://doi.org/10.1109/TIP.2003.819861)."""
    x, y = (pixels.astype(float) @ (0.299, 0.587, 0.114) for pixels in (a, b))

    def mean(values: Array) -> Array:
        return numpy.asarray(gaussian_filter(values, 1.5))

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mx * my + c1) * (2 * cov + c2)
    return float((top / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


class Timed:
    """CPU milliseconds per megapixel of what is called through it."""

    def __init__(self) -> None:
        self.seconds, self.pixels = 0.0, 0

    def __call__(self, act: Callable[..., Any], pixels: Array, *rest: Any) -> Any:
        start = time.process_time()
        try:
            return act(pixels, *rest)
        finally:
            self.seconds += time.process_time() - start
            self.pixels += pixels.shape[0] * pixels.shape[1]

    def __str__(self) -> str:
        return f"{self.seconds * 1e9 / max(self.pixels, 1):.0f}"


def marks(pictures: list[Image.Image]) -> dict[str, list[bool]]:
    """Tables of the watermarks; gives whether ours was found, per change and picture."""
    chosen, random = methods(), numpy.random.default_rng(0)
    bits = [random.integers(0, 2, 64).astype(numpy.uint8) for _ in pictures]
    for word in bits:  # ours makes the second half itself
        payload = int.from_bytes(numpy.packbits(word[:32]).tobytes())
        tag = seal(payload, KEY).to_bytes(4)
        word[32:] = numpy.unpackbits(numpy.frombuffer(tag, numpy.uint8))
    shares: dict[str, dict[str, str]] = {}
    ours: dict[str, list[bool]] = {}
    print("| watermark | PSNR dB, mean (least) | SSIM | embed, detect: CPU ms per megapixel |")
    print("|---|---|---|---|")
    for name, method in chosen.items():
        embed, read, quality = Timed(), Timed(), []
        carrying = []
        for picture, word in zip(pictures, bits, strict=True):
            pixels = numpy.asarray(picture)
            carrying.append(embed(method.embed, pixels, word))
            quality.append((psnr(pixels, carrying[-1]), ssim(pixels, carrying[-1])))
        shares[name] = {}
        for change, act in CHANGES.items():
            whole, right = [], []
            for pixels, word in zip(carrying, bits, strict=True):
                found = None
                with contextlib.suppress(RuntimeError, ValueError, IndexError, AssertionError):
                    found = read(method.read, numpy.asarray(act(Image.fromarray(pixels))), word)
                whole.append(found is not None and bool((found == word).all()))
                right.append(0.5 if found is None else float((found == word).mean()))
            shares[name][change] = f"{numpy.mean(whole):.2f} ({numpy.mean(right):.2f})"
            if name == "lattice":
                ours[change] = whole
        decibels, alike = numpy.array(quality).T
        print(
            f"| {name} | {decibels.mean():.1f} ({decibels.min():.1f}) | {alike.mean():.3f} "
            f"| {embed}, {read} |",
            flush=True,
        )
    print("\nAll 64 bits right, share of pictures (share of bits):\n")
    print(f"| change | {' | '.join(shares)} |")
    print("|---" * (len(shares) + 1) + "|")
    for change in CHANGES:
        print(f"| {change} | {' | '.join(found[change] for found in shares.values())} |")
    return ours


def codes_of(pictures: list[Image.Image]) -> list[bytes | None]:
    return [fingerprint(numpy.asarray(picture)) for picture in pictures]


def loop(pictures: list[Image.Image], ours: dict[str, list[bool]]) -> None:
    """Recovery by watermark, fingerprint, or either; flat pictures count as not found."""
    farthest, timed = largest_distance(STORED, FALSE_MATCH), Timed()
    originals = codes_of(pictures)
    print(f"\nRecovery from a store of {STORED} (fingerprints within {farthest} of 256 bits):\n")
    print("| change | watermark | fingerprint | either | median distance |")
    print("|---|---|---|---|---|")
    for change, act in CHANGES.items():
        near, apart = [], []
        for picture, code in zip(pictures, originals, strict=True):
            other = timed(fingerprint, numpy.asarray(act(picture)))
            if code is not None and other is not None:
                apart.append(distance(code, other))
            near.append(code is not None and other is not None and apart[-1] <= farthest)
        either = [a or b for a, b in zip(near, ours[change], strict=True)]
        print(
            f"| {change} | {numpy.mean(ours[change]):.2f} | {numpy.mean(near):.2f} "
            f"| {numpy.mean(either):.2f} | {numpy.median(apart) if apart else float('nan'):.0f} |"
        )
    flat = sum(code is None for code in originals)
    print(f"\n{flat} of {len(pictures)} pictures are too flat for a fingerprint; {timed} ms per MP")


def false_marks(pictures: list[Image.Image], keys: int) -> None:
    method, found, tried = LatticeWatermark(), 0, 0
    values = []
    for picture in pictures:
        pixels = numpy.asarray(picture)
        for number in range(keys):
            key = number.to_bytes(16)
            found += method.detect(pixels, key) is not None
            values.append(method.pilot_p_value(pixels, key))
            tried += 1
    low = [f"{numpy.mean(numpy.array(values) <= p):.4f} <= {p:g}" for p in (0.5, 0.1, 0.01)]
    print(f"\n{found} marks in {tried} searches of unmarked pictures.")
    print(f"Share of pilot p-values (a bound, so at most): {', '.join(low)}")


def false_matches(name: str, pictures: list[Image.Image]) -> None:
    greys = [numpy.asarray(p.convert("L").resize((32, 32)), float).ravel() for p in pictures]
    kept = [(c, g) for c, g in zip(codes_of(pictures), greys, strict=True) if c is not None]
    stored = numpy.frombuffer(b"".join(code for code, _ in kept), numpy.uint64).reshape(-1, 4)
    counts, alike = numpy.zeros(257, int), []
    for i in range(1, len(stored)):
        apart = numpy.bitwise_count(stored[:i] ^ stored[i]).sum(1, dtype=int)
        counts += numpy.bincount(apart, minlength=257)
        for j in numpy.flatnonzero(apart <= largest_distance(len(kept), FALSE_MATCH)):
            alike.append((int(apart[j]), float(numpy.corrcoef(kept[i][1], kept[j][1])[0, 1])))
    shares = numpy.cumsum(counts) / max(counts.sum(), 1)
    print(f"\n{name}: {len(kept)} fingerprints, {counts.sum()} pairs, {len(alike)} within "
          f"{largest_distance(len(kept), FALSE_MATCH)} bits: (distance, correlation of pixels) "
          f"{[(d, round(c, 2)) for d, c in sorted(alike)]}")  # fmt: skip
    line = ", ".join(
        f"{d}: {shares[d]:.1e} (line {10 ** (0.125 * (d - 90)):.1e})" for d in range(28, 77, 8)
    )
    print(f"Share of pairs within d bits: {line}")


def load(places: list[Path], most: int) -> list[Image.Image]:
    files = [
        file
        for place in places
        for file in (sorted(place.rglob("*")) if place.is_dir() else [place])
        if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    ]
    random = numpy.random.default_rng(1)
    order = random.permutation(len(files))[:most] if most else range(len(files))
    return [Image.open(files[i]).convert("RGB") for i in order]


def small(archive: Path, count: int) -> list[Image.Image]:
    with zipfile.ZipFile(archive) as packed:
        names = [name for name in packed.namelist() if name.endswith(".jpg")]
        order = numpy.random.default_rng(0).permutation(len(names))[:count]
        return [Image.open(io.BytesIO(packed.read(names[i]))).convert("RGB") for i in order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--small", type=Path, help="a ZIP of small pictures, for fingerprints")
    parser.add_argument("--marked", type=int, default=40, help="pictures that are marked; 0: all")
    parser.add_argument("--keys", type=int, default=2, help="for each unmarked picture")
    parser.add_argument("--unmarked", type=int, default=100, help="pictures; 0: all")
    parser.add_argument("--stored", type=int, default=12_000, help="of the ZIP")
    asked = parser.parse_args()
    pictures = load(asked.pictures, asked.marked)
    megapixels = sum(picture.width * picture.height for picture in pictures) / 1e6
    print(f"{len(pictures)} pictures, {megapixels:.1f} megapixels.\n", flush=True)
    loop(pictures, marks(pictures))
    false_marks(load(asked.pictures, asked.unmarked), asked.keys)
    false_matches("PICTURES", load(asked.pictures, 0))
    if asked.small:
        false_matches(asked.small.name, small(asked.small, asked.stored))


if __name__ == "__main__":
    main()
