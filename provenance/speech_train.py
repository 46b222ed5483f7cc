"""Train the shipped model of speech: `python -m assaymark.provenance.speech_train CLIPS.csv WEIGHTS`.

CLIPS.csv has the columns path, label (real or fake), source, process and licence. `source` is the corpus that
a recording, or the recording behind a copy, comes from; what stands before a slash is held out together.
`process` is `human` or what made the clip, again with what is held out together before a slash.

Every clip goes through one random delivery (a codec, a telephone line, noise), whatever its class. Features
and folds are kept in a folder, so that a training that was stopped goes on. What the card states was scored
by models that had seen neither the clip's corpus nor its process.
"""

import argparse
import csv
import io
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from assaymark.provenance.evidence import OperatingPoint
from assaymark.provenance.sound import RATE, Samples, bandwidth_of, read_sound
from assaymark.provenance.speech_features import Frames
from assaymark.provenance.speech_network import (
    BANDWIDTHS,
    Calibration,
    Linear,
    Measured,
    SpeechModel,
    SpeechNetwork,
    deviations,
    measure,
    save_model,
)
from assaymark.reports.errors import InputError

FOLDS = 5
WIDE_FROM = 6200.0  # Hz of bandwidth from which the wide model looks
CROP = 200  # frames of a training example
FALSE_POSITIVES = 0.05
_CODECS = {"mp3": ("libmp3lame", "mp3"), "aac": ("aac", "adts"), "opus": ("libopus", "ogg")}
_WAYS = ("native", "mp3", "aac", "opus", "telephone", "noise")
_SHARES = (0.25, 0.33, 0.1, 0.1, 0.12, 0.1)
_BITS = (24_000, 32_000, 48_000, 64_000, 96_000)

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A row of the table, measured."""

    fake: bool
    source: str
    process: str
    way: str
    wide: bool
    measured: Measured


def deliver(samples: Samples, way: str, random: numpy.random.Generator) -> Samples:
    """The samples as they arrive: `native`, through a codec, a telephone line of 8 kHz, or with noise."""
    if way in _CODECS:
        return coded(
            samples, *_CODECS[way], int(random.choice(_BITS[1:] if way == "aac" else _BITS))
        )
    if way == "telephone":
        low = numpy.clip(resample_poly(samples, 1, 2), -1, 1)
        companded = (
            numpy.sign(low) * numpy.log1p(255 * numpy.abs(low)) / numpy.log(256)
        )  # ITU-T G.711
        steps = numpy.round(companded * 127) / 127
        decoded = numpy.sign(steps) * numpy.expm1(numpy.abs(steps) * numpy.log(256)) / 255
        received: Samples = resample_poly(decoded, 2, 1).astype(numpy.float32)
        return received
    if way == "noise":
        level = numpy.sqrt(numpy.square(samples).mean()) * 10 ** (-random.uniform(20, 40) / 20)
        return (samples + random.normal(0, level, len(samples))).astype(numpy.float32)
    return samples


def coded(samples: Samples, codec: str, container: str, bits: int) -> Samples:
    """Encoded and decoded by FFmpeg, at so many bits a second."""
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        track = output.add_stream(codec, rate=RATE, layout="mono")
        track.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(track.format, "mono", RATE, track.frame_size or None)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(track.encode(part))
        output.mux(track.encode())
    stream.seek(0)
    with av.open(stream) as decoded:
        resampler = av.AudioResampler("flt", "mono", RATE)
        frames = [part for one in decoded.decode(audio=0) for part in resampler.resample(one)]
    return numpy.concatenate([one.to_ndarray()[0] for one in frames]).astype(numpy.float32)


def measured_clips(table: Path, kept: Path, *, way: str | None = None) -> list[Clip]:
    """Every row that holds a second of sound, in one delivery; measured once and kept in the folder `kept`.

    way: the delivery of all, instead of a random one that follows from the row's path. Raises InputError
    for a table without the columns.
    """
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"path", "label", "source", "process"} <= rows[0].keys():
        raise InputError(f"{table} needs rows with the columns path, label, source and process")
    found = (_measured(row, table.parent, kept, way) for row in rows)
    return [clip for clip in found if clip is not None]


def _measured(row: dict[str, str], folder: Path, kept: Path, way: str | None) -> Clip | None:
    seed = zlib.crc32(row["path"].encode())
    random = numpy.random.default_rng(seed)
    chosen = way or str(random.choice(_WAYS, p=_SHARES))
    place = kept / f"{seed:08x}-{way or 'any'}.npz"
    if not place.exists():
        samples = read_sound(folder / row["path"], seconds=4.0).samples
        delivered = deliver(samples, chosen, random)
        wide = bandwidth_of(delivered, RATE) >= WIDE_FROM
        values = measure(delivered, wide=wide) if len(delivered) >= RATE else None
        place.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = (
            {} if values is None else {"frames": values.frames, "narrow": values.narrow}
        )
        if values is not None and values.wide is not None:
            arrays["wide"] = values.wide
        part = place.with_suffix(".part.npz")
        numpy.savez(part, **arrays)
        part.rename(place)
    with numpy.load(place) as loaded:
        if "frames" not in loaded or len(loaded["frames"]) < 50:
            return None
        wide_vector = loaded.get("wide")
        return Clip(
            fake=row["label"] in ("fake", "1"),
            source=row["source"],
            process=row["process"],
            way=chosen,
            wide=wide_vector is not None,
            measured=Measured(frames=loaded["frames"], narrow=loaded["narrow"], wide=wide_vector),
        )


def folds(clips: Sequence[Clip]) -> tuple[dict[str, int], dict[str, int]]:
    """Which fold holds out every group of corpora, and of processes; the largest are dealt first."""
    corpora = Counter(_group(clip.source) for clip in clips if not clip.fake)
    processes = Counter(_group(clip.process) for clip in clips if clip.fake)
    return _dealt(corpora), _dealt(processes)


def _group(name: str) -> str:
    return name.partition("/")[0]


def _dealt(counts: Counter[str]) -> dict[str, int]:
    filled, places = [0] * FOLDS, {}
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        places[name] = filled.index(min(filled))
        filled[places[name]] += count
    return places


def train_network(
    clips: Sequence[Clip], *, epochs: int, device: str, seed: int = 0
) -> SpeechNetwork:
    """Fit the network on crops of 2 s; classes, and corpora or processes within a class, weigh the same."""
    torch.manual_seed(seed)
    random = numpy.random.default_rng(seed)
    network = SpeechNetwork().to(device)
    sample = numpy.concatenate([clip.measured.frames[::7] for clip in clips])
    network.middle.copy_(torch.from_numpy(sample.mean(0))[:, None])
    network.scale.copy_(torch.from_numpy(sample.std(0) + 1e-3)[:, None])
    share, batch = weights_of(clips), 64
    steps = epochs * -(-len(clips) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        chosen = random.choice(len(clips), batch, p=share)
        frames = numpy.stack([crop(clips[i].measured.frames, random) for i in chosen])
        target = torch.tensor([float(clips[i].fake) for i in chosen], device=device)
        logits = network(torch.from_numpy(frames).to(device).transpose(1, 2))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, 0.95 * target + 0.025)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.cpu().eval()


def crop(frames: Frames, random: numpy.random.Generator) -> Frames:
    """So many neighbouring frames; a shorter clip is repeated."""
    while len(frames) < CROP:
        frames = numpy.concatenate([frames, frames])
    start = int(random.integers(len(frames) - CROP + 1))
    return frames[start : start + CROP]


def weights_of(clips: Sequence[Clip]) -> NDArray[numpy.float64]:
    """Probabilities in which the classes, and within them every corpus or process, have the same share.

    The root of a group's size is kept, so that ten clips do not count as much as a hundred.
    """
    keys = [(clip.fake, clip.process if clip.fake else clip.source) for clip in clips]
    counts = Counter(keys)
    weights = numpy.array([counts[key] ** -0.5 for key in keys])
    fake = numpy.array([clip.fake for clip in clips])
    for label in (False, True):
        weights[fake == label] /= weights[fake == label].sum()
    whole: NDArray[numpy.float64] = weights / weights.sum()
    return whole


def train_linear(clips: Sequence[Clip], bandwidth: str, *, penalty: float = 300.0) -> Linear:
    """Logistic regression with an L2 penalty on the features of one bandwidth and their squares.

    The penalty is strong: with a weaker one unseen processes are found less often.
    """
    seen = [clip for clip in clips if bandwidth == "narrow" or clip.wide]
    fake = numpy.array([clip.fake for clip in seen])
    x = numpy.stack([clip.measured.vector(bandwidth) for clip in seen])
    middle, scale = x[~fake].mean(0), x[~fake].std(0) + 1e-3
    fitted = LogisticRegression(C=1 / penalty, max_iter=500)
    fitted.fit(deviations(x, middle, scale), fake, sample_weight=weights_of(seen) * len(seen))
    return Linear(
        middle=middle, scale=scale, weights=fitted.coef_[0], bias=float(fitted.intercept_[0])
    )


def linear_scores(linear: Linear, clips: Sequence[Clip], bandwidth: str) -> Array:
    """The logits of a linear model, NaN for clips that are too narrow for it."""
    wide = bandwidth == "wide"
    return numpy.array(
        [
            linear(clip.measured.vector(bandwidth)) if clip.wide or not wide else numpy.nan
            for clip in clips
        ]
    )


def network_scores(network: SpeechNetwork, clips: Sequence[Clip]) -> Array:
    """The logits of the network on whole clips."""
    with torch.inference_mode():
        frames = (torch.from_numpy(clip.measured.frames.T.copy())[None] for clip in clips)
        return numpy.array([float(network(one)[0]) for one in frames])


def scored_unseen(
    clips: Sequence[Clip], kept: Path, *, epochs: int, device: str, say: Callable[[str], None]
) -> Array:
    """(clips, 3): logits of the network, the narrow and the wide linear model (NaN: a narrow clip), each
    from models that saw neither the clip's corpus nor its process. Networks' scores are kept in a folder.
    """
    corpora, processes = folds(clips)
    places = numpy.array([_fold_of(clip, corpora, processes) for clip in clips])
    scores = numpy.full((len(clips), 3), numpy.nan)
    key = zlib.crc32(repr([(clip.source, clip.process, clip.way) for clip in clips]).encode())
    for fold in range(FOLDS):
        held = [clip for clip, place in zip(clips, places, strict=True) if place == fold]
        seen = [clip for clip in clips if _may_train(clip, fold, corpora, processes)]
        file = kept / f"fold-{fold}-{key:08x}-{epochs}.npy"
        if not file.exists():
            network = train_network(seen, epochs=epochs, device=device, seed=fold)
            numpy.save(file, network_scores(network, held))
        scores[places == fold, 0] = numpy.load(file)
        for column, name in enumerate(BANDWIDTHS, start=1):
            scores[places == fold, column] = linear_scores(train_linear(seen, name), held, name)
        say(f"fold {fold + 1} of {FOLDS}: {len(held)} clips scored")
    return scores


def _fold_of(clip: Clip, corpora: dict[str, int], processes: dict[str, int]) -> int:
    return processes[_group(clip.process)] if clip.fake else corpora[_group(clip.source)]


def _may_train(clip: Clip, fold: int, corpora: dict[str, int], processes: dict[str, int]) -> bool:
    """Neither its corpus, nor the corpus behind a copy, nor its process is held out."""
    if corpora.get(_group(clip.source)) == fold:
        return False
    return not clip.fake or processes[_group(clip.process)] != fold


def calibrated(clips: Sequence[Clip], scores: Array, bandwidth: str) -> Calibration:
    """Fit llr to unseen scores with a slope each, none of them negative, and measure its operating point.

    The limits are the logarithms of the numbers of corpora and of processes: clips of one corpus are not
    independent, and n corpora cannot show a ratio above n.
    """
    column = 1 + BANDWIDTHS.index(bandwidth)
    # Narrow is measured on telephone speech and on wide speech whose upper bands are not looked at.
    chosen = numpy.flatnonzero(numpy.isfinite(scores[:, column]))
    seen = [clips[int(i)] for i in chosen]
    fake = numpy.array([clip.fake for clip in seen])
    # Classes weigh the same, so that the log-odds are the log-likelihood ratio.
    weights = weights_of(seen) * len(seen)
    x = scores[chosen][:, [0, column]]
    fitted = LogisticRegression(C=1.0).fit(x, fake, sample_weight=weights)
    if fitted.coef_[0, 0] < 0:
        x = x * [0, 1]
        fitted = LogisticRegression(C=1.0).fit(x, fake, sample_weight=weights)
    highest = numpy.log(len({_group(clip.source) for clip in seen if not clip.fake}))
    lowest = -numpy.log(len({clip.process for clip in seen if clip.fake}))
    llr = numpy.clip(fitted.decision_function(x), lowest, highest)
    return Calibration(
        offset=float(fitted.intercept_[0]),
        network=float(fitted.coef_[0, 0]),
        linear=float(fitted.coef_[0, 1]),
        lowest=float(lowest),
        highest=float(highest),
        point=operating_point(llr, seen, bandwidth),
    )


def operating_point(llr: Array, clips: Sequence[Clip], bandwidth: str) -> OperatingPoint:
    """The lowest threshold above 0 with at most 5 % false positives, corpora weighing the same.

    Intervals: 2,000 bootstraps over corpora, and over processes.
    """
    of_reals = _by_group(llr, clips, fake=False)
    of_fakes = _by_group(llr, clips, fake=True)
    threshold = 0.0
    for candidate in numpy.sort(numpy.concatenate(of_reals)):
        if numpy.mean([(values >= threshold).mean() for values in of_reals]) <= FALSE_POSITIVES:
            break
        threshold = max(threshold, float(candidate) + 1e-6)
    false = numpy.array([(values >= threshold).mean() for values in of_reals])
    true = numpy.array([(values >= threshold).mean() for values in of_fakes])
    random = numpy.random.default_rng(0)

    def again(rates: Array) -> Array:
        whole: Array = rates[random.integers(len(rates), size=(2000, len(rates)))].mean(1)
        return whole

    return OperatingPoint(
        threshold=threshold,
        false_positive_rate=float(false.mean()),
        false_positive_rate_high=float(numpy.quantile(again(false), 0.975)),
        true_positive_rate=float(true.mean()),
        true_positive_rate_low=float(numpy.quantile(again(true), 0.025)),
        reals=sum(map(len, of_reals)),
        fakes=sum(map(len, of_fakes)),
        sources=len(of_reals),
        generators=len(of_fakes),
        measured_on=f"{bandwidth}-band speech of corpora and processes that were held out of training",
    )


def _by_group(llr: Array, clips: Sequence[Clip], *, fake: bool) -> list[Array]:
    keys = [clip.process if clip.fake else _group(clip.source) for clip in clips]
    mine = [key if clip.fake == fake else None for key, clip in zip(keys, clips, strict=True)]
    return [llr[[key == name for key in mine]] for name in sorted({key for key in mine if key})]


def table_of(
    llr: Array, clips: Sequence[Clip], threshold: float
) -> dict[str, dict[str, float | int]]:
    """Per corpus the false-positive rate; per process the true-positive rate and AUC against all reals."""
    real = numpy.array([not clip.fake for clip in clips])
    keys = numpy.array([clip.process if clip.fake else clip.source for clip in clips])
    rows: dict[str, dict[str, float | int]] = {}
    for name in sorted(set(keys)):
        mine = keys == name
        row: dict[str, float | int] = {"clips": int(mine.sum())}
        row["positive_rate"] = round(float((llr[mine] >= threshold).mean()), 3)
        if not real[mine].any():
            both = real | mine
            row["auc"] = round(float(roc_auc_score(~real[both], llr[both])), 3)
        rows[str(name)] = row
    return rows


def train(
    table: Path,
    weights: Path,
    kept: Path,
    *,
    epochs: int = 10,
    device: str = "cpu",
    say: Callable[[str], None],
) -> SpeechModel:
    """Measure, score unseen, calibrate, fit on everything, write the weights and the card."""
    clips = measured_clips(table, kept)
    say(f"{len(clips)} clips measured")
    scores = scored_unseen(clips, kept, epochs=epochs, device=device, say=say)
    calibration = {name: calibrated(clips, scores, name) for name in BANDWIDTHS}
    network = train_network(clips, epochs=epochs, device=device)
    linear = {name: train_linear(clips, name) for name in BANDWIDTHS}
    card = _card(clips, scores, calibration, network.width)
    model = SpeechModel(network=network, linear=linear, calibration=calibration, card=card)
    save_model(model, weights)
    return model


def _card(
    clips: Sequence[Clip], scores: Array, calibration: dict[str, Calibration], width: int
) -> dict[str, Any]:
    tables = {}
    for name, fitted in calibration.items():
        column = 1 if name == "narrow" else 2
        chosen = [i for i in range(len(clips)) if numpy.isfinite(scores[i, column])]
        llr = numpy.array([fitted(scores[i, 0], scores[i, column]) for i in chosen])
        tables[name] = table_of(llr, [clips[i] for i in chosen], fitted.point.threshold)
    fields = {name: asdict(fitted) for name, fitted in calibration.items()}
    points = {name: row.pop("point") for name, row in fields.items()}
    return {
        "what": "synthetic against recorded speech, 4 s at 16 kHz; llr above 0 speaks for synthetic",
        "width": width,
        "wide_from": WIDE_FROM,
        "deliveries": dict(Counter(clip.way for clip in clips)),
        "calibration": fields,
        "points": points,
        "unseen": tables,
        "blind_spots": "neural text to speech and voice cloning were not in the data; music; several voices",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--kept", type=Path, required=True, help="folder of features and folds")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    train(
        given.table, given.weights, given.kept, epochs=given.epochs, device=given.device, say=print
    )


if __name__ == "__main__":
    main()
