"""Asking a model for decisions, and what it answered: how likely "yes" and "no" are.

Three ways, by what a model can be asked. "scored": the probability of each spelling of the two answers right
after the question. "first-token": the likeliest first tokens of a reply. "sampled": counts over replies.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assaymark.bias.lm_decision_data import Asking, Decisions
from assaymark.bias.lm_model import (
    Capability,
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
)
from assaymark.reports.errors import InputError, nearest

Variant = Literal["scored", "first-token", "sampled"]
VARIANTS: Mapping[Variant, Capability] = {
    "scored": "score",
    "first-token": "generate",
    "sampled": "generate",
}
"""Each way of asking with what a model must be able to do."""
TOP = 20
"""First tokens whose log probability is asked for: as many as endpoints offer."""
_AROUND = " \t\r\n\"'“”„‚‘’«»‹›*_`().,:;!?。-–—#▁Ġ"


@dataclass(frozen=True, slots=True)
class Answer:
    """Probability of "yes" and of "no" at the place of the answer, together at most 1.

    replies: of how many sampled replies these are shares; None where they are the model's own probabilities.
    """

    yes: float
    no: float
    replies: int | None = None

    @property
    def mass(self) -> float:
        return self.yes + self.no

    @property
    def chance(self) -> float:
        """Probability of "yes" among the two."""
        return self.yes / self.mass

    @property
    def log_odds(self) -> float:
        return math.log(self.yes) - math.log(self.no)


def variant_for(model: LanguageModel, wanted: str | None) -> Variant:
    """The way of asking that is wanted, or the best that a model can be asked.

    Raises InputError for an unknown way, or one that the model cannot be asked.
    """
    if wanted is None:
        if model.score is not None and not model.chat:
            return "scored"
        wanted = "first-token" if model.generate is not None else "scored"
    for variant, capability in VARIANTS.items():
        if variant == wanted:
            if capability in model.capabilities:
                return variant
            raise InputError(
                f'{model.name} cannot be asked decisions as "{variant}", which needs {capability}: '
                f"it offers {', '.join(model.capabilities) or 'nothing'}"
            )
    raise InputError(f'no way of asking decisions is "{wanted}"{nearest(wanted, VARIANTS)}')


def ask(
    model: LanguageModel,
    data: Decisions,
    variant: Variant,
    *,
    yes_first: bool,
    min_mass: float,
    samples: int,
    seed: int,
    progress: Progress,
) -> list[Answer | Failed]:
    """The answer to each item, lost where "yes" and "no" together are less than min_mass likely."""
    prompts = [
        data.asking.prompt(item.text, chat=variant != "scored" and model.chat, yes_first=yes_first)
        for item in data.items
    ]
    if variant == "scored":
        found = _scored(model, prompts, data.asking, progress)
    elif variant == "first-token":
        found = _first_tokens(model, prompts, data.asking, seed, progress)
    else:
        found = _sampled(model, prompts, data.asking, samples, seed, progress)
    return [one if isinstance(one, Failed) else _offered(one, min_mass) for one in found]


def _offered(answer: Answer, min_mass: float) -> Answer | Failed:
    kind: Literal["not-offered", "unparsable"] = (
        "not-offered" if answer.replies is None else "unparsable"
    )
    if answer.mass < min_mass:
        return Failed(
            kind,
            f'"yes" and "no" together are {answer.mass:.3f} likely, and less than {min_mass:g} '
            "says nothing of the decision",
        )
    if answer.replies is None and not (answer.yes > 0 and answer.no > 0):
        return Failed(
            kind, 'one of "yes" and "no" has probability 0, so that there are no log odds'
        )
    return answer


def _scored(
    model: LanguageModel, prompts: Sequence[str], asking: Asking, progress: Progress
) -> list[Answer | Failed]:
    assert model.score is not None
    words = (*asking.yes, *asking.no)
    requests = [Continuation(prompt, word) for prompt in prompts for word in words]
    scored = model.score(requests, progress)
    found: list[Answer | Failed] = []
    for start in range(0, len(scored), len(words)):
        ours = scored[start : start + len(words)]
        failed = next((one for one in ours if isinstance(one, Failed)), None)
        chances = [0.0 if isinstance(one, Failed) else math.exp(one.total) for one in ours]
        yes, no = math.fsum(chances[: len(asking.yes)]), math.fsum(chances[len(asking.yes) :])
        found.append(failed if failed is not None else _finite(yes, no))
    return found


def _finite(yes: float, no: float) -> Answer | Failed:
    if math.isfinite(yes + no):
        return Answer(yes, no)
    return Failed("error", "the model gave a log probability that is no number")


def _first_tokens(
    model: LanguageModel,
    prompts: Sequence[str],
    asking: Asking,
    seed: int,
    progress: Progress,
) -> list[Answer | Failed]:
    assert model.generate is not None
    sampling = Sampling(max_tokens=1, seed=seed, top_logprobs=TOP)
    replies = model.generate([Prompt(prompt) for prompt in prompts], sampling, progress)
    return [one if isinstance(one, Failed) else _first(one, asking) for one in replies]


def _first(reply: Reply, asking: Asking) -> Answer | Failed:
    if not reply.first:
        return Failed(
            "not-offered",
            'no log probabilities of first tokens came back: ask for the variant "sampled"',
        )
    read = _reader(asking)
    chances = {True: 0.0, False: 0.0}
    for token, logprob in reply.first:
        said = read(token)
        if said is not None:
            chances[said] += math.exp(logprob)
    missing = [
        word[0] for said, word in ((True, asking.yes), (False, asking.no)) if not chances[said]
    ]
    if missing:
        return Failed(
            "not-offered",
            f"“{missing[0]}” is not among the {len(reply.first)} likeliest first tokens, so that its "
            "probability is not known",
        )
    return _finite(chances[True], chances[False])


def _sampled(
    model: LanguageModel,
    prompts: Sequence[str],
    asking: Asking,
    samples: int,
    seed: int,
    progress: Progress,
) -> list[Answer | Failed]:
    assert model.generate is not None
    asked = [Prompt(prompt, sample=number) for prompt in prompts for number in range(samples)]
    sampling = Sampling(max_tokens=8, temperature=1.0, seed=seed)
    replies = model.generate(asked, sampling, progress)
    read = _reader(asking)
    found: list[Answer | Failed] = []
    for start in range(0, len(replies), samples):
        ours = replies[start : start + samples]
        said = [read(one.text) for one in ours if isinstance(one, Reply)]
        failed = [one for one in ours if isinstance(one, Failed)]
        parsed = sum(one is not None for one in said)
        if failed and (len(failed) == samples or not parsed):
            found.append(failed[0])
        else:
            found.append(Answer(said.count(True) / samples, said.count(False) / samples, samples))
    return found


def _reader(asking: Asking) -> Callable[[str], bool | None]:
    """What a reply says by its first word: True for yes, False for no, None for neither."""
    yes, no = ({word.casefold() for word in words} for words in (asking.yes, asking.no))

    def read(text: str) -> bool | None:
        words = text.strip(_AROUND).split(maxsplit=1)
        first = words[0].strip(_AROUND).casefold() if words else ""
        return True if first in yes else False if first in no else None

    return read
