"""The protection check: whether recognisers still recognise pictures with protective noise.

What is measured are the files as they lie there, decoded again, never what a search held in memory.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assaymark.reports.errors import InputError
from assaymark.reports.model import CheckResult, Gate
from assaymark.robustness import picture_files, protection_findings
from assaymark.robustness.decode import labels_of
from assaymark.robustness.evaluate import frozen
from assaymark.robustness.oracle import Oracle, logits_of
from assaymark.robustness.picture_files import StoredPicture, written_name
from assaymark.robustness.recognisers import Recogniser, check_apart
from assaymark.robustness.shard import finite
from assaymark.robustness.streams import Streams
from assaymark.robustness.transforms import Transform
from assaymark.robustness.types import Images, Labels


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """What one recogniser answers to n pictures, as they are and after each of c countermeasures.

    own: the class by which a picture is recognised. before, after: answers to the original and to the
    protected picture, the first column without a countermeasure. sure_before, sure_after: the
    probability of the answer in that column. missing: pictures without a protected copy; they
    count as recognised. control: answers to the original with random noise of each picture's own
    largest change. classes: how many there are; a higher answer says "rejected".
    """

    name: str
    classes: int
    own: Int[Tensor, " n"]
    before: Int[Tensor, "n treatments"]
    after: Int[Tensor, "n treatments"]
    sure_before: Float[Tensor, " n"]
    sure_after: Float[Tensor, " n"]
    missing: Bool[Tensor, " n"]
    control: Int[Tensor, " n"]

    @property
    def recognised(self) -> Bool[Tensor, "n treatments"]:
        """Whether the original is recognised."""
        return (self.before == self.own[:, None]) & (self.own[:, None] < self.classes)

    @property
    def readable(self) -> Bool[Tensor, "n treatments"]:
        """Whether the protected picture is recognised, or there is none."""
        return (self.after == self.own[:, None]) | self.missing[:, None]


def measure(
    originals: Sequence[Tensor],
    protected: Sequence[Tensor | None],
    recognisers: Sequence[Recogniser],
    *,
    labels: Labels | None = None,
    countermeasures: Sequence[Transform] = (),
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Reading, ...]:
    """What each recogniser answers to each picture, asked alone and in float32.

    originals, protected: pictures of any sizes (channels×height×width in [0, 1]), side by side.
    labels: the true classes; without them a picture is recognised by the recogniser's own answer to the
    original.
    """
    asked = [Oracle(recogniser.module, batch_size=1) for recogniser in recognisers]
    rows: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in recognisers]
    with ExitStack() as stack:
        for recogniser in recognisers:
            stack.enter_context(frozen(recogniser.module))
        torch.manual_seed(0)  # for recognisers that answer at random
        for number, (original, copy) in enumerate(zip(originals, protected, strict=True)):
            noisy = _control(number, original, copy)[None].to(device)
            there = (original,) if copy is None else (original, copy)
            shown = [_treated(one[None].to(device), countermeasures) for one in there]
            for ask, row in zip(asked, rows, strict=True):
                shares = [_shares(ask, views) for views in shown]
                row.append((shares[0], shares[-1], _shares(ask, [noisy])[0]))
            progress(number + 1, len(originals))
    absent = torch.tensor([copy is None for copy in protected], dtype=torch.bool)
    return tuple(
        _reading(recogniser, row, labels, absent)
        for recogniser, row in zip(recognisers, rows, strict=True)
    )


def _reading(
    recogniser: Recogniser,
    row: Sequence[tuple[Tensor, Tensor, Tensor]],
    labels: Labels | None,
    missing: Bool[Tensor, " n"],
) -> Reading:
    """From the probabilities answered to original, copy and control."""
    before, after, control = (torch.stack(part) for part in zip(*row, strict=True))
    return Reading(
        name=recogniser.name,
        classes=recogniser.loaded.classes,
        own=before[:, 0].argmax(1) if labels is None else labels,
        before=before.argmax(2),
        after=after.argmax(2),
        sure_before=before[:, 0].amax(1),
        sure_after=after[:, 0].amax(1),
        missing=missing,
        control=control.argmax(1),
    )


def _control(number: int, original: Tensor, copy: Tensor | None) -> Tensor:
    """The original with noise of random signs, as large as the largest change of its copy."""
    if copy is None:
        return original
    signs = Streams.of(0, "control", [number]).signs(original[None], "control")[0]
    return (original + (copy - original).abs().max() * signs).clamp(0, 1)


def _treated(x: Images, countermeasures: Sequence[Transform]) -> list[Tensor]:
    """A picture as it is and after each countermeasure."""
    with torch.no_grad():
        return [x, *(transform(x) for transform in countermeasures)]


def _shares(ask: Oracle, views: Sequence[Tensor]) -> Float[Tensor, "treatments classes"]:
    """The probabilities answered to each of some pictures, asked about alone."""
    return torch.cat([finite(logits_of(ask, one)) for one in views]).cpu().double().softmax(1)


def known_labels(
    pictures: Sequence[StoredPicture],
    labels: str | None,
    classes: tuple[str, ...] | None,
    folder: Path = Path(),
) -> tuple[Labels | None, tuple[str, ...] | None]:
    """The true classes and their names: None, "known" (class folders, the data's own), or a .csv file.

    Raises InputError where a picture has no label.
    """
    if labels is None:
        return None, classes
    if labels == "known":
        told = [picture.folder if picture.label is None else picture.label for picture in pictures]
        without = [p.name for p, label in zip(pictures, told, strict=True) if label is None]
        if without:
            raise InputError(
                f"{without[0]} lies in no class folder, so its label is not known: expected "
                "FOLDER/CLASS/picture.png, or a .csv with the columns file and label"
            )
        names = {p.label: p.folder for p in pictures if p.label is not None and p.folder}
        if names and classes is None and len(names) == max(names) + 1:
            classes = tuple(str(names[number]) for number in sorted(names))
        numbers, found = labels_of(told, "the originals", classes)
    else:
        numbers, found = labels_of(_listed(pictures, folder / labels, labels), labels, classes)
    return torch.from_numpy(numbers), found or classes


def _listed(pictures: Sequence[StoredPicture], path: Path, name: str) -> list[str]:
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read the labels {name}: {error}; expected known or a .csv file"
        ) from error
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise InputError(f"{name} has no columns file and label, or no rows: expected both")
    told = {row["file"]: row["label"] or "" for row in rows}
    without = [picture.name for picture in pictures if picture.name not in told]
    if without:
        raise InputError(
            f"{name} has no label of {without[0]}: expected a row for each of {len(pictures)} pictures, "
            "by its path in the folder"
        )
    return [told[picture.name] for picture in pictures]


def agree(
    recognisers: Sequence[Recogniser], labels: Labels | None, classes: tuple[str, ...] | None
) -> None:
    """Raises InputError where labels or class names do not fit a recogniser."""
    for recogniser in recognisers:
        count = recogniser.loaded.classes
        if classes is not None and len(classes) != count:
            raise InputError(
                f"{recogniser.name} answers {count} classes, and {len(classes)} are named: name all of "
                "them in its output order with classes = […]"
            )
        if labels is not None and int(labels.max()) >= count:
            raise InputError(
                f"there is the label {int(labels.max())}, but {recogniser.name} answers only {count} "
                f"classes (0 to {count - 1})"
            )


def copies(pictures: Sequence[StoredPicture], folder: Path) -> list[StoredPicture | None]:
    """The protected copy of each picture, None where there is none.

    Raises InputError for a copy of another size or colour than its original, and for two of one.
    """
    found: list[StoredPicture | None] = []
    for picture in pictures:
        names = dict.fromkeys((written_name(picture.name, "png"), picture.name))
        there = [name for name in names if (folder / name).is_file()]
        if len(there) > 1:
            raise InputError(
                f"{folder} holds {' and '.join(there)}: which of them protects {picture.name} is not "
                "known; take one away"
            )
        if not there:
            found.append(None)
            continue
        copy = picture_files.read(folder / there[0], there[0])
        if copy.pixels.shape != picture.pixels.shape:
            sizes = ["×".join(map(str, one.pixels.shape)) for one in (copy, picture)]
            raise InputError(
                f"{folder / there[0]} is {sizes[0]} (channels×height×width) and its original "
                f"{sizes[1]}: it is no protected copy of {picture.name}"
            )
        found.append(copy)
    return found


def check_protection(
    check: str,
    pictures: Sequence[StoredPicture],
    protected: Path,
    recognisers: Sequence[Recogniser],
    held_out: Sequence[Recogniser] = (),
    *,
    labels: str | None = None,
    classes: tuple[str, ...] | None = None,
    countermeasures: Mapping[str, Transform] | None = None,
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    folder: Path = Path(),
    device: torch.device | str = "cpu",
    keep: int = 6,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """How many of the pictures that were recognised no longer are, and how much they were changed.

    protected: the folder with the copies, by the names of the originals or as .png. recognisers: a
    picture is protected when none of them recognises it; held_out: others, that the noise was not made
    for. labels: None (a recogniser's own answer to the original is what must change), "known" or a
    .csv. countermeasures: by the names that the report shows. keep: how many pictures go into the
    evidence. Raises InputError for pictures, labels or models that do not fit together.
    """
    measures = countermeasures or {}
    numbers, names = known_labels(pictures, labels, classes, folder)
    agree((*recognisers, *held_out), numbers, names)
    check_apart(recognisers, held_out)
    found = copies(pictures, protected)
    readings = measure(
        [picture.image for picture in pictures],
        [None if copy is None else copy.image for copy in found],
        (*recognisers, *held_out),
        labels=numbers,
        countermeasures=tuple(measures.values()),
        device=device,
        progress=progress,
    )
    result = protection_findings.Result(
        check=check,
        pictures=tuple(pictures),
        copies=tuple(found),
        readings=readings[: len(recognisers)],
        held_out=readings[len(recognisers) :],
        treatments=("as written", *measures),
        classes=names,
        labels=labels,
        strangers=_strangers(pictures, found, protected),
    )
    return CheckResult(
        findings=protection_findings.findings(result, gates, tags, keep),
        method=protection_findings.method(result, (*recognisers, *held_out)),
        digests={
            one.name: one.loaded.sha256
            for one in (*recognisers, *held_out)
            if one.loaded.sha256 is not None
        },
    )


def _strangers(
    pictures: Sequence[StoredPicture], found: Sequence[StoredPicture | None], folder: Path
) -> tuple[str, ...]:
    """Pictures in the folder that have no original."""
    if not folder.is_dir():
        return ()
    known = {copy.name for copy in found if copy is not None}
    return tuple(name for name in picture_files.names_in(folder) if name not in known)
