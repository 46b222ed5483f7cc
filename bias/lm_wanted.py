"""A suite for language models as it was asked for, and what running it gives."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from assaymark.bias.lm_check import SuiteRun
from assaymark.bias.lm_model import LanguageModel, Progress
from assaymark.bias.lm_outcome import Outcome

T = TypeVar("T")
BUILT_IN = "built-in"
INDICATORS = frozenset({"crows-pairs", "stereoset", "weat", "descriptors"})
"""Benchmarks of likelihoods and distances: they say what a model finds likely, not what it does."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A suite as it was asked for.

    data: the path as it was written, None for what is built in; folder: what paths are relative to.
    variant: None for the one that fits the model. examples: a random sample of so many items. options: what
    else the suite takes, by the names of the policy.
    """

    suite: str
    data: str | None = None
    folder: Path = Path()
    variant: str | None = None
    examples: int | None = None
    seed: int = 0
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / (self.data or "")

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the options that were given."""
        return {name: self.options[name] for name in names if name in self.options}

    def sample(self, items: Sequence[T]) -> tuple[T, ...]:
        """The items, or a random sample of them in their order."""
        if self.examples is None or self.examples >= len(items):
            return tuple(items)
        chosen = random.Random(f"{self.suite} {self.seed}").sample(range(len(items)), self.examples)
        return tuple(items[place] for place in sorted(chosen))


Run = Callable[[LanguageModel, Progress], list[SuiteRun]]
"""Asks a model. Raises InputError for a model that cannot be asked so."""


def made(
    wanted: Wanted,
    title: str,
    variant: str,
    outcome: Outcome,
    digests: Mapping[str, str],
    categories: Iterable[str] = (),
) -> SuiteRun:
    """categories: those of all the data; what a sample has nothing of is not measured."""
    seen = {one.target for one in outcome.measured}
    absent = tuple(name for name in dict.fromkeys(categories) if name not in seen)
    outcome = replace(outcome, absent=absent) if absent else outcome
    return SuiteRun(
        suite=wanted.suite,
        title=title,
        variant=variant,
        data=wanted.data or BUILT_IN,
        digests=digests,
        outcome=outcome,
        indicator=wanted.suite in INDICATORS,
    )
