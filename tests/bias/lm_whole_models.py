"""Language models of known answers that can be asked everything, and such as fail in one way or another."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy

from assaymark.bias.lm_model import (
    Blank,
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
    Vectors,
    quiet,
)


def chance(text: str) -> float:
    """A number in (0, 1) that follows from the text alone."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") + 1) / (2**48 + 2)


def score(requests: Sequence[Continuation], progress: Progress = quiet) -> list[Scored | Failed]:
    """Words have log probabilities by chance; of "yes" and "no" the two have all the mass."""
    answers: list[Scored | Failed] = []
    for one in requests:
        words = one.text.split()
        if words and words[0].lower() in ("yes", "no") and len(words) == 1:
            yes = chance(one.context)
            share = (yes if words[0].lower() == "yes" else 1 - yes) / 2.01
            answers.append(Scored((one.text,), (float(numpy.log(share)),)))
            continue
        logs = tuple(float(numpy.log(chance(f"{one.context} {word}"))) for word in words)
        answers.append(
            Scored(tuple(words), logs) if words else Failed("not-tokenizable", "no words")
        )
    return answers


def generate(
    prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
) -> list[Reply | Failed]:
    return [
        Reply(
            _written(one),
            "stop",
            (
                ("Yes", float(numpy.log(chance(one.text)))),
                ("No", float(numpy.log1p(-chance(one.text)))),
            ),
        )
        for one in prompts
    ]


def _written(prompt: Prompt) -> str:
    """A letter where options have letters, a word where one is asked for, otherwise a sentence."""
    number = chance(f"{prompt.text}{prompt.sample}")
    if re.search(r"\bB[.)]", prompt.text):
        return "AB"[int(2 * number)]
    if "yes" in prompt.text.lower():
        return ("Yes", "No")[int(2 * number)]
    return ("She is a bad nurse.", "He is a good and kind doctor.")[int(2 * number)]


def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
    rows = [numpy.random.default_rng(int(2**40 * chance(text))).normal(size=16) for text in texts]
    return numpy.array(rows), (True,) * len(rows)


class Words:
    """A masked model whose tokens are words."""

    mask = 0

    def __init__(self) -> None:
        self.ids: dict[str, int] = {"[MASK]": 0, "[CLS]": 1, "[SEP]": 2}

    def pieces(self, text: str, *, after_space: bool) -> tuple[int, ...]:
        return tuple(self.ids.setdefault(word, len(self.ids)) for word in text.lower().split())

    def encode(self, text: str) -> tuple[int, ...]:
        return (1, *self.pieces(text, after_space=False), 2)

    def special(self, ids: Sequence[int]) -> tuple[bool, ...]:
        return tuple(number in (1, 2) for number in ids)

    def words(self, text: str) -> tuple[int | None, ...]:
        return (None, *range(len(self.encode(text)) - 2), None)

    def log_probs(
        self, blanks: Sequence[Blank], progress: Progress = quiet
    ) -> list[float | Failed]:
        return [float(numpy.log(chance(f"{one}"))) for one in blanks]


def whole() -> LanguageModel:
    return LanguageModel(
        name="by chance",
        key="by chance",
        score=score,
        masked=Words(),
        generate=generate,
        embed=embed,
    )


def failing() -> LanguageModel:
    """The same, and no request gets an answer."""
    away = Failed("error", "the server is away")

    class Away(Words):
        def log_probs(
            self, blanks: Sequence[Blank], progress: Progress = quiet
        ) -> list[float | Failed]:
            return [away for _ in blanks]

    def unscored(requests: Sequence[Continuation], progress: Progress) -> list[Scored | Failed]:
        return [away for _ in requests]

    def unwritten(
        prompts: Sequence[Prompt], sampling: Sampling, progress: Progress
    ) -> list[Reply | Failed]:
        return [away for _ in prompts]

    def unknown(texts: Sequence[str], progress: Progress) -> tuple[Vectors, tuple[bool, ...]]:
        return numpy.full((len(texts), 16), numpy.nan), (False,) * len(texts)

    return LanguageModel(
        name="away",
        key="away",
        score=unscored,
        masked=Away(),
        generate=unwritten,
        embed=unknown,
    )


class Spoiled(Words):
    """Words whose blanks are answered by another rule."""

    def __init__(self, spoil: Callable[[str, float], float | Failed]) -> None:
        super().__init__()
        self.spoil = spoil

    def log_probs(
        self, blanks: Sequence[Blank], progress: Progress = quiet
    ) -> list[float | Failed]:
        """The answers as spoil has them, from the words of a text and the one that is hidden."""
        named = {number: word for word, number in self.ids.items()}
        found = []
        for one, answer in zip(blanks, super().log_probs(blanks, progress), strict=True):
            assert not isinstance(answer, Failed)
            text = " ".join(named[number] for number in (*one.ids, one.target))
            found.append(self.spoil(text, answer))
        return found


def spoiled(
    lost: Callable[[str], bool] = lambda text: False,
    number: Callable[[float], float] = lambda value: value,
) -> LanguageModel:
    """The model by chance, without an answer to some texts, or with other log probabilities."""
    away = Failed("error", "the server is away")

    def spoiled_score(
        requests: Sequence[Continuation], progress: Progress = quiet
    ) -> list[Scored | Failed]:
        return [
            answer
            if isinstance(answer, Failed)
            else away
            if lost(one.context + one.text)
            else Scored(answer.tokens, tuple(map(number, answer.logprobs)))
            for one, answer in zip(requests, score(requests, progress), strict=True)
        ]

    def spoiled_generate(
        prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
    ) -> list[Reply | Failed]:
        return [
            away
            if isinstance(answer, Failed) or lost(one.text)
            else replace(answer, first=tuple((t, number(p)) for t, p in answer.first))
            for one, answer in zip(prompts, generate(prompts, sampling, progress), strict=True)
        ]

    def spoiled_embed(
        texts: Sequence[str], progress: Progress = quiet
    ) -> tuple[Vectors, tuple[bool, ...]]:
        return embed(texts, progress)[0], tuple(not lost(text) for text in texts)

    def fill(text: str, answer: float) -> float | Failed:
        return away if lost(text) else number(answer)

    return replace(
        whole(),
        score=spoiled_score,
        masked=Spoiled(fill),
        generate=spoiled_generate,
        embed=spoiled_embed,
    )
