"""The suite "prompts": the same request for several groups, and whether the model serves all alike.

Refusals, right answers to tasks, the length of replies and how much they differ, by language and slot. Groups
are compared on the same templates; where one has no reply to half of them, nothing is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assaymark.bias.lm_categories import across, categories, is_request
from assaymark.bias.lm_counterfactual_evidence import evidence
from assaymark.bias.lm_counterfactual_measures import item_values, measured
from assaymark.bias.lm_model import Failed, LanguageModel, Progress, Reply, Sampling, quiet
from assaymark.bias.lm_outcome import Outcome, commonest, reasons
from assaymark.bias.lm_prompt_files import PromptSet
from assaymark.bias.lm_prompts import Filled, expand
from assaymark.bias.lm_refusals import Classifier
from assaymark.bias.lm_replies import Replied, parts_of_replies, replies
from assaymark.reports.errors import InputError, nearest

VARIANTS: Mapping[str, tuple[float, int]] = {"greedy": (0.0, 1), "sampled": (1.0, 3)}
"""Temperature, and how many replies a prompt gets."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Prompts and the replies to them, the samples of a prompt one after the other."""

    prompts: tuple[Filled, ...]
    replied: tuple[Replied, ...]
    revision: str


def run(
    model: LanguageModel,
    data: Sequence[PromptSet],
    *,
    variant: str = "greedy",
    seed: int = 0,
    progress: Progress = quiet,
    samples: int | None = None,
    temperature: float | None = None,
    max_tokens: int = 256,
    slots: Sequence[str] = (),
    topics: Sequence[str] = (),
    values: int | None = 2,
    classify: Classifier | None = None,
) -> Outcome:
    """Ask and score. Of the options see `ask` and `score`; raises InputError as they do."""
    asked = ask(
        model,
        data,
        variant=variant,
        seed=seed,
        progress=progress,
        samples=samples,
        temperature=temperature,
        max_tokens=max_tokens,
        slots=slots,
        topics=topics,
        values=values,
    )
    return score(asked, classify=classify)


def ask(
    model: LanguageModel,
    data: Sequence[PromptSet],
    *,
    variant: str = "greedy",
    seed: int = 0,
    progress: Progress = quiet,
    samples: int | None = None,
    temperature: float | None = None,
    max_tokens: int = 256,
    slots: Sequence[str] = (),
    topics: Sequence[str] = (),
    values: int | None = 2,
) -> Asked:
    """All replies, which can also be scored for toxicity, sentiment or regard.

    variant: "greedy", one likeliest reply a prompt, or "sampled", three at temperature 1; samples and
    temperature change that. slots, topics: only these. values: how many of each group's values, None: all.
    Raises InputError for an unknown variant, slot or topic, or a model that writes no replies.
    """
    if variant not in VARIANTS:
        raise InputError(f'no variant "{variant}" of prompts{nearest(variant, VARIANTS)}')
    warmth, draws = VARIANTS[variant]
    warmth = warmth if temperature is None else temperature
    draws = draws if samples is None else samples
    if warmth == 0 and draws > 1:
        raise InputError(
            f"{draws} samples at temperature 0 are all the same: name a temperature, or one sample"
        )
    prompts = expand(data, slots=slots, topics=topics, values=values)
    sampling = Sampling(max_tokens=max_tokens, temperature=warmth, seed=seed)
    return Asked(
        prompts=prompts,
        replied=tuple(replies(model, prompts, sampling, progress, samples=draws)),
        revision="; ".join(f"{one.name} {one.sha256[:12]}" for one in data)
        + f"; {variant}, temperature {warmth:g}, {draws} a prompt, at most {max_tokens} tokens",
    )


def score(asked: Asked, *, classify: Classifier | None = None) -> Outcome:
    """The numbers of every language and slot. classify: says which texts refuse, for our lists."""
    found = categories(asked.prompts, asked.replied, classify)
    pairs = {one.name: across(one.only(is_request)) for one in found}
    there = sum(isinstance(one.reply, Reply) for one in asked.replied)
    lost = [one.reply for one in asked.replied if isinstance(one.reply, Failed)]
    return Outcome(
        measured=tuple(number for one in found for number in measured(one, pairs[one.name])),
        items=len(asked.replied),
        answered=there,
        lost=reasons(lost),
        said=commonest(lost),
        evidence=evidence(found, pairs),
        item_values=tuple(value for one in found for value in item_values(one)),
        revision=asked.revision,
        steps=_STEPS,
        not_tested=_NOT_TESTED,
        sources=_SOURCES,
        parts=parts_of_replies(
            asked.replied, [isinstance(one.reply, Reply) for one in asked.replied]
        ),
    )


_STEPS = (
    "Every template is filled with every value of every group, and the model replies to each.",
    "A reply is a refusal by what it says (lists of phrases by language, or a classifier that was named) or "
    "when a content filter ended it; unclear ones bound the rate from both sides.",
    "Tasks have one right answer, which is checked without a judge.",
    "Differences are those of means by template, over templates to which every group has a reply; all pairs "
    "of groups have an interval at once, so that a fair model is accused in at most 5 % of runs.",
    "Differences of replies are held against those within a group, which names and wording alone make.",
)
_NOT_TESTED = (
    "Names, pronouns and varieties of language are signals: what the model makes of people who have them in "
    "other prompts, in a conversation, or of other names is not known.",
    "Prompts and varieties were written by the project and not by speakers of every variety.",
    "Tasks are easy: a model that solves all of them may still serve groups differently on hard ones.",
    "A refusal in unusual words is taken for an answer: name a classifier where refusals matter.",
    "A reply may differ for good reason, as where a disability bears on the advice.",
)
_SOURCES = (
    "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
    "Korn and Graubard 1998, Survey Methodology 24 (intervals of shares in clusters)",
    "Agresti and Min 2005, Statistics in Medicine 24 (differences of pairs)",
)
