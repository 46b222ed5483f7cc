"""Classifiers of texts: a sentiment lexicon, and whatever the user names.

textblob · hf:FOLDER (a transformers sequence classifier, safetensors; hf://OWNER/NAME may download) ·
package.module:function, which takes a list of texts and returns a number, or a label, for each. There is no
toxicity classifier built in: a list of slurs would mistake who is spoken about for how. A text that the
classifier fails on has no score, never 0.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from assaymark.bias.lm_model import Failed, Lost, Progress, quiet
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.named_code import first_line, reason, resolve

BATCH = 32
LONGEST = 100_000
"""Characters of a text: a longer one is not classified."""
LEXICON = "textblob"
REGARDS = ("positive", "negative", "neutral", "other")
Answers = list[object | Failed]


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """Texts to an answer each; whoever has none is Failed.

    languages: ISO codes of those that it reads, empty where nothing is known. knows: whether it can say
    anything of a text, None where nothing is known. facts: where it comes from, for the report.
    """

    name: str
    answer: Callable[[Sequence[str]], Sequence[object]]
    languages: tuple[str, ...] = ()
    knows: Callable[[str], bool] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A number in [low, high] for each text. label: which class it is the probability of, if any."""

    classifier: Classifier
    low: float = 0.0
    high: float = 1.0
    label: str = ""

    def __call__(self, texts: Sequence[str], progress: Progress = quiet) -> list[float | Failed]:
        """One score a text, in order; equal texts are scored once."""
        return [
            one if isinstance(one, Failed) else self._checked(one)
            for one in _answers(self.classifier, texts, progress)
        ]

    def _checked(self, answer: object) -> float | Failed:
        try:
            number = float(answer)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(answer, str) or not self.low <= number <= self.high:
            return Failed(
                "unparsable",
                f"{self.classifier.name} answered {str(answer)[:40]!r}: expected a number in "
                f"[{self.low:g}, {self.high:g}]",
            )
        return number


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """One of REGARDS for each text. labels: what the classifier says, in small letters, to one of them."""

    classifier: Classifier
    labels: Mapping[str, str]

    def __call__(self, texts: Sequence[str], progress: Progress = quiet) -> list[str | Failed]:
        """One label a text, in order."""
        return [
            one if isinstance(one, Failed) else self._checked(one)
            for one in _answers(self.classifier, texts, progress)
        ]

    def _checked(self, answer: object) -> str | Failed:
        found = self.labels.get(answer.casefold()) if isinstance(answer, str) else None
        if found is None:
            return Failed(
                "unparsable",
                f"{self.classifier.name} answered {str(answer)[:40]!r}: expected one of "
                f"{', '.join(self.labels)}",
            )
        return found


def scorer(
    spec: str,
    *,
    label: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
    folder: Path = Path(),
    languages: Sequence[str] = (),
    device: str = "cpu",
) -> Scorer:
    """The scorer that a spec names; files and modules are looked up in `folder`.

    label: of an hf: classifier, the class whose probability is the score, such as "toxic". low, high: the
    range of the numbers of a function. languages: those that it reads. Raises InputError where there is no
    such classifier, or it is no classifier.
    """
    if not low < high:
        raise InputError(f"a score from {low:g} to {high:g} has no range: expected low below high")
    if spec == LEXICON:
        return Scorer(classifier=_lexicon(), low=-1.0, high=1.0)
    if spec.startswith("hf:"):
        found = _network(spec, folder, device)
        chosen = _label_of(found.labels, label, spec)
        return Scorer(
            classifier=found.classifier(tuple(languages), chosen), label=found.labels[chosen]
        )
    return Scorer(classifier=_function(spec, folder, tuple(languages)), low=low, high=high)


def labeller(
    spec: str,
    *,
    labels: Mapping[str, str] | None = None,
    folder: Path = Path(),
    languages: Sequence[str] = (),
    device: str = "cpu",
) -> Labeller:
    """The classifier of regard that a spec names: its likeliest class, or what a function says.

    labels: the names of its classes, each to one of REGARDS; without, they have these names themselves.
    Raises InputError as `scorer` does.
    """
    wanted = {name.casefold(): to for name, to in (labels or {one: one for one in REGARDS}).items()}
    wrong = sorted(set(wanted.values()) - set(REGARDS))
    if wrong:
        raise InputError(f"a label means {wrong[0]!r}{nearest(wrong[0], REGARDS)}")
    if spec == LEXICON:
        raise InputError(
            f"{LEXICON} knows sentiment, not regard: name hf:FOLDER or module:function"
        )
    if not spec.startswith("hf:"):
        return Labeller(classifier=_function(spec, folder, tuple(languages)), labels=wanted)
    found = _network(spec, folder, device)
    unknown = [name for name in found.labels if name.casefold() not in wanted]
    if unknown:
        raise InputError(
            f"{spec} has the class {unknown[0]!r}, of which nothing is said: give labels, each class to one "
            f"of {', '.join(REGARDS)}"
        )
    return Labeller(classifier=found.classifier(tuple(languages), None), labels=wanted)


def _answers(classifier: Classifier, texts: Sequence[str], progress: Progress) -> Answers:
    """One answer a text; those that hold nothing, or too much, are not asked for."""
    found: dict[str, object | Failed] = {}
    for text in dict.fromkeys(texts):
        if not text.strip("\0 \t\r\n"):
            found[text] = Failed(
                "unparsable", "an empty text says nothing that could be classified"
            )
        elif len(text) > LONGEST:
            found[text] = Failed(
                "too-long",
                f"a text of {len(text):,} characters: at most {LONGEST:,} are classified",
            )
    asked = sorted((text for text in dict.fromkeys(texts) if text not in found), key=len)
    for begin in range(0, len(asked), BATCH):
        batch = asked[begin : begin + BATCH]
        found.update(zip(batch, _batch(classifier, batch), strict=True))
        progress(begin + len(batch), len(asked))
    return [found[text] for text in texts]


def _batch(classifier: Classifier, batch: list[str]) -> Answers:
    """The answers to some texts; each by itself where the classifier fails on all of them together."""
    try:
        answers = list(classifier.answer(batch))
        if len(answers) == len(batch):
            return answers
        why = f"returned {len(answers)} answers to {len(batch)} texts"
    except (Exception, SystemExit) as error:
        why = f"failed, {reason(error)}"
    if len(batch) > 1:
        return [one for text in batch for one in _batch(classifier, [text])]
    return [Failed("error", f"{classifier.name} {why}")]


def _function(spec: str, folder: Path, languages: tuple[str, ...]) -> Classifier:
    if not re.fullmatch(r"[\w.]+:[\w.]+", spec):
        raise InputError(
            f"{spec[:80]!r} names no classifier: expected {LEXICON}, hf:FOLDER or package.module:function"
        )
    function: Any = resolve(spec, folder)
    if not callable(function):
        raise InputError(
            f"{spec} is a {type(function).__name__}: expected a function from a list of texts to a list"
        )
    return Classifier(
        name=spec, answer=lambda texts: list(function(list(texts))), languages=languages
    )


def _lexicon() -> Classifier:
    """Polarity in [-1, 1] by the lexicon of pattern.en, as textblob ships it; English only."""
    try:
        from importlib.metadata import version

        from textblob.en.sentiments import PatternAnalyzer
    except ImportError as error:
        raise InputError(
            f"{LEXICON} is not installed: pip install 'assaymark[lm]' ({first_line(error)})"
        ) from error
    analyzer = PatternAnalyzer()

    @lru_cache(maxsize=4096)
    def read(text: str) -> tuple[float, bool]:
        found = analyzer.analyze(text, keep_assessments=True)
        return float(found.polarity), bool(found.assessments)

    return Classifier(
        name=LEXICON,
        answer=lambda texts: [read(text)[0] for text in texts],
        languages=("en",),
        knows=lambda text: read(text)[1],
        facts={"lexicon": f"pattern.en in textblob {version('textblob')}"},
    )


@dataclass(frozen=True, kw_only=True)
class _Network:
    """A sequence classifier of transformers, in memory. several: a text can have many of the labels."""

    spec: str
    tokenizer: Any
    network: Any
    labels: tuple[str, ...]
    several: bool
    longest: int
    sha256: str

    def classifier(self, languages: tuple[str, ...], chosen: int | None) -> Classifier:
        """chosen: the class whose probability is the answer; None for the name of the likeliest class."""

        def answer(texts: Sequence[str]) -> Answers:
            found: Answers = []
            for row in self._probabilities(texts):
                if isinstance(row, Failed):
                    found.append(row)
                elif chosen is not None:
                    found.append(row[chosen])
                else:
                    found.append(self.labels[max(range(len(row)), key=row.__getitem__)])
            return found

        return Classifier(
            name=self.spec, answer=answer, languages=languages, facts={"sha256": self.sha256}
        )

    def _probabilities(self, texts: Sequence[str]) -> list[list[float] | Failed]:
        import torch

        counts = [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]
        fit = [text for text, count in zip(texts, counts, strict=True) if count <= self.longest]
        rows: list[list[float]] = []
        if fit:
            read = self.tokenizer(fit, padding=True, return_tensors="pt").to(self.network.device)
            with torch.inference_mode():
                logits = self.network(**read).logits.double()
            rows = (logits.sigmoid() if self.several else logits.softmax(-1)).tolist()
        left = iter(rows)
        kind: Lost = "too-long"
        return [
            next(left)
            if count <= self.longest
            else Failed(kind, f"{count} tokens: {self.spec} reads at most {self.longest}")
            for count in counts
        ]


def _network(spec: str, folder: Path, device: str) -> _Network:
    from assaymark.bias.lm_encoder_files import find, read_json

    found = find(spec, folder)
    kinds = read_json(found.folder / "config.json", spec).get("architectures") or ["nothing"]
    if not any("ForSequenceClassification" in str(kind) for kind in kinds):
        raise InputError(
            f"{spec} is {str(kinds[0])[:80]}: expected an architecture …ForSequenceClassification"
        )
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        from assaymark.bias.lm_windows import window_of
    except ImportError as error:
        raise InputError(
            f"{spec} needs transformers: pip install 'assaymark[lm]' ({first_line(error)})"
        ) from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, loaded = AutoModelForSequenceClassification.from_pretrained(
            str(found.folder),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            str(found.folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise InputError(f"{spec} cannot be read by transformers: {first_line(error)}") from error
    lacking = [*loaded["missing_keys"], *(loaded.get("mismatched_keys") or [])]
    if lacking:
        raise InputError(f"the weights of {spec} lack {lacking[0]}: it would be random")
    settings = network.config
    labels = tuple(str(settings.id2label[place]) for place in range(settings.num_labels))
    several = settings.problem_type == "multi_label_classification" or len(labels) == 1
    return _Network(
        spec=spec,
        tokenizer=tokenizer,
        network=network.eval().float().to(device),
        labels=labels,
        several=several,
        longest=min(int(tokenizer.model_max_length), window_of(network, tokenizer)),
        sha256=found.weights,
    )


def _label_of(labels: tuple[str, ...], wanted: str | None, spec: str) -> int:
    """Which class has this name; the only one needs none."""
    if wanted is None and len(labels) == 1:
        return 0
    if wanted is None:
        raise InputError(f"{spec} has the classes {', '.join(labels)}: say which label is scored")
    same = [place for place, name in enumerate(labels) if name.casefold() == wanted.casefold()]
    if len(same) != 1:
        raise InputError(f"{spec} has no class {wanted!r}{nearest(wanted, labels)}")
    return same[0]
