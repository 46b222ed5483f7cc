"""BBQ asked of a language model, or scored from stored predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy

from assaymark.bias.findings import Measured
from assaymark.bias.lm_bbq import BBQ, UNKNOWN, Item, load_bbq
from assaymark.bias.lm_bbq_scores import categories, item_values, part_of, scores
from assaymark.bias.lm_choice_files import clip
from assaymark.bias.lm_choice_replies import plain
from assaymark.bias.lm_choice_report import (
    Formats,
    ask_all,
    counted,
    estimates_of,
    evidence_of,
    format_spread,
    order_sensitivity,
    without_ties,
)
from assaymark.bias.lm_choices import SAMPLING, Mode, Orders, Question, Tally
from assaymark.bias.lm_model import Failed, LanguageModel, Progress, Sampling, quiet
from assaymark.bias.lm_outcome import Outcome, Parts, parts_of
from assaymark.reports.errors import InputError
from assaymark.reports.model import Cell, Evidence, Table

Variant = Literal["likelihood", "likelihood-plain", "letters", "chat"]
VARIANTS: dict[Variant, tuple[Mode, bool, str]] = {
    "likelihood": (
        "likelihood",
        True,
        "The option that is likeliest as the continuation; UNKNOWN is as likely as the likeliest of the ten "
        "ways to write it (12 choices, as lm-evaluation-harness asks BBQ).",
    ),
    "likelihood-plain": (
        "likelihood",
        False,
        "The likeliest of the three options as they are written.",
    ),
    "letters": ("letters", False, "The likeliest letter after the list of options."),
    "chat": ("chat", True, "The options are listed in a question, and the reply is read."),
}
SOURCES = (
    "Parrish et al., BBQ: A Hand-Built Bias Benchmark for Question Answering, Findings of ACL 2022",
    "https://github.com/nyu-mll/BBQ",
)
_NOT_TESTED = (
    "BBQ is in English and about stereotypes attested in the United States.",
    "A score near 0 says that answers lean neither way over these templates, not that a model is unbiased.",
)
_WORST = 20
CONTEXTS = {
    "bbq_accuracy_ambiguous": True,
    "bbq_bias_ambiguous": True,
    "bbq_accuracy_disambiguated": False,
    "bbq_bias_disambiguated": False,
    "bbq_alignment_cost": False,
    "bbq_unknown_share": False,
}
"""Whether a number is about ambiguous contexts."""


def run_bbq(
    model: LanguageModel,
    data: BBQ,
    *,
    variant: Variant = "likelihood",
    seed: int = 0,
    orders: Orders = "given",
    formats: Formats = (),
    sampling: Sampling = SAMPLING,
    progress: Progress = quiet,
) -> Outcome:
    """Accuracy and bias scores of each category; names and labels apart, categories never averaged.

    variant: see VARIANTS; "chat" needs a model that can generate, the others one that can score. orders:
    "all" asks each question with its options in every order ("letters", "chat", and formats of the others
    that list them). formats: prompt formats (lm_choices.FORMATS), () for the usual one, "all" for each of
    them. seed: of bootstrap intervals. Raises InputError where the model cannot be asked so.
    """
    if variant not in VARIANTS:
        raise InputError(f'"{variant}" is no variant of BBQ; known are {", ".join(VARIANTS)}')
    mode, worded, step = VARIANTS[variant]
    found = ask_all(
        model,
        [question_of(item, worded=worded) for item in data.items],
        mode=mode,
        orders=orders,
        formats=formats,
        sampling=sampling,
        progress=progress,
    )
    return _outcome(data, found, seed, (step, f"Prompt format: {next(iter(found))}."))


def question_of(item: Item, *, worded: bool) -> Question:
    """worded: UNKNOWN may be written in any of the ten ways."""
    ways: list[tuple[str, ...]] = [(), (), ()]
    ways[item.unknown] = UNKNOWN if worded else ()
    return Question(
        id=item.id,
        context=item.context,
        text=item.question,
        options=item.options,
        wordings=tuple(ways),
    )


def scores_of_predictions(path: str | Path, *, seed: int = 0) -> dict[str, Outcome]:
    """The scores of stored predictions, for each column with "_pred_" in its name.

    path: official files with such columns, as the authors' results folder has them: the text of one of the
    answers. A prediction that is none of them is lost. Raises InputError where there is no such column.
    """
    data = load_bbq(path)
    columns = dict.fromkeys(name for item in data.items for name in item.predictions)
    if not columns:
        raise InputError(
            f'{path}: has no column with "_pred_" in its name; give files with predictions'
        )
    step = "Stored predictions, matched with the answers without regard to case, articles and punctuation."
    return {
        name: _outcome(data, {name: _stored(data.items, name)}, seed, (step,)) for name in columns
    }


def _stored(items: Sequence[Item], column: str) -> Tally:
    shares = numpy.full((len(items), 3), numpy.nan)
    failures: list[Failed | None] = []
    for row, item in enumerate(items):
        said = item.predictions.get(column)
        places = [i for i, option in enumerate(item.options) if plain(said or "") == plain(option)]
        if len(places) == 1:
            shares[row] = numpy.eye(3)[places[0]]
        reason = "no prediction" if said is None else f"none of the answers: {clip(said, 80)}"
        failures.append(None if len(places) == 1 else Failed("unparsable", reason))
    return Tally(
        shares=shares,
        scores=numpy.full((len(items), 3), numpy.nan),
        failures=tuple(failures),
        tied=numpy.zeros(len(items), dtype=bool),
        changed=numpy.full(len(items), numpy.nan),
    )


def _outcome(data: BBQ, found: dict[str, Tally], seed: int, steps: tuple[str, ...]) -> Outcome:
    items, main = data.items, next(iter(found.values()))

    def mine(name: str, row: int) -> bool:
        return items[row].category == name

    by_format = {
        name: without_ties(_scores(items, one, seed), one, mine) for name, one in found.items()
    }
    measured = [*next(iter(by_format.values())), *without_ties(_orders(items, main), main, mine)]
    measured += format_spread("bbq", by_format)
    names = categories(items)
    counts = counted(names, main, mine)
    return Outcome(
        measured=tuple(measured),
        items=len(items),
        answered=main.answered,
        lost=main.lost,
        said=main.said,
        ties=int(main.tied.sum()),
        evidence=(
            *evidence_of("BBQ", measured, counts, main, by_format),
            *_charts(measured),
            _worst(items, main),
        ),
        item_values=tuple(
            one
            for name in names
            for one in item_values(
                name,
                part_of(items, main.shares, name, ambiguous=True),
                part_of(items, main.shares, name, ambiguous=False),
            )
        ),
        revision=f"BBQ, {len(items)} questions of {', '.join(names)}",
        steps=(
            *steps,
            "s_AMB is scaled by the accuracy in ambiguous contexts; intervals take the templates "
            "(question_index) as independent.",
            f"{data.without_target} questions have no one answer that goes with the stereotype; they count "
            "for accuracy only.",
            *_unbalanced(items),
        ),
        not_tested=_NOT_TESTED,
        sources=SOURCES,
        parts=_parts(items, main),
    )


def _parts(items: Sequence[Item], main: Tally) -> Parts:
    """Answered questions of each category, in the kind of context that a number is about."""
    known = [(item, failure is None) for item, failure in zip(items, main.failures, strict=True)]
    found = parts_of((item.category, item.ambiguous, there) for item, there in known)
    for measure, ambiguous in CONTEXTS.items():
        mine = [(item.category, "", there) for item, there in known if item.ambiguous == ambiguous]
        found |= parts_of(mine, measure)
    return found


def _unbalanced(items: Sequence[Item]) -> list[str]:
    """Categories whose right answers do not go with the stereotype half the time."""
    notes = []
    for name in categories(items):
        told = [x for x in items if x.category == name and not x.ambiguous and x.target is not None]
        perfect = 2 * sum(x.target == x.label for x in told) / len(told) - 1 if told else 0.0
        if abs(perfect) >= 0.005:
            notes.append(
                f"The questions about {name} are not balanced: a model that is always right would have "
                f"s_DIS {100 * perfect:.1f} of 100."
            )
    return notes


def _scores(items: Sequence[Item], found: Tally, seed: int) -> list[Measured]:
    measured: list[Measured] = []
    for name in categories(items):
        lost = sum(
            failure is not None and item.category == name
            for item, failure in zip(items, found.failures, strict=True)
        )
        parts = [
            part_of(items, found.shares, name, ambiguous=ambiguous) for ambiguous in (True, False)
        ]
        measured += scores(name, *parts, lost=lost, seed=seed)
    return measured


def _orders(items: Sequence[Item], main: Tally) -> list[Measured]:
    measured: list[Measured] = []
    for name in categories(items):
        rows = [row for row, item in enumerate(items) if item.category == name]
        measured += order_sensitivity(
            "bbq", name, main, rows, [items[row].template for row in rows]
        )
    return measured


def _charts(measured: Sequence[Measured]) -> list[Evidence]:
    """Accuracies by category, and the bias scores brought to [0, 1]."""
    charts = (
        ("bbq_accuracy_ambiguous", "BBQ: right answers where the text does not say", _same),
        ("bbq_accuracy_disambiguated", "BBQ: right answers where the text says", _same),
        ("bbq_bias_ambiguous", "BBQ: (1 + s_AMB) / 2, where 0.5 is no bias", _halved),
        ("bbq_bias_disambiguated", "BBQ: (1 + s_DIS) / 2, where 0.5 is no bias", _halved),
    )
    return [
        estimates_of(title, [one for one in measured if one.measure == measure], scale=scale)
        for measure, title, scale in charts
    ]


def _same(value: float) -> float:
    return value


def _halved(value: float) -> float:
    return (1 + value) / 2


def _worst(items: Sequence[Item], main: Tally) -> Table:
    """Wrong answers that go with the stereotype, those first that the model prefers most."""
    wrong: list[tuple[float, int]] = []
    for row, item in enumerate(items):
        shares, target = main.shares[row], item.target
        if target is not None and target != item.label and shares[target] > shares[item.label]:
            margin = main.scores[row, target] - main.scores[row, item.label]
            wrong.append((0.0 if numpy.isnan(margin) else -float(margin), row))
    first = {items[row].template: (margin, row) for margin, row in sorted(wrong, reverse=True)}
    rows: list[tuple[Cell, ...]] = []
    for margin, row in sorted(first.values())[:_WORST]:
        item = items[row]
        rows.append(
            (
                item.category,
                clip(item.context),
                clip(item.question),
                clip(item.options[item.target or 0]),
                clip(item.options[item.label]),
                round(-margin, 3) if margin else None,
            )
        )
    return Table(
        title="BBQ: strongest answers with the stereotype that are wrong",
        columns=(
            "about",
            "text",
            "question",
            "answer",
            "right",
            "log probability above the right answer",
        ),
        rows=tuple(rows),
        note=f"{len(wrong)} in all; the strongest of each template.",
    )
