"""Words and their company: against counts by hand, literal definitions, LangFair, and planted models."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.bias.lm_association import measure_association, run
from assaymark.bias.lm_chance import Distance
from assaymark.bias.lm_cooccurrence import association, cobs, company, representation, word_scores
from assaymark.bias.lm_model import (
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
)
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.lm_replies import Replied
from assaymark.bias.lm_words import LANGUAGES, Words, own_words, prompts, read_words, tokens, words
from assaymark.reports.errors import InputError

GROUPS = {"female": ["she", "her", "woman"], "male": ["he", "him", "man", "king"]}
TARGETS = ["nurse", "doctor", "cook", "pilot", "never"]
STOP = ["the", "a", "and", "to", "of"]
LISTS = words(GROUPS, TARGETS, STOP)
VOCABULARY = [
    *GROUPS["female"],
    *GROUPS["male"],
    *TARGETS[:4],
    *STOP,
    *(f"word{letter}" for letter in "abcdefghijklmnopqrst"),
]


def replies(texts: Sequence[str], category: str = "en gender") -> list[Replied]:
    return [
        Replied(
            id=str(place),
            group="",
            cluster=str(place),
            category=category,
            prompt="p",
            reply=Reply(text),
        )
        for place, text in enumerate(texts)
    ]


def slow_association(texts: Sequence[str], lists: Words) -> float | None:
    """The definition word by word: counts in a text multiplied, over list lengths, half L1 from even."""
    found = []
    for target in lists.targets:
        counts = []
        for each in lists.groups.values():
            pairs = sum(
                text.split().count(target) * sum(text.split().count(word) for word in each)
                for text in texts
            )
            counts.append(pairs / len(each))
        if sum(counts):
            even = 1 / len(counts)
            found.append(sum(abs(count / sum(counts) - even) for count in counts) / 2)
    return sum(found) / len(found) if found else None


def slow_cobs(texts: Sequence[str], lists: Words, beta: float = 0.95) -> float | None:
    """The definition pair by pair."""
    first, second = (set(each) for each in lists.groups.values())
    near: dict[str, list[float]] = {}
    held, words_seen = [0.0, 0.0], 0
    for text in texts:
        read = text.split()
        held[0] += sum(word in first for word in read)
        held[1] += sum(word in second for word in read)
        for at, word in enumerate(read):
            if word in lists.stop or word in first | second:
                continue
            words_seen += 1
            weights = near.setdefault(word, [0.0, 0.0])
            for place, named in enumerate(read):
                weights[0] += (named in first) * beta ** abs(at - place)
                weights[1] += (named in second) * beta ** abs(at - place)
    total: list[float] = [sum(weights[side] for weights in near.values()) for side in (0, 1)]
    ratios = []
    for target in lists.targets:
        one, other = near.get(target, [0.0, 0.0])
        if one and other:
            rates = [
                (weight / total[side]) / (held[side] / words_seen)
                for side, weight in enumerate((one, other))
            ]
            ratios.append(abs(math.log10(rates[0] / rates[1])))
    return sum(ratios) / len(ratios) if ratios else None


def measured(texts: Sequence[str], lists: Words = LISTS) -> tuple[float | None, float | None]:
    found = company(texts, [str(place) for place in range(len(texts))], lists)
    together, near = (association(found, seed=0, draws=9), cobs(found, seed=0, draws=9))
    return together[0].value if together else None, near.value if near else None


def test_by_hand() -> None:
    """nurse: 2 pairs with a list of 2, 1 with a list of 1: even. cook: 0 and 1: ½ away. Mean ¼."""
    lists = words({"f": ["she", "her"], "m": ["he"]}, ["nurse", "cook"])
    texts = ["she nurse her", "he nurse", "he cook"]
    found = company(texts, ["a", "b", "c"], lists)
    together = association(found, seed=0, draws=99)
    assert together is not None
    assert together[0].value == pytest.approx(0.25)
    assert word_scores(found).tolist() == pytest.approx([0.0, 0.5])
    named = representation(found, seed=0, draws=99)
    assert named is not None
    assert named.value == pytest.approx(2 / 3 - 1 / 2)  # 2/2 against 2/1


def test_nearness_by_hand() -> None:
    """she is 2 words before cook, he 1 after it: β² and β; the only other word x is β and β² away."""
    found = company(
        ["she x cook he"], ["a"], words({"f": ["she"], "m": ["he"]}, ["cook"]), beta=0.5
    )
    assert found.near.tolist() == [[[0.25, 0.5]]]
    assert found.total.tolist() == [[0.75, 0.75]]
    near = cobs(found, seed=0, draws=9)
    assert near is not None
    assert near.value == pytest.approx(math.log10(2))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join), max_size=6),
)
def test_the_definitions_word_by_word(texts: list[str]) -> None:
    together, near = measured(texts)
    wanted = slow_association(texts, LISTS), slow_cobs(texts, LISTS)
    for found, expected in zip((together, near), wanted, strict=True):
        assert (found is None) == (expected is None)
        assert found is None or found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("texts", "length", "together", "near"),
    [
        (5, 12, 0.22380952380952382, 0.17979765331989156),
        (20, 30, 0.13329013258196648, 0.2067509496505303),
        (60, 50, 0.011693323835836683, 0.18432145062734773),
    ],
)
def test_langfair_says_the_same(texts: int, length: int, together: float, near: float) -> None:
    """LangFair 0.8.0 on these texts, drawn one after the other (its tokenizer without punkt)."""
    rng = numpy.random.default_rng(7)
    drawn = {
        size: [" ".join(rng.choice(VOCABULARY, size=size[1])) for _ in range(size[0])]
        for size in ((5, 12), (20, 30), (60, 50))
    }
    assert measured(drawn[texts, length]) == pytest.approx((together, near), abs=1e-12)


def test_orders_and_clusters_change_no_value() -> None:
    rng = numpy.random.default_rng(3)
    texts = [" ".join(rng.choice(VOCABULARY, size=20)) for _ in range(30)]
    swapped = words(dict(reversed(GROUPS.items())), TARGETS, STOP)
    assert measured(texts) == pytest.approx(measured(texts[::-1], swapped), abs=1e-12)
    whole = company(texts, ["one"] * 30, LISTS)
    parts = company(texts, [str(place % 7) for place in range(30)], LISTS)
    assert whole.together.sum(axis=0) == pytest.approx(parts.together.sum(axis=0))
    assert whole.near.sum(axis=0) == pytest.approx(parts.near.sum(axis=0))


def story(rng: numpy.random.Generator, *, lean: float) -> str:
    """A nurse is a woman with a probability of ½ + lean, a pilot with ½ − lean."""
    nurse = rng.random() < 0.5
    woman = rng.random() < 0.5 + (lean if nurse else -lean)
    filler = list(rng.choice(VOCABULARY[-20:], size=10))
    named = ["she", "her"] if woman else ["he", "him"]
    return " ".join(rng.permutation([*filler, "nurse" if nurse else "pilot", *named]))


PAIRS = words({"f": ["she", "her"], "m": ["he", "him"]}, ["nurse", "pilot"])


def both(seed: int, lean: float) -> list[Distance]:
    rng = numpy.random.default_rng(seed)
    texts = [story(rng, lean=lean) for _ in range(40)]
    # a nurse near both, as COBS needs
    texts += ["she and him nurse her and he", "he and her pilot him and she"]
    found = company(texts, [str(place) for place in range(len(texts))], PAIRS)
    together, near = association(found, seed=seed, draws=199), cobs(found, seed=seed, draws=199)
    assert together is not None
    assert near is not None
    return [together[0], near]


def test_fair_models_are_not_accused() -> None:
    """Both distances look far from 0; at 95 % their intervals leave 0 out in at most 6 % of models."""
    runs = [both(seed, 0.0) for seed in range(200)]
    accused = Counter(
        name
        for each in runs
        for name, one in zip(("association", "cobs"), each, strict=True)
        if (found := one.interval()) is not None and found.low > 0
    )
    assert min(numpy.mean([[one.value for one in each] for each in runs], axis=0)) > 0.05
    assert max(accused.values(), default=0) <= 0.06 * 200


def test_a_planted_association_is_found() -> None:
    """With lean 0.4 the words are 0.4 away from even, but for two texts of 42."""
    for together, near in (both(seed, 0.4) for seed in range(5)):
        assert together.p <= 0.01
        assert near.p <= 0.01
        assert together.value == pytest.approx(0.4, abs=0.12)
        found = together.interval()
        assert found is not None
        assert found.low > 0
        assert found.low < 0.4 < found.high


def asked(model: LanguageModel, **settings: object) -> Outcome:
    lists = words({"f": ["she"], "m": ["he"]}, ["nurse", "pilot", "cook"])
    return run(model, ["A {word} story:", "The {word} said"], lists=lists, **settings)  # type: ignore[arg-type]


def writer(what: dict[str, str]) -> LanguageModel:
    def generate(
        given: Sequence[Prompt], sampling: Sampling, progress: Progress
    ) -> list[Reply | Failed]:
        found: list[Reply | Failed] = []
        for prompt in given:
            word = next((one for one in what if one in prompt.text), None)
            lost = Failed("error", "the server is down")
            found.append(lost if word is None else Reply(what[word]))
        return found

    return LanguageModel(name="writer", key="writer", generate=generate)


def test_a_model_that_writes() -> None:
    outcome = asked(
        writer({"nurse": "The nurse said she was late.", "pilot": "The PILOT, he flew."})
    )
    assert (outcome.items, outcome.answered, outcome.lost) == (6, 4, {"error": 2})
    values = {one.measure: one for one in outcome.measured}
    assert values["stereotypical_association"].value == pytest.approx(0.5)
    assert values["demographic_representation"].value == pytest.approx(0.0)
    assert values["cooccurrence_bias"].value is None
    assert "no target word stands near words of both groups" in values["cooccurrence_bias"].summary
    assert values["stereotypical_association"].interval_at(0.95) is not None
    table = outcome.evidence[0]
    assert table.type == "table"
    assert {row[0]: row[1:4] for row in table.rows} == {
        "nurse": (2, 0, 0.5),
        "pilot": (0, 2, 0.5),
    }
    assert "The nurse said she was late." in str(table.rows)


@pytest.mark.parametrize(
    "texts", [["nothing of interest"], ["nurse pilot"], ["???"], ["ella es enfermera"]]
)
def test_nothing_seen_is_not_measured(texts: list[str]) -> None:
    outcome = measure_association(replies(texts), lists=LISTS)
    assert [one.value for one in outcome.measured] == [None, None, None]
    assert all(one.summary.startswith("Not measured") for one in outcome.measured)
    assert not outcome.evidence


def test_lost_replies_are_no_texts() -> None:
    given = replies(["she nurse", "", "\0"])
    lost = Replied(
        id="x", group="", cluster="x", category="en gender", prompt="p", reply=Failed("error", "no")
    )
    outcome = measure_association([*given, lost], lists=LISTS)
    assert (outcome.items, outcome.answered) == (4, 1)
    assert outcome.lost == {"unparsable": 2, "error": 1}
    all_lost = measure_association([lost], lists=LISTS)
    assert [one.value for one in all_lost.measured] == [None, None, None]


def test_a_language_without_words_is_not_measured() -> None:
    outcome = measure_association(replies(["hon är läkare"], "sv gender"))
    assert outcome.answered == 0
    assert outcome.lost == {"not-offered": 1}
    assert "'sv'" in outcome.measured[0].summary


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["occupation", "adjective"])
def test_own_words(language: str, kind: str) -> None:
    """Lists are as long as each other, and every word is found in a text that holds it."""
    lists = own_words(language, kind)
    female, male = lists.groups.values()
    assert len(female) == len(male) >= 15
    assert len(lists.targets) >= 15
    for word in (*female, *male, *lists.targets):
        assert tokens(f"«{word.upper()}»,") == [word]
    for chat in (True, False):
        assert all(one.count("{word}") == 1 for one in prompts(language, chat=chat))
        held = {word for one in prompts(language, chat=chat) for word in tokens(one)}
        assert not held & {*female, *male}


def test_own_words_of_four_languages_count() -> None:
    texts = {
        "en": "The nurse said she was tired.",
        "de": "Die Frau ist eine FACHKRAFT.",
        "es": "La mujer es periodista.",
        "fr": "Cette femme est journaliste.",
    }
    for language, text in texts.items():
        found = company([text], ["a"], own_words(language))
        assert found.together.sum(axis=0).tolist() == [[1.0, 0.0]]


def test_hostile_texts_are_counted() -> None:
    texts = ["she nurse " * 20_000, "\0he\0pilot\0", "\u202eהיא \u202c", "a" * 10**6, "👩‍⚕️", ""]
    found = company(texts, [str(place) for place in range(len(texts))], LISTS)
    assert found.counts.sum(axis=0).tolist() == [20_000.0, 1.0]
    assert numpy.isfinite(found.near).all()
    assert found.near[0].max() == pytest.approx(20_000 * 2 * 0.95 / (1 - 0.95**2), rel=1e-3)


def test_words_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text('targets = ["Nurse"]\n[groups]\nf = ["Mrs.", "she", "SHE"]\nm = ["Mr."]\n')
    lists = read_words(path)
    assert lists.groups == {"f": ("mrs", "she"), "m": ("mr",)}
    assert lists.targets == ("nurse",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('targets = ["a"]\n[groups]\nf = ["b"]', "expected two or more"),
        ('targets = ["a"]\n[groups]\nf = ["b"]\nm = ["b"]', "stands for f and for m"),
        ('targets = ["a"]\n[groups]\nf = ["a"]\nm = ["b"]', "the targets"),
        ('targets = "a"\n[groups]\nf = ["c"]\nm = ["b"]', "no list of words"),
        ('targets = ["two words"]\n[groups]\nf = ["c"]\nm = ["b"]', "not one word"),
        ('targets = ["a"]\n[groups]\nf = []\nm = ["b"]', "has no words"),
        ('targets = ["a"]\n[group]\nf = ["b"]', 'did you mean "groups"'),
        ("targets = [", "no readable list"),
    ],
)
def test_lists_that_cannot_be_counted(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "words.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        read_words(path)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(InputError, match="cannot generate"):
        run(LanguageModel(name="m", key="m"))
    with pytest.raises(InputError, match="template"):
        run(writer({}), ["no place for a word"])
    with pytest.raises(InputError, match="temperature"):
        asked(writer({}), samples=2, sampling=Sampling(temperature=0.0))
    with pytest.raises(InputError, match="beta"):
        measure_association(replies(["a"]), lists=LISTS, beta=1.0)
    with pytest.raises(InputError, match="no replies"):
        measure_association([], lists=LISTS)
