"""Operating points of the video and face detectors: `python tests/bench/video.py PHOTOS… [--write]`.

PHOTOS are folders of pictures, one folder a source (found at any depth); speech is WAV or FLAC at any
depth. Clips are made from the pictures by a simulated camera, edits are planted, and sound is spliced.
Thresholds are chosen on one half of the sources and rates counted on the other. `--write` puts them into
provenance/video_points.json and provenance/face_blend.json; `--part` runs one of clips, faces, sound, lips.
`--faces` are folders of pictures of faces. The rows go to `--rows` (JSON lines), and are taken up from there.
"""

import argparse
import io
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).parent.parent / "provenance"))

from video_clips import (
    Frames,
    decode,
    dropped,
    encode,
    flickering,
    pan,
    repeated,
)

from assaymark.provenance import face_blend, video_sound, video_sync, video_temporal
from assaymark.provenance.evidence import OperatingPoint
from assaymark.provenance.faces import faces, oval
from assaymark.provenance.footage import read_footage
from assaymark.provenance.material import Samples
from assaymark.reports.errors import InputError

OUT = Path(__file__).parent.parent.parent / "provenance"
FALSE_ALARMS = 0.03  # on the sources that thresholds are chosen on
MARGIN = {"clips": 1.3}  # over that quantile: cameras do more than the simulated one
CLIPS = (
    "clips made from photographs (pan, zoom, shake, noise, exposure, something that moves), H.264, MPEG-4 "
    "or VP9, encoded once or twice; edits planted; camera footage of one street camera gave no false alarm"
)
MEASURED: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    # test: the part it is measured in, the kinds it is to find, on what
    "video-repeat": ("clips", ("again", "mirror"), CLIPS + "; 20 of 90 frames shown again, or backwards"),
    "video-jump": ("clips", ("drop",), CLIPS + "; 8 frames taken out"),
    "video-flicker": ("clips", ("flicker",), CLIPS + "; smooth errors of 2.5 grey levels a frame"),
    "face-blend": ("faces", ("blended",), "whole and self-blended faces, most of them generated whole "
                   "(StyleGAN2) and few photographed, JPEG quality 75 to 95 or none"),
    "sound-gap": ("sound", ("muted",), "read speech; 60 ms muted"),
    "sound-hum": ("sound", ("hum cut",), "read speech with 50 or 60 Hz hum added; 0.1 to 0.5 s taken out"),
    "video-lips": ("lips", ("shifted",), "animated pictures of faces whose mouth follows the voice; "
                   "sound 0.35 to 0.8 s off"),
}  # fmt: skip
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--faces", type=Path, nargs="*", default=[])
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("video_rows.jsonl"))
    parser.add_argument("--part", choices=("clips", "faces", "sound", "lips"), action="append")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    makers: dict[str, Callable[[], Iterator[Row]]] = {
        "clips": lambda: clip_rows(sources(args.photos), args.first, args.count),
        "faces": lambda: face_rows(sources(args.photos), sources(args.faces), args.count),
        "sound": lambda: sound_rows(sounds(args.speech), args.count),
        "lips": lambda: lip_rows(sources(args.faces), sounds(args.speech), args.count),
    }
    for part in args.part or ():
        with args.rows.open("a") as out:
            for row in makers[part]():
                out.write(json.dumps(row | {"part": part}) + "\n")
                out.flush()
    rows = [json.loads(line) for line in args.rows.read_text().splitlines()]
    if fitted := fit_faces(rows):
        face_blend.save(fitted, OUT / "face_blend.json") if args.write else None
        rows = [row | {"face-blend": face_blend.score(numpy.array(row["differences"]), fitted)}
                if row.get("what") == "face" else row for row in rows]  # fmt: skip
    found = {name: point(rows, name) for name in MEASURED if any(name in row for row in rows)}
    for name, measured in found.items():
        print(name, json.dumps(asdict(measured), indent=1))
    if args.write:
        stored = {name: asdict(measured) for name, measured in found.items()}
        (OUT / "video_points.json").write_text(json.dumps(stored, indent=1) + "\n")


def sources(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Pictures by the folder they lie in."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"):
                found.setdefault(path.parent.name, []).append(path)
    return dict(sorted(found.items()))


def sounds(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".wav", ".flac", ".mp3"))


# Clips


def clip_rows(pictures: dict[str, list[Path]], first: int, count: int) -> Iterator[Row]:
    """Scores of every test on clips as they are and on edited ones."""
    names = list(pictures)
    for i in range(first, first + count):
        rng = random.Random(i)
        source = names[i % len(names)]
        picture = opened(rng.choice(pictures[source]))
        mover = opened(rng.choice(pictures[rng.choice(names)])) if rng.random() < 0.5 else None
        raw = pan(
            picture, 90, i, speed=rng.choice([0.3, 0.8, 1.5, 3]), shake=rng.choice([0, 0.3, 0.8]),
            noise=rng.choice([0.7, 2, 4]), drift=rng.choice([0, 0.03, 0.08]), mover=mover,
            size=rng.choice([(256, 192), (256, 144), (192, 256)]),
        )  # fmt: skip
        once = encode(raw, **encoding(rng))
        again = encoding(rng)
        for kind, data in clips(raw, once, again, rng, i):
            with tempfile.NamedTemporaryFile() as file:
                file.write(data)
                file.flush()
                track = read_footage(Path(file.name), frames=1).track
            scores = {finding.test: finding.score for finding in video_temporal.tests(track)}
            yield {"source": source, "kind": kind, "i": i} | scores


def clips(
    raw: Frames, once: bytes, again: dict[str, Any], rng: random.Random, seed: int
) -> Iterator[tuple[str, bytes]]:
    """A clip encoded once and twice, and edits of either."""
    first = decode(once)
    at = rng.randint(30, 50)
    yield "real once", once
    yield "real twice", encode(first, **again)
    base = first if seed % 2 else raw
    yield "again", encode(repeated(base, at - 25, 20, at + 12), **again)
    yield "mirror", encode(base[:at] + base[at - 20 : at][::-1] + base[at:], **again)
    yield "drop", encode(dropped(base, at, 8), **again)
    yield "flicker", encode(flickering(base, seed, 2.5), **again)


def encoding(rng: random.Random) -> dict[str, Any]:
    codec = rng.choice(["libx264", "libx264", "libx264", "mpeg4", "libvpx-vp9"])
    quality, keys = rng.choice([18, 21, 24, 28, 32]), str(rng.choice([12, 15, 25, 50, 250]))
    if codec == "libx264":
        return {"codec": codec, "crf": str(quality), "g": keys, "bf": rng.choice(["0", "2", "3"])}
    if codec == "mpeg4":
        step = str(quality // 5)
        return {"codec": codec, "container": "avi", "qmin": step, "qmax": step, "g": "12"}
    return {"codec": codec, "container": "webm", "crf": str(quality + 6), "b": "0", "g": keys,
            "deadline": "realtime", "cpu-used": "8"}  # fmt: skip


def opened(path: Path, most: int = 640) -> Image.Image:
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((most, most))
    return picture


# Faces


def face_rows(
    photos: dict[str, list[Path]], portraits: dict[str, list[Path]], count: int
) -> Iterator[Row]:
    """Differences between faces (ovals in photographs) and their rings, whole and self-blended."""
    rng = random.Random(0)
    for source, paths in photos.items():
        for path in paths[: max(1, count // 10)]:
            picture = opened(path)
            if min(picture.size) >= 200:
                yield from pairs(source, picture, [anywhere(picture, rng)] * 2, rng, "oval")
    for source, paths in (portraits | photos).items():
        for path in paths:
            picture = opened(path)
            boxes = faces(numpy.asarray(picture))[:1] * 2
            yield from pairs(f"{source}/{path.stem}", picture, boxes, rng, "face")


def anywhere(picture: Image.Image, rng: random.Random) -> tuple[int, int, int, int]:
    wide = rng.randint(70, min(picture.size) // 2)
    return (rng.randint(wide // 4, picture.width - wide - wide // 4),
            rng.randint(wide // 4, picture.height - wide - wide // 4), wide, wide)  # fmt: skip


def pairs(
    source: str,
    picture: Image.Image,
    boxes: Sequence[tuple[int, int, int, int]],
    rng: random.Random,
    what: str,
) -> Iterator[Row]:
    for box in boxes:
        quality = rng.choice([None, 95, 90, 85, 75])
        for kind, made in (("real", picture), ("blended", blended(picture, box, rng))):
            pixels = numpy.asarray(made if quality is None else saved(made, quality))
            try:
                found = face_blend.differences(pixels, box)
            except InputError:
                continue
            yield {"source": source, "kind": kind, "what": what, "differences": list(found)}


def blended(
    picture: Image.Image, box: tuple[int, int, int, int], rng: random.Random
) -> Image.Image:
    """The face replaced by itself with another history (Shiohara and Yamasaki 2022, section 3.2)."""
    width, height = picture.size
    scale = rng.uniform(0.5, 0.85)
    small = (round(width * scale), round(height * scale))
    noise = numpy.random.default_rng(rng.randrange(2**32)).normal(
        0, rng.uniform(3, 6), (height, width, 3)
    )
    other: list[Callable[[], Image.Image]] = [
        lambda: picture.resize(small, Image.Resampling.BILINEAR).resize(picture.size),
        lambda: picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.5))),
        lambda: saved(picture, rng.randint(40, 75)),
        lambda: picture.filter(ImageFilter.UnsharpMask(1.5, rng.randint(60, 150), 0)),
        lambda: Image.fromarray(numpy.clip(numpy.asarray(picture) + noise, 0, 255).astype(numpy.uint8)),
    ]  # fmt: skip
    source = numpy.asarray(rng.choice(other)(), dtype=numpy.float64)
    source = numpy.roll(source, (rng.randint(-4, 4), rng.randint(-4, 4)), (0, 1))
    source = source * [rng.uniform(0.93, 1.07) for _ in range(3)] + rng.uniform(-8, 8)
    mask = (oval(box, height, width) < rng.choice([9, 10, 11])).astype(numpy.float64)
    mask = gaussian_filter(mask, rng.uniform(1.5, 5))[:, :, None]
    mixed = numpy.asarray(picture) * (1 - mask) + source * mask
    return Image.fromarray(numpy.clip(mixed, 0, 255).astype(numpy.uint8))


def saved(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def fit_faces(rows: list[Row]) -> face_blend.Weights | None:
    mine = [row for row in rows if "differences" in row and fitting(row)]
    both = [
        [row["differences"] for row in mine if row["kind"] == kind] for kind in ("blended", "real")
    ]
    return face_blend.fit(numpy.array(both[0]), numpy.array(both[1])) if all(both) else None


# Sound


def speech(path: Path) -> Samples:
    """Any sound file, mixed to one channel at 16 kHz; these are our own, so no limits."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=video_sound.RATE)
    with av.open(path) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return numpy.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])


def sound_rows(paths: list[Path], count: int) -> Iterator[Row]:
    """Scores on speech as it is and on speech that was cut; corpora are told apart by their folders."""
    rng = random.Random(0)
    rng.shuffle(paths)
    for path in paths[:count]:
        clean = coded(speech(path), rng)
        mains = rng.choice([50, 60]) + rng.uniform(-0.02, 0.02)
        at, long = int(len(clean) * rng.uniform(0.35, 0.65)), rng.randint(1600, 8000)
        hummed = clean + 0.004 * numpy.sin(
            2 * numpy.pi * mains * numpy.arange(len(clean)) / video_sound.RATE
        )
        muted = clean.copy()
        muted[at : at + 960] *= 0.001
        edits = {
            "real": clean, "real hum": hummed, "muted": muted,
            "hum cut": numpy.concatenate([hummed[:at], hummed[at + long :]]),
        }  # fmt: skip
        for kind, samples in edits.items():
            heard = samples.astype(numpy.float32)
            humming = video_sound.hum(heard)
            tests = {
                "sound-gap": video_sound.gap(heard),
                "sound-hum": humming[0] if humming else None,
            }
            scores = {name: place.score for name, place in tests.items() if place is not None}
            yield {"source": f"{path.parent.name}/{path.stem}", "kind": kind} | scores


def coded(samples: Samples, rng: random.Random) -> Samples:
    """With a little room noise and another level: every recording has its own."""
    noise = numpy.random.default_rng(rng.randrange(2**32)).normal(0, 1, len(samples))
    room = gaussian_filter(noise, rng.choice([0.5, 1, 3]))
    level = 10 ** rng.uniform(-3.6, -2.8)
    mixed = samples * rng.uniform(0.4, 0.9) + level * room / room.std()
    heard: Samples = mixed.astype(numpy.float32)
    return heard


def lip_rows(portraits: dict[str, list[Path]], paths: list[Path], count: int) -> Iterator[Row]:
    """Pictures of faces whose mouth opens with the voice, in time and shifted."""
    rng = random.Random(0)
    faces_ = [path for group in portraits.values() for path in group]
    for i in range(count):
        picture = opened(rng.choice(faces_), 256)
        boxes = faces(numpy.asarray(picture))
        voice = speech(rng.choice(paths))
        if not boxes or len(voice) < 3.6 * video_sound.RATE:
            continue
        off = rng.choice([-1, 1]) * rng.uniform(0.35, 0.8)
        for kind, shift in (("real", rng.uniform(-0.08, 0.08)), ("shifted", off)):
            clip = talking(picture, boxes[0], voice, shift, rng)
            with tempfile.NamedTemporaryFile() as file:
                file.write(clip)
                file.flush()
                footage = read_footage(Path(file.name), frames=1)
                sound = video_sound.read_track(Path(file.name))
                followed = video_sync.follow(footage.track)
                if sound is None or followed is None:
                    continue
                sync = video_sync.synchrony(footage.track, followed, sound)
            if sync is not None and sync.peak >= 0.3:
                yield {"source": f"face {i}", "kind": kind, "video-lips": sync.peak - sync.together}


def talking(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    voice: Samples,
    shift: float,
    rng: random.Random,
) -> bytes:
    """A dark ellipse for a mouth, that opens with the loudness `shift` seconds before it is heard."""
    loud = video_sound.levels(voice)
    open_ = gaussian_filter(numpy.clip((loud - loud.max() + 35) / 35, 0, 1), 3)
    count = int(len(voice) / video_sound.RATE * 25)
    base = numpy.asarray(picture, dtype=numpy.float64)
    row, column = numpy.ogrid[: base.shape[0], : base.shape[1]]
    x, y = box[0] + box[2] / 2, box[1] + 0.8 * box[3]
    frames: Frames = []
    for i in range(count):
        at = int(numpy.clip((i / 25 + shift) * 100, 0, len(open_) - 1))
        high = 1 + 0.09 * box[3] * open_[at] * rng.uniform(0.7, 1.3)
        inside = ((column - x) / (0.15 * box[2])) ** 2 + ((row - y) / high) ** 2 < 1
        frame = numpy.where(inside[:, :, None], 40.0, base) + numpy.random.default_rng(i).normal(
            0, 2, base.shape
        )
        sway = (int(2 * numpy.sin(i / 9)), int(3 * numpy.sin(i / 13)))
        frames.append(
            numpy.roll(numpy.clip(frame, 0, 255), sway, (0, 1)).astype(numpy.uint8)[
                : base.shape[0] // 2 * 2, : base.shape[1] // 2 * 2
            ]
        )
    sound = (numpy.clip(voice, -1, 1) * 32767).astype(numpy.int16)
    return encode(frames, sound=sound, crf="24")


# Rates


def fitting(row: Row) -> bool:
    """Every other source is for choosing thresholds; the order of names is no order of makers."""
    return bool(sum(row["source"].encode()) % 2)


def point(rows: list[Row], name: str) -> OperatingPoint:
    """The higher of the thresholds that the two halves of the sources give.

    False alarms are those of each half at the other one's threshold. The weights of faces were fitted
    to one half, so only the other one is counted there.
    """
    part, kinds, words = MEASURED[name]
    mine = [row for row in rows if row["part"] == part and name in row]
    reals = [row for row in mine if row["kind"].startswith("real")]
    fakes = [row for row in mine if row["kind"] in kinds]
    thresholds = {half: chosen(reals, half, name) for half in (True, False)}
    threshold = max(thresholds.values())
    if part == "faces":
        reals, fakes = ([row for row in group if not fitting(row)] for group in (reals, fakes))
        threshold = thresholds[False] = thresholds[True]
    alarms = sum(row[name] >= thresholds[not fitting(row)] for row in reals)
    hits = sum(row[name] >= threshold for row in fakes)
    return OperatingPoint(
        threshold=round(threshold, 4),
        false_positive_rate=round(alarms / len(reals), 4),
        false_positive_rate_high=round(upper(alarms, len(reals), reals), 4),
        true_positive_rate=round(hits / len(fakes), 4),
        true_positive_rate_low=round(1 - upper(len(fakes) - hits, len(fakes), fakes), 4),
        reals=len(reals),
        fakes=len(fakes),
        sources=len({row["source"] for row in reals}),
        generators=len(kinds),
        measured_on=words,
    )


def chosen(reals: list[Row], half: bool, name: str) -> float:
    """The threshold that one half of the sources gives."""
    values = [row[name] for row in reals if fitting(row) == half]
    margin = MARGIN.get(reals[0]["part"], 1.05)
    return max(0.05, margin * float(numpy.quantile(values, 1 - FALSE_ALARMS)))


def upper(errors: int, count: int, rows: list[Row]) -> float:
    """Clopper and Pearson's 97.5 % bound, clips of one source counted as one in so far as they agree.

    The number of clips is taken as the mean of the number of clips and of sources.
    """
    known = (count + len({row["source"] for row in rows})) / 2
    wrong = errors * known / count
    return float(beta.ppf(0.975, wrong + 1, max(known - wrong, 1e-9)))


if __name__ == "__main__":
    main()
