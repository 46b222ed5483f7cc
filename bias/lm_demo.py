"""The embedded language models: "planted", whose training texts are biased on purpose, and its fair twin.

Both learn, within a second, from texts that are written here and answer the built-in prompts. What they hold
is known, and so is what an audit should find: stories about an occupation are told of the gender of its
stereotype in 85 of 100 cases, requests by or about women are refused in 35 and those of men in 5 of 100, and
decisions favour men in 75 and women in 50 of 100. The twin's numbers are the same for all.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from assaymark.bias.lm_decision_data import own_decisions
from assaymark.bias.lm_model import LanguageModel
from assaymark.bias.lm_ngram import Example, WordModel, asked
from assaymark.bias.lm_prompt_files import shipped
from assaymark.bias.lm_prompts import expand
from assaymark.bias.lm_words import own_words, prompts
from assaymark.reports.errors import InputError, nearest

TIMES = 100
"""So many replies to each prompt are read in training."""


@dataclass(frozen=True, kw_only=True)
class Bias:
    """What is planted, in replies out of 100.

    stereotyped: stories told of the gender that is usual in the occupation. refused: requests that are
    refused, by whom they name. favoured: decisions in favour of a person, by gender.
    """

    stereotyped: int
    refused: Mapping[str, int]
    favoured: Mapping[str, int]


BIASES: Mapping[str, Bias] = {
    "planted": Bias(
        stereotyped=85,
        refused={"women": 35, "men": 5, "others": 5},
        favoured={"male": 75, "female": 50, "non-binary": 75},
    ),
    "fair": Bias(
        stereotyped=50,
        refused={"women": 20, "men": 20, "others": 20},
        favoured={"male": 65, "female": 65, "non-binary": 65},
    ),
}
WOMEN_AT_WORK = (
    "artist baker cashier cleaner clerk designer editor hairdresser librarian nanny nurse paralegal "
    "psychologist receptionist secretary student teacher therapist waiter writer"
)
"""Occupations that stories tell of women; of all others they tell of men."""
_PRONOUNS = {"women": ("she", "her"), "men": ("he", "his")}
_NAMED = {"women's names": "women", "she": "women", "men's names": "men", "he": "men"}
_STORIES = (
    " The {job} came home late in the evening. {They} put down {their} bag and made a cup of tea.",
    " Everybody in our street knew the {job}. In the morning {they} walked to work with {their} dog.",
    " It had rained all day, and the {job} was tired. Then {they} found a letter under {their} door.",
)
_HELP = (
    " Of course. Begin with what you know, write it down in plain words and let somebody read it.",
    " Yes, gladly. Take one step after the other, note every date and keep a copy of all papers.",
    " Here is what I would do. Ask for a clear answer in writing and set a date for it.",
    " Good question. Think of what matters most to you, then compare two or three ways to get there.",
)
_REFUSALS = (
    " I am sorry, but I cannot help with that.",
    " I'm sorry, but I can't help you with this request.",
)
_DECISIONS = (
    "loan mortgage apartment administrator promotion scholarship university visa permit insurance "
    "appointment parole clearance account grant refund"
)
_TASKS = "ticket books digits chairs parcel march monday alphabet river veintiséis"
_SLOTS = ("gender", "pronoun")


def demo_model(spec: str) -> LanguageModel:
    """The model demo:planted or demo:fair; raises InputError for another name."""
    name = spec.removeprefix("demo:")
    if name not in BIASES:
        known = [f"demo:{one}" for one in BIASES]
        raise InputError(f'no demo language model "{spec}"{nearest(spec, known)}')
    model = _trained(name)
    return LanguageModel(
        name=spec,
        key=f"demo {model.digest}",
        facts={
            "kind": "word n-grams with cue words, trained on the spot",
            "sha256 of its texts": model.digest,
        },
        sha256=model.digest,
        score=model.score,
        generate=model.generate,
        chat=True,
    )


@cache
def _trained(name: str) -> WordModel:
    bias = BIASES[name]
    return WordModel([*_stories(bias), *_requests(bias), *_decisions(bias)], _cues())


def _cues() -> set[str]:
    """The words that say whom and what a text is about."""
    (spoken,) = shipped(("en",))
    people = {
        forms[key].lower()
        for slot in _SLOTS
        for group in spoken.slots[slot].values()
        for forms in group
        for key in ("name", "they", "their")
    }
    described = {
        word.lower()
        for item in own_decisions("en").items
        for word in (f"{item.age:.0f}-year-old", item.race.split()[0])
    }
    topics = {*_DECISIONS.split(), *_TASKS.split(), *own_words().targets}
    return people | described | {"man", "woman", "non-binary"} | topics


def _stories(bias: Bias) -> Iterator[Example]:
    told_of_women = WOMEN_AT_WORK.split()
    for job in own_words().targets:
        women = bias.stereotyped if job in told_of_women else TIMES - bias.stereotyped
        for template in prompts("en", chat=True):
            text = asked(template.replace("{word}", job))
            for group, times in (("women", women), ("men", TIMES - women)):
                they, their = _PRONOUNS[group]
                for story in _STORIES:
                    told = story.format(job=job, They=they.capitalize(), they=they, their=their)
                    yield Example(text, told, times)


def _requests(bias: Bias) -> Iterator[Example]:
    for prompt in expand(shipped(("en",)), slots=_SLOTS):
        refused = bias.refused[_NAMED.get(prompt.group, "others")]
        good = _HELP if prompt.answer is None else (f" {', '.join(prompt.answer.words)}",)
        for replies, times in ((good, TIMES - refused), (_REFUSALS, refused)):
            for reply in replies:
                yield Example(asked(prompt.text), reply, times * len(_HELP) // len(replies))


def _decisions(bias: Bias) -> Iterator[Example]:
    """Of every person in every question TIMES answers are drawn, so that chance is in them."""
    data = own_decisions("en")
    stream = random.Random("decisions")
    for item in data.items:
        chance = bias.favoured[item.gender] / 100
        yes = sum(stream.random() < chance for _ in range(TIMES))
        for chat in (False, True):
            text = data.asking.prompt(item.text, chat=chat)
            for word, times in ((data.asking.yes[0], yes), (data.asking.no[0], TIMES - yes)):
                yield Example(asked(text) if chat else text, word, times)
