"""A small language model of words that needs no more than numpy: n-grams that also remember cue words.

The next word depends on the last two and on the cue words that were read before, such as a name or an
occupation, so that what a text is about is not forgotten. Shorter histories are mixed in as Witten and Bell
propose (1991, IEEE Transactions on Information Theory 37, method C): a history that n words followed, of k
kinds, has weight n / (n + k).
"""

import hashlib
import math
import random
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy

from assaymark.bias.lm_model import (
    Continuation,
    Failed,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
    quiet,
)
from assaymark.bias.rows import Numbers

_TOKEN = re.compile(r"\s*[\w'’-]+|\s*[^\w\s]|\s+")
_END, _UNKNOWN = "", "\0"
_REMEMBERED = 6
"""So many cue words are kept in mind, the last ones."""


@dataclass(frozen=True, slots=True)
class Example:
    """A reply that the model reads so many times in training, after a text that it is not trained on."""

    text: str
    reply: str
    times: int


@dataclass(frozen=True, slots=True)
class _History:
    cues: tuple[str, ...]
    last: tuple[str, str]

    def then(self, token: str, known: Collection[str]) -> "_History":
        word = token.strip().lower()
        new = word in known and self.cues[-1:] != (word,)
        cues = (*self.cues, word)[-_REMEMBERED:] if new else self.cues
        return _History(cues, (self.last[1], token))

    @property
    def levels(self) -> Iterator[tuple[str, ...]]:
        """From the shortest to the longest: the last word, two, with the last cue, with all cues."""
        yield ()
        yield self.last[1:]
        yield self.last
        yield (*self.last, "last", *self.cues[-1:])
        yield (*self.last, "all", *self.cues)


class WordModel:
    """Learns from examples; `score` and `generate` are what lm_model calls Score and Generate.

    cues: words in small letters. A prompt is put to it as a chat model's: a line "Reply:" follows it.
    digest: SHA-256 of all that it learned from.
    """

    def __init__(self, examples: Sequence[Example], cues: Collection[str]) -> None:
        self._cues = frozenset(cues)
        self._after = lru_cache(maxsize=8192)(self._read)
        self._next = lru_cache(maxsize=8192)(self._mixed)
        self._ranked = lru_cache(maxsize=8192)(self._reached)
        self._counts: defaultdict[tuple[str, ...], defaultdict[int, int]]
        self._counts = defaultdict(lambda: defaultdict(int))
        self._places = {_UNKNOWN: 0, _END: 1}
        self._words = [_UNKNOWN, _END]
        digest = hashlib.sha256(repr(sorted(self._cues)).encode())
        for example in examples:
            digest.update(repr(example).encode())
            self._learn(example)
        self.digest = digest.hexdigest()

    def _learn(self, example: Example) -> None:
        history = self._after(example.text)
        for token in (*_TOKEN.findall(example.reply), _END):
            place = self._places.setdefault(token, len(self._words))
            if place == len(self._words):
                self._words.append(token)
            for level in history.levels:
                self._counts[level][place] += example.times
            history = history.then(token, self._cues)

    def _read(self, text: str) -> _History:
        tokens = _TOKEN.findall(text)
        heard = [word for token in tokens if (word := token.strip().lower()) in self._cues]
        cues = tuple(word for word, _ in groupby(heard))
        before, last = ("", "", *tokens)[-2:]
        return _History(cues[-_REMEMBERED:], (before, last))

    def _mixed(self, history: _History) -> Numbers:
        """The probability of every known word after a history; the first is that of all unknown ones."""
        chances = numpy.full(len(self._words), 1 / len(self._words))
        for level in history.levels:
            if seen := self._counts.get(level):
                total = sum(seen.values()) + len(seen)
                chances = chances * (len(seen) / total)
                chances[list(seen)] += numpy.array(list(seen.values())) / total
        return chances

    def score(
        self, requests: Sequence[Continuation], progress: Progress = quiet
    ) -> list[Scored | Failed]:
        """The log probabilities of each continuation's words."""
        found = [self._scored(request) for request in requests]
        progress(len(requests), len(requests))
        return found

    def _scored(self, request: Continuation) -> Scored | Failed:
        tokens = tuple(_TOKEN.findall(request.text))
        if not tokens:
            return Failed("not-tokenizable", "the continuation has no words")
        history, logprobs = self._after(request.context), []
        for token in tokens:
            logprobs.append(self._logprob(history, token))
            history = history.then(token, self._cues)
        return Scored(tokens, tuple(logprobs))

    def _logprob(self, history: _History, token: str) -> float:
        place = self._places.get(token, 0)
        spelled = 0 if place else len(token.encode()) * math.log(256)
        return math.log(self._next(history)[place]) - spelled

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
    ) -> list[Reply | Failed]:
        """A reply to each prompt, drawn from a random stream of its own."""
        found: list[Reply | Failed] = [self._reply(prompt, sampling) for prompt in prompts]
        progress(len(prompts), len(prompts))
        return found

    def _reply(self, prompt: Prompt, sampling: Sampling) -> Reply:
        stream = random.Random(repr((sampling.seed, prompt.system, prompt.text, prompt.sample)))
        begin = history = self._after(asked(f"{prompt.system}\n\n{prompt.text}".strip()))
        text = ""
        for _ in range(sampling.max_tokens):
            token = self._words[self._drawn(history, sampling, stream)]
            text += token
            cut = [at for stop in sampling.stop if stop and (at := text.find(stop)) >= 0]
            if token == _END or cut:
                text = text[: min(cut, default=len(text))]
                return Reply(text.lstrip(), "stop", self._first(begin, sampling))
            history = history.then(token, self._cues)
        return Reply(text.lstrip(), "length", self._first(begin, sampling))

    def _drawn(self, history: _History, sampling: Sampling, stream: random.Random) -> int:
        """The place of the next word."""
        if not sampling.temperature:
            return 1 + int(self._next(history)[1:].argmax())
        words, reached = self._ranked(history, sampling.temperature, sampling.top_p)
        return words[min(bisect_right(reached, stream.random() * reached[-1]), len(words) - 1)]

    def _reached(
        self, history: _History, temperature: float, top_p: float
    ) -> tuple[list[int], list[float]]:
        """The likeliest words that hold top_p of the probability, and its running sum.

        Unknown words are never drawn.
        """
        chances = self._next(history)[1:]
        weights = (chances / chances.max()) ** (1 / temperature)
        words = numpy.argsort(-weights, kind="stable")
        reached = weights[words].cumsum() / weights.sum()
        kept = 1 + int((reached < top_p).sum())
        return (words[:kept] + 1).tolist(), reached[:kept].tolist()

    def _first(self, begin: _History, sampling: Sampling) -> tuple[tuple[str, float], ...]:
        chances = self._next(begin)
        likeliest = numpy.argsort(-chances[1:], kind="stable")[: sampling.top_logprobs] + 1
        return tuple((self._words[at], math.log(chances[at])) for at in likeliest.tolist())


def asked(text: str) -> str:
    """A request as the model reads it."""
    return f"{text}\nReply:"
