"""How a question with options is put to a language model, and which option it chooses.

Three ways: "likelihood", how likely each option is as the continuation; "letters", how likely each letter is
after a list of the options; "chat", the list is shown and the reply is read. What stands before the options
comes first in every prompt that allows it, so that an engine computes it once for all of them.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy

from assaymark.bias.lm_choice_replies import LETTERS, letter_masses, parse_reply, starts_with_letter
from assaymark.bias.lm_model import (
    Capability,
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
    quiet,
)
from assaymark.bias.lm_outcome import commonest, reasons
from assaymark.bias.rows import Flags, Numbers
from assaymark.reports.errors import InputError, nearest

Mode = Literal["likelihood", "letters", "chat"]
Orders = Literal["given", "all"]
TIE = 1e-6
"""Log probabilities nearer than this are a tie: it is the noise of single precision."""
MOST_TIES = 0.05
"""With a larger share of ties, which are shared out, a model would look fair by preferring nothing."""
SAMPLING = Sampling(max_tokens=256, top_logprobs=20)
"""Of chat: the likeliest reply, long enough for a reason before the answer."""
Shares = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about a text, and its options.

    options: two or more, as they are shown. wordings: of each option, other ways to write it (none). stem: a
    beginning of a sentence that the right option completes, for formats that have no question.
    """

    id: str
    context: str
    text: str
    options: tuple[str, ...]
    wordings: tuple[tuple[str, ...], ...] = ()
    stem: str = ""

    def ways(self, option: int) -> tuple[str, ...]:
        """All ways to write an option, the one that is shown first."""
        more = self.wordings[option] if self.wordings else ()
        return tuple(dict.fromkeys((self.options[option], *more)))


@dataclass(frozen=True, slots=True)
class Format:
    """A prompt. text: with {context}, {question}, {options} and {stem} where they stand.

    label: in front of each listed option, "" where they are not listed. apart: between two of them.
    letter: how the letter of an option continues the prompt.
    """

    text: str
    label: str = ""
    apart: str = "\n"
    letter: str = " {letter}"

    def prompt(self, question: Question, order: Sequence[int]) -> str:
        """The prompt with the options listed in an order."""
        listed = self.apart.join(
            self.label.format(letter=letter, lower=letter.lower()) + question.options[option]
            for letter, option in zip(LETTERS, order, strict=False)
        )
        fields = {"context": question.context, "question": question.text, "stem": question.stem}
        return self.text.format_map(fields | {"options": listed})


_LIST = "{context}\n\nQuestion: {question}\n{options}\nAnswer:"
_ASK = "Answer with the letter of one option and nothing else."
FORMATS: dict[Mode, dict[str, Format]] = {
    "likelihood": {
        "qa": Format("{context}\n\nQ: {question}\nA:"),
        "stem": Format("{context}\n\n{stem}"),
        # UnifiedQA's, as BBQ was asked (Parrish et al. 2022, section 5; backslash and n as two characters)
        "arc": Format("{context} {question} \\n {options}", label="({lower}) ", apart=" "),
        "race": Format("{question} \\n {options} \\n {context}", label="({lower}) ", apart=" "),
    },
    "letters": {
        "list": Format(_LIST, label="{letter}. "),
        "brackets": Format(_LIST + " (", label="({letter}) ", letter="{letter}"),
        "first": Format(
            "Question: {question}\n{options}\n\n{context}\n\nAnswer:", label="{letter}. "
        ),
    },
    "chat": {
        "list": Format("{context}\n\n{question}\n\n{options}\n\n" + _ASK, label="({letter}) "),
        "first": Format(_ASK + "\n\n{context}\n\n{question}\n{options}", label="{letter}. "),
        "plain": Format(
            "{context}\n\n{question}\n{options}\n\nWhich option is right?", label="{letter}) "
        ),
    },
}
NEEDS: dict[Mode, Capability] = {"likelihood": "score", "letters": "score", "chat": "generate"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The options a model prefers, by their numbers in the question: more than one where they tie.

    scores: the natural log probability of each option, in the order of the question; () where untold.
    """

    options: tuple[int, ...]
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """One question in one order: order[i] is the option that stood in place i."""

    question: Question
    order: tuple[int, ...]
    answer: Chosen | Failed


def formats_for(mode: Mode, wanted: str | Sequence[str], *, stem: bool) -> tuple[str, ...]:
    """The names of the prompt formats, the first of which is the main one.

    wanted: names or one name, none for the usual one, "all" for all that fit. stem: whether the questions
    have one, which is then the usual way to ask them.
    Raises InputError of an unknown name.
    """
    known = [name for name in FORMATS[mode] if stem or name != "stem"]
    known.sort(key=lambda name: name != "stem")
    if wanted == "all":
        return tuple(known)
    wanted = (wanted,) if isinstance(wanted, str) else wanted
    for name in wanted:
        if name not in known:
            raise InputError(f'"{name}" is no prompt format of "{mode}"{nearest(name, known)}')
    return tuple(dict.fromkeys(wanted)) or (known[0],)


def orders_of(count: int, orders: Orders) -> list[tuple[int, ...]]:
    """In which orders options are shown: all permutations of up to three, the rotations of more."""
    given = tuple(range(count))
    if orders == "given":
        return [given]
    return list(permutations(given)) if count <= 3 else [given[i:] + given[:i] for i in given]


def ask(
    model: LanguageModel,
    questions: Sequence[Question],
    *,
    mode: Mode,
    orders: Orders = "given",
    prompt: str = "",
    sampling: Sampling = SAMPLING,
    progress: Progress = quiet,
) -> list[Asked]:
    """One answer for each question and order, question by question.

    prompt: the name of a format of the mode, "" for the usual one. Where a format does not list the options
    they have no order, so each question is asked once. Raises InputError where the model cannot be asked so.
    """
    (name,) = formats_for(mode, (prompt,) if prompt else (), stem=all(q.stem for q in questions))
    form = FORMATS[mode][name]
    check_able(model, mode)
    check_questions(questions)
    wanted: Orders = orders if form.label else "given"
    asked = [(q, order) for q in questions for order in orders_of(len(q.options), wanted)]
    put = {"likelihood": _by_likelihood, "letters": _by_letters, "chat": _by_reply}[mode]
    answers = put(model, asked, form, sampling, progress)
    return [
        Asked(question, order, answer)
        for (question, order), answer in zip(asked, answers, strict=True)
    ]


def check_able(model: LanguageModel, mode: Mode) -> None:
    """Raises InputError where the model lacks what the mode needs."""
    need = NEEDS[mode]
    if getattr(model, need) is None:
        able = [other for other, what in NEEDS.items() if getattr(model, what) is not None]
        instead = f"use {' or '.join(able)}" if able else "give a causal model or an endpoint"
        raise InputError(
            f'{model.name} cannot be asked by "{mode}", which needs a model that can "{need}" '
            f"(it can: {', '.join(model.capabilities) or 'nothing'}): {instead}"
        )


_Orderings = Sequence[tuple[Question, tuple[int, ...]]]


def _by_likelihood(
    model: LanguageModel, asked: _Orderings, form: Format, sampling: Sampling, progress: Progress
) -> list[Chosen | Failed]:
    # an option is as likely as the likeliest way to write it
    ways = [[question.ways(i) for i in range(len(question.options))] for question, _ in asked]
    requests = [
        Continuation(form.prompt(question, order), f" {way}")
        for (question, order), options in zip(asked, ways, strict=True)
        for option in options
        for way in option
    ]
    told = _totals(model, requests, progress)
    return [_best_of([[next(told) for _ in option] for option in options]) for options in ways]


def _by_letters(
    model: LanguageModel, asked: _Orderings, form: Format, sampling: Sampling, progress: Progress
) -> list[Chosen | Failed]:
    requests = [
        Continuation(form.prompt(question, order), form.letter.format(letter=letter))
        for question, order in asked
        for letter in LETTERS[: len(order)]
    ]
    told = _totals(model, requests, progress)
    found = []
    for _, order in asked:
        placed = [next(told) for _ in order]
        found.append(_best_of([[placed[order.index(option)]] for option in range(len(order))]))
    return found


def _totals(
    model: LanguageModel, requests: Sequence[Continuation], progress: Progress
) -> Iterator[float | Failed]:
    assert model.score is not None
    scored = model.score(requests, progress)
    if len(scored) != len(requests):
        raise InputError(
            f"{model.name} gave {len(scored)} answers to {len(requests)} requests: one each is needed"
        )
    return (_total(one) for one in scored)


def _total(scored: Scored | Failed) -> float | Failed:
    if isinstance(scored, Failed):
        return scored
    if not scored.logprobs:
        return Failed("not-tokenizable", "an option has no tokens")
    if not math.isfinite(scored.total):
        return Failed("error", f"the model's log probability is {scored.total}")
    return scored.total


def _best_of(options: Sequence[Sequence[float | Failed]]) -> Chosen | Failed:
    scores = []
    for ways in options:
        numbers = [way for way in ways if not isinstance(way, Failed)]
        if len(numbers) < len(ways):
            return next(way for way in ways if isinstance(way, Failed))
        scores.append(max(numbers))
    return _best(tuple(scores))


def _best(scores: tuple[float, ...]) -> Chosen:
    top = max(scores)
    return Chosen(tuple(i for i, score in enumerate(scores) if top - score <= TIE), scores)


def _by_reply(
    model: LanguageModel, asked: _Orderings, form: Format, sampling: Sampling, progress: Progress
) -> list[Chosen | Failed]:
    assert model.generate is not None
    prompts = [Prompt(form.prompt(question, order)) for question, order in asked]
    replies = model.generate(prompts, sampling, progress)
    return [
        reply if isinstance(reply, Failed) else _read(reply, question, order)
        for reply, (question, order) in zip(replies, asked, strict=True)
    ]


def _read(reply: Reply, question: Question, order: tuple[int, ...]) -> Chosen | Failed:
    """What the reply says; the first token's probabilities too, where its first word is the letter."""
    place = parse_reply(reply, [question.ways(option) for option in order])
    if isinstance(place, Failed):
        return place
    masses = letter_masses(reply, len(order))
    if isinstance(masses, Failed) or not starts_with_letter(reply, len(order)):
        return Chosen((order[place],))
    by_option = [masses[order.index(option)] for option in range(len(order))]
    return _best(tuple(math.log(max(mass, 1e-300)) for mass in by_option))


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Answers of all orders, a question a row.

    shares: (questions, options), how often each option was chosen over the orders, a tie shared out; NaN of
    a question that was not answered in every order. scores: mean log probability of each option, NaN where
    untold. failures: why a question is lost, None of others. tied: in any order. changed: 1 where orders led
    to different answers, else 0, NaN where lost or asked once. positions: share of answers that each place
    got, () where the options were not listed in several orders.
    """

    shares: Shares
    scores: Shares
    failures: tuple[Failed | None, ...]
    tied: Flags
    changed: Numbers
    positions: tuple[float, ...] = ()

    @property
    def answered(self) -> int:
        return self.failures.count(None)

    @property
    def lost(self) -> dict[str, int]:
        """How many questions are lost for each reason."""
        return reasons(failure for failure in self.failures if failure is not None)

    @property
    def said(self) -> dict[str, str]:
        """Of each of these reasons the commonest sentence."""
        return commonest(failure for failure in self.failures if failure is not None)


def tally(asked: Sequence[Asked]) -> Tally:
    """Puts the orders of each question together; a question is lost where one of its orders is."""
    groups: dict[str, list[Asked]] = {}
    for one in asked:
        groups.setdefault(one.question.id, []).append(one)
    most = max((len(one.order) for one in asked), default=1)
    size = len(groups)
    shares, scores = (numpy.full((size, most), numpy.nan) for _ in range(2))
    changed, tied = numpy.full(size, numpy.nan), numpy.zeros(size, dtype=bool)
    failures: list[Failed | None] = []
    places = numpy.zeros(most)
    for row, group in enumerate(groups.values()):
        failures.append(next((x.answer for x in group if isinstance(x.answer, Failed)), None))
        if failures[row] is not None:
            continue
        chosen = [one.answer for one in group if isinstance(one.answer, Chosen)]
        shares[row] = numpy.mean([_spread(answer.options, most) for answer in chosen], axis=0)
        tied[row] = any(len(answer.options) > 1 for answer in chosen)
        if all(answer.scores for answer in chosen):
            told = numpy.mean([answer.scores for answer in chosen], axis=0)
            scores[row, : len(told)] = told
        if len(chosen) > 1:
            changed[row] = len({answer.options for answer in chosen}) > 1
            for one, answer in zip(group, chosen, strict=True):
                places += _spread([one.order.index(i) for i in answer.options], most)
    several = places.sum()
    return Tally(
        shares=shares,
        scores=scores,
        failures=tuple(failures),
        tied=tied,
        changed=changed,
        positions=tuple((places / several).tolist()) if several else (),
    )


def _spread(options: Sequence[int], size: int) -> Numbers:
    found = numpy.zeros(size)
    found[list(options)] = 1 / len(options)
    return found


def check_questions(questions: Sequence[Question]) -> None:
    """Raises InputError where two questions have one id, or a question fewer than two different options."""
    twice = [name for name, count in Counter(q.id for q in questions).items() if count > 1]
    if twice:
        raise InputError(f'two questions have the id "{twice[0]}": give each its own')
    for question in questions:
        if len(set(question.options)) < max(2, len(question.options)):
            raise InputError(
                f'question "{question.id}" needs two or more different options, '
                f"got {list(question.options)}"
            )
