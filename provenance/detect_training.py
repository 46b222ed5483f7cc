"""All of the training of image detectors in one call: generators, pairs, the network, the heads.

Each step keeps what it finished in the folder, so that the same call goes on where it was stopped.
"""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from assaymark.provenance.decoder_training import Course, train_decoder
from assaymark.provenance.decoders import RECIPES, Autoencoder, load_decoder, save_decoder
from assaymark.provenance.detect_train import train_heads
from assaymark.provenance.fake_folder import make_pairs, photos_in
from assaymark.provenance.fakes import processes
from assaymark.provenance.material import read_picture
from assaymark.provenance.picture_history import Pixels
from assaymark.provenance.residual_training import train_network
from assaymark.reports.errors import InputError

_SIDE = 64  # of a crop that a generator is trained on
_MOST = 400  # photographs in memory


def train_all(
    photos: Path,
    out: Path,
    *,
    data: Path | None = None,
    decoders: int = 12,
    decoder_steps: int = 600,
    steps: int = 1500,
    seconds: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    note: Callable[[str], None] = lambda line: None,
) -> tuple[str, ...]:
    """Train on photographs (SOURCE/FILE) and, with `data` (real/SOURCE, fake/GENERATOR), fit the heads.

    Writes generators, pairs, image_residual.safetensors and, with data, image_heads.safetensors and
    image_residual.json to `out`. Returns what was made, a sentence each. Raises InputError for folders that
    cannot be trained on.
    """
    made = _generators(photos, out / "decoders", decoders, decoder_steps, device, seed, note)
    outcome = make_pairs(
        photos,
        processes(made),
        out / "pairs",
        seed=seed,
        progress=lambda done, total: note(f"pairs of {done} of {total} photographs"),
    )
    for path, why in islice(outcome.left_out.items(), 5):
        note(f"left out {path}: {why}")
    trained = train_network(
        out / "pairs", out, steps=steps, seconds=seconds, device=device, seed=seed, note=note
    )
    lines = [
        f"{len(made)} generators, {outcome.made + outcome.kept} pictures in {out / 'pairs'}, "
        f"{len(outcome.left_out)} photographs left out",
        f"network: {trained.steps} of {steps} steps; on sources held out, AUC of each process "
        + ", ".join(f"{name} {_number(value)}" for name, value in trained.auc.items()),
    ]
    if data is None:
        lines.append("heads: not fitted, as no labelled files were named (--data)")
    else:
        card = {"photographs": str(photos.name), "labelled": str(data.name), "seed": seed}
        heads = train_heads(
            data, out, photos=photos, measured_on=f"files of {data.name}", card=card
        )
        measured = heads["detectors"]["ensemble"]["measured"]
        lines.append(f"heads: AUC {measured['auc']:.3f} on sources and generators held out")
    return tuple(lines)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


def _generators(
    photos: Path,
    folder: Path,
    count: int,
    steps: int,
    device: str,
    seed: int,
    note: Callable[[str], None],
) -> dict[str, Autoencoder]:
    wanted = list(RECIPES)[:count]
    made: dict[str, Autoencoder] = {}
    pixels: list[Pixels] = []
    for name in wanted:
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            pixels = pixels or _pixels(photos)
            folder.mkdir(parents=True, exist_ok=True)
            note(f"training the generator {name}")
            model = train_decoder(
                RECIPES[name],
                pixels,
                course=Course(steps=steps, side=_SIDE, seed=seed),
                device=device,
                checkpoint=folder / f"{name}.ckpt",
            )
            save_decoder(model.cpu(), path)
        made[name] = load_decoder(path)
    return made


def _pixels(photos: Path) -> list[Pixels]:
    found: list[Pixels] = []
    for photo in photos_in(photos):
        try:
            pixels = read_picture(photo.path).pixels
        except InputError:
            continue
        if min(pixels.shape[:2]) >= _SIDE:
            found.append(pixels)
        if len(found) == _MOST:
            break
    if not found:
        raise InputError(
            f"{photos} holds no picture of at least {_SIDE} pixels that can be decoded"
        )
    return found
