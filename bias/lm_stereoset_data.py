"""StereoSet as published: clusters of a stereotype, an anti-stereotype and an unrelated sentence.

Nadeem et al. 2021 (https://arxiv.org/abs/2004.09456). The layout is that of the official dev.json; a file
with some of its clusters is read too, and its coverage said. Text is CC BY-SA 4.0; none is shipped here.
"""

import math
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from assaymark.bias.lm_pair_files import clip, field, read_json
from assaymark.reports.errors import InputError

Form = Literal["intrasentence", "intersentence"]
Label = Literal["stereotype", "anti-stereotype", "unrelated"]
FORMS: tuple[Form, ...] = get_args(Form)
LABELS: tuple[Label, ...] = get_args(Label)
PUBLISHED: dict[Form, int] = {"intrasentence": 2106, "intersentence": 2123}
"""How many clusters the official dev.json has."""
_STRIPPED = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """filler: the word that stands in the blank, without punctuation; "" between sentences."""

    id: str
    text: str
    filler: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """target: the term that it is about. domain: gender, profession, race or religion."""

    id: str
    form: Form
    target: str
    domain: str
    context: str
    sentences: Mapping[Label, Sentence]


@dataclass(frozen=True, kw_only=True)
class StereoSet:
    """The clusters of a file. revision: its version and coverage, in words."""

    name: str
    sha256: str
    revision: str
    clusters: tuple[Cluster, ...]

    @property
    def forms(self) -> tuple[Form, ...]:
        there = {cluster.form for cluster in self.clusters}
        return tuple(form for form in FORMS if form in there)


def load_stereoset(path: str | Path) -> StereoSet:
    """The clusters of a file in the layout of dev.json.

    Raises InputError, with the place, for a file that cannot be read, has another layout, no clusters, an id
    twice, a cluster without its three kinds of sentence, or a context without a BLANK.
    """
    path = Path(path)
    value, digest = read_json(path)
    data = field(value, "data", dict, str(path))
    if not any(form in data for form in FORMS):
        raise InputError(f'{path} has neither "intrasentence" nor "intersentence" under "data"')
    clusters = tuple(
        _cluster(record, form, f"{path}: data.{form}[{number}]")
        for form in FORMS
        if form in data
        for number, record in enumerate(field(data, form, list, f"{path}: data"))
    )
    if not clusters:
        raise InputError(f"{path} has no clusters: expected the official dev.json or a part of it")
    _once(path, [cluster.id for cluster in clusters])
    _once(path, [one.id for cluster in clusters for one in cluster.sentences.values()])
    counts = Counter(cluster.form for cluster in clusters)
    coverage = ", ".join(
        f"{counts[form]:,} of {PUBLISHED[form]:,} {form} clusters" for form in FORMS
    )
    version = clip(str(value.get("version", "not given")), 40)
    return StereoSet(
        name=path.name,
        sha256=digest,
        revision=f"version {version}, {coverage}",
        clusters=clusters,
    )


def from_predictions(path: str | Path) -> dict[str, float]:
    """Scores by sentence id, from a file of predictions as StereoSet's own scripts write it.

    The layout is {"intrasentence": [{"id", "score"}], "intersentence": …}. Raises InputError for another
    layout, a score that is no finite number, or an id that has two scores.
    """
    path = Path(path)
    value, _ = read_json(path)
    if not isinstance(value, dict) or not any(form in value for form in FORMS):
        raise InputError(
            f'{path} has neither "intrasentence" nor "intersentence": expected predictions as the '
            "scripts of StereoSet write them"
        )
    scores: dict[str, float] = {}
    for form in FORMS:
        records = field(value, form, list, str(path)) if form in value else []
        for number, record in enumerate(records):
            where = f"{path}: {form}[{number}]"
            name, score = field(record, "id", str, where), record.get("score")
            if isinstance(score, bool) or not isinstance(score, int | float) or not _finite(score):
                raise InputError(
                    f'"score" of {where} is {clip(repr(score), 60)}: expected a finite number'
                )
            if scores.setdefault(name, float(score)) != score:
                raise InputError(f'"{clip(name, 60)}" has two scores at {where}: expected one')
    return scores


def _finite(score: float) -> bool:
    try:
        return math.isfinite(score)
    except OverflowError:  # an integer beyond any float
        return False


def _once(path: Path, ids: list[str]) -> None:
    twice = [one for one, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(
            f'{path} has the id "{clip(twice[0], 60)}" more than once: expected one each'
        )


def _cluster(record: Any, form: Form, where: str) -> Cluster:
    name, target, domain, context = (
        field(record, key, str, where) for key in ("id", "target", "bias_type", "context")
    )
    if form == "intrasentence" and "BLANK" not in context:
        raise InputError(f'"context" of {where} has no BLANK: "{clip(context, 60)}"')
    place = _blank(context) if form == "intrasentence" else None
    sentences = dict(_sentences(field(record, "sentences", list, where), place, where))
    if len(sentences) != len(LABELS):
        raise InputError(
            f"{where} has sentences of the kinds {', '.join(sorted(sentences)) or 'none'}: expected one "
            f"each of {', '.join(LABELS)}"
        )
    return Cluster(
        id=name,
        form=form,
        target=clip(target, 100),
        domain=clip(domain, 100),
        context=context,
        sentences=sentences,
    )


def _blank(context: str) -> int:
    """The place of the blank among the words; the last one, as the official dataloader has it."""
    return max(place for place, word in enumerate(context.split(" ")) if "BLANK" in word)


def _sentences(
    records: list[Any], place: int | None, where: str
) -> Iterator[tuple[Label, Sentence]]:
    for number, record in enumerate(records):
        spot = f"{where}.sentences[{number}]"
        name, text, label = (
            field(record, key, str, spot) for key in ("id", "sentence", "gold_label")
        )
        known = next((one for one in LABELS if one == label), None)
        if known is None or number >= len(LABELS):
            raise InputError(
                f'"gold_label" of {spot} is "{clip(label, 40)}": expected three sentences, one each of '
                f"{', '.join(LABELS)}"
            )
        words = text.split(" ")
        filler = words[place] if place is not None and place < len(words) else ""
        yield known, Sentence(id=name, text=text, filler=filler.translate(_STRIPPED))
