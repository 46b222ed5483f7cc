"""What a language model can be asked, and what it answers, whoever runs it.

A request and an answer are plain frozen values, so that they can be kept, compared and counted. A request
that got no answer has a `Failed`, which has no number in it: nothing can be scored by mistake.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy

Lost = Literal["error", "too-long", "unparsable", "not-offered", "ceiling", "not-tokenizable"]
"""Why there is no answer: the server or model failed; the text does not fit the model's window; the reply
could not be read; the server does not tell the log probability that was asked for; the cost ceiling was
reached; the text has no tokens, or not those that a definition needs."""
Progress = Callable[[int, int], None]
"""Called with how many of how many requests are done."""


def quiet(done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A request without an answer. reason: one clear sentence for the report."""

    kind: Lost
    reason: str


@dataclass(frozen=True, slots=True)
class Continuation:
    """How likely is `text` right after `context`?

    context "" is the beginning of a text (the model's beginning- or end-of-text token). The two are put
    together as they are: a space between them belongs to text.
    """

    context: str
    text: str


@dataclass(frozen=True, slots=True)
class Scored:
    """The tokens of a continuation, and the natural logarithm of the probability of each."""

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        return sum(self.logprobs)


@dataclass(frozen=True, slots=True)
class Blank:
    """How likely is the token `target` at `position` of these input ids (masks already in place)?"""

    ids: tuple[int, ...]
    position: int
    target: int


class Masked(Protocol):
    """A masked language model and its tokenizer."""

    mask: int
    """The id of the mask token."""

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text as the model reads it, with special tokens."""

    def special(self, ids: Sequence[int]) -> tuple[bool, ...]:
        """Which of the ids are special tokens."""

    def pieces(self, text: str, *, after_space: bool) -> tuple[int, ...]:
        """The ids of a word without special tokens, as it stands after a space or at the beginning."""

    def words(self, text: str) -> tuple[int | None, ...]:
        """For each token of encode(text), the number of its word; None of special tokens."""

    def log_probs(
        self, blanks: Sequence[Blank], progress: Progress = quiet
    ) -> list[float | Failed]:
        """Natural log probabilities; blanks with the same ids share one forward pass."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is written to the model. sample: which of several draws, each with a random stream of its own."""

    text: str
    system: str = ""
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How replies are drawn; temperature 0 takes the likeliest token.

    top_logprobs: of how many likeliest first tokens the log probability is wanted (0: none).
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote. first: the likeliest first tokens with their natural log probabilities."""

    text: str
    finish: Literal["stop", "length", "filter", "unknown"] = "unknown"
    first: tuple[tuple[str, float], ...] = ()


Score = Callable[[Sequence[Continuation], Progress], list[Scored | Failed]]
Generate = Callable[[Sequence[Prompt], Sampling, Progress], list[Reply | Failed]]
Vectors = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]
Embed = Callable[[Sequence[str], Progress], tuple[Vectors, tuple[bool, ...]]]
"""Texts to one vector each, and which of them the model knows (a word that it does not has a row of NaN)."""
Capability = Literal["score", "masked", "generate", "embed"]


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A model by what it can be asked; None where it cannot.

    name: as the user wrote it. key: all that its answers depend on (weights, tokenizer, revision, precision,
    address, parameters), so that answers of one model are never taken for those of another. facts: the same
    for the report, such as {"revision": …, "tokenizer": …}. sha256: of the weights where they are at hand.
    chat: replies come from a chat model, which is put questions rather than texts to continue. network: the
    network and tokenizer of transformers behind a local model, for methods that need all probabilities.
    """

    name: str
    key: str
    facts: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    score: Score | None = None
    masked: Masked | None = None
    generate: Generate | None = None
    embed: Embed | None = None
    chat: bool = False
    network: tuple[Any, Any] | None = None

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        named: tuple[Capability, ...] = ("score", "masked", "generate", "embed")
        return tuple(name for name in named if getattr(self, name) is not None)
