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

from assaymark.bias.lm_model import Failed, Progress, quiet
from assaymark.bias.lm_text_network import Network, read_network
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
        found = read_network(spec, folder, device)
        chosen = _label_of(found.labels, label, spec)
        return Scorer(
            classifier=_network(found, tuple(languages), chosen), label=found.labels[chosen]
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
    found = read_network(spec, folder, device)
    unknown = [name for name in found.labels if name.casefold() not in wanted]
    if unknown:
        raise InputError(
            f"{spec} has the class {unknown[0]!r}, of which nothing is said: give labels, each class to one "
            f"of {', '.join(REGARDS)}"
        )
    return Labeller(classifier=_network(found, tuple(languages), None), labels=wanted)


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


def _network(found: Network, languages: tuple[str, ...], chosen: int | None) -> Classifier:
    return Classifier(
        name=found.spec,
        answer=lambda texts: found.answers(texts, chosen),
        languages=languages,
        facts={"sha256": found.sha256},
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
