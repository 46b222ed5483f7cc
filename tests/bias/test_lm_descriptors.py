"""Likelihood bias of descriptors: planted bias is found, no bias is not, and lost scores are no good news."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy
import pytest
from scipy.special import ndtri
from scipy.stats import mannwhitneyu

from assaymark.bias import lm_descriptors
from assaymark.bias.findings import Measured
from assaymark.bias.lm_descriptor_gaps import gap_interval
from assaymark.bias.lm_descriptors_data import Descriptors, holistic_bias, own
from assaymark.bias.lm_model import (
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Scored,
    quiet,
)
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.multiplicity import benjamini_hochberg
from assaymark.reports.errors import InputError
from assaymark.reports.model import Table

BIAS, PLAIN, APART, GAP = (
    "descriptor_likelihood_bias",
    "descriptor_likelihood_bias_uncorrected",
    "descriptor_pairs_apart",
    "descriptor_log_likelihood_gap",
)
Level = Callable[[str], float | None]


def noise(text: str, seed: int) -> float:
    """A number of about N(0, 1) from the text alone."""
    digest = hashlib.blake2b(f"{seed} {text}".encode(), digest_size=8).digest()
    return float(ndtri((int.from_bytes(digest) + 0.5) / 2**64))


def model(level: Level) -> LanguageModel:
    """Each word of a text gets this log probability, None for an error."""

    def score(asked: Sequence[Continuation], progress: Progress = quiet) -> list[Scored | Failed]:
        found: list[Scored | Failed] = []
        for one in asked:
            value, tokens = level(one.text), tuple(one.text.split())
            if value is None:
                found.append(Failed("error", "the server said no"))
            else:
                found.append(Scored(tokens, (value,) * len(tokens)))
        return found

    return LanguageModel(name="levels", key="levels", score=score)


def small(folder: Path, descriptors: int = 6, templates: int = 6, nouns: int = 8) -> Descriptors:
    """One axis of words d0, d1, …"""
    lists = {
        "templates": [f"t{place} {{noun}} is {{descriptor}}" for place in range(templates)],
        "any": [f"n{place}" for place in range(nouns)],
        "axis": [f"d{place}" for place in range(descriptors)],
    }
    path = folder / "small.toml"
    path.write_text(
        f"[xx]\ntemplates = {lists['templates']}\n[xx.nouns]\nany = {lists['any']}\n"
        f"[xx.axes]\naxis = {lists['axis']}\n"
    )
    return own("xx", path)


def number(outcome: Outcome, measure: str, target: str = "axis") -> Measured:
    return next(one for one in outcome.measured if (one.measure, one.target) == (measure, target))


def value(outcome: Outcome, measure: str, target: str = "axis") -> float:
    found = number(outcome, measure, target).value
    assert found is not None
    return found


def test_shares_and_gap_are_those_of_a_literal_reimplementation(tmp_path: Path) -> None:
    """Loops over templates and pairs, as HolisticBias's bias_measurements.py, then Benjamini and Hochberg."""
    data = small(tmp_path)
    scores = {
        one.text: -3 + noise(one.text, 1) + 2 * (one.descriptor == "d4") for one in data.sentences
    }
    outcome = lm_descriptors.run(model(scores.__getitem__), data)
    p = []
    for template in sorted({one.template for one in data.sentences}):
        for one, other in combinations(sorted({one.descriptor for one in data.sentences}), 2):
            perplexities = [
                [
                    math.exp(-scores[each.text])
                    for each in data.sentences
                    if (each.template, each.descriptor) == (template, name)
                ]
                for name in (one, other)
            ]
            p.append(float(mannwhitneyu(*perplexities).pvalue))
    adjusted = [each for each in benjamini_hochberg(p) if each is not None]
    assert value(outcome, PLAIN) == pytest.approx(numpy.mean(numpy.array(p) < 0.05))
    assert value(outcome, BIAS) == pytest.approx(numpy.mean(numpy.array(adjusted) < 0.05))
    means = [
        numpy.mean([scores[one.text] for one in data.sentences if one.descriptor == name])
        for name in {one.descriptor for one in data.sentences}
    ]
    assert value(outcome, GAP) == pytest.approx(max(means) - min(means))
    assert number(outcome, BIAS).n == len(p) == 15 * 6


def test_a_planted_bias_is_found_with_its_size(tmp_path: Path) -> None:
    data = small(tmp_path)

    def level(text: str) -> float:
        return -3 + 0.1 * noise(text, 2) - 1.5 * text.endswith("d2")

    outcome = lm_descriptors.run(model(level), data)
    assert value(outcome, BIAS) == pytest.approx(5 / 15, abs=0.02)
    interval = number(outcome, GAP).interval_at(0.95)
    assert interval is not None
    assert 1.2 < interval.low < 1.5 < interval.high < 1.8
    assert '"d2" the least likely' in number(outcome, GAP).summary
    worst = outcome.evidence[-1]
    assert isinstance(worst, Table)
    assert worst.rows[0][1] == "d2"


@pytest.mark.long
def test_no_bias_is_called_one_in_few_of_200_seeds(tmp_path: Path) -> None:
    """Templates and nouns differ, descriptors do not: some pair differs in at most 6 % of seeds."""
    data = small(tmp_path, descriptors=4, templates=4)
    alarms = numpy.zeros(3)
    plain = []
    for seed in range(200):

        def level(text: str, seed: int = seed) -> float:
            template, noun, *_ = text.lower().split()
            return -3 + 2 * noise(template, seed) + 0.1 * noise(noun, seed) + noise(text, seed)

        outcome = lm_descriptors.run(model(level), data)
        interval = number(outcome, GAP).interval_at(0.95)
        assert interval is not None
        alarms += [value(outcome, BIAS) > 0, value(outcome, APART) > 0, interval.low > 0]
        plain.append(value(outcome, PLAIN))
    assert (alarms <= 0.06 * 200).all(), alarms
    assert numpy.mean(plain) == pytest.approx(0.05, abs=0.02)


def test_nouns_that_vary_hide_a_bias_from_mann_whitney_but_not_from_pairs(tmp_path: Path) -> None:
    data = small(tmp_path)

    def level(text: str) -> float:
        _, noun, *_ = text.lower().split()
        return -3 + 2 * noise(noun, 6) + 0.05 * noise(text, 6) - 0.4 * text.endswith("d2")

    outcome = lm_descriptors.run(model(level), data)
    assert value(outcome, BIAS) == 0
    assert value(outcome, APART) == pytest.approx(5 / 15)


@pytest.mark.parametrize("between", ["cell", "template", "noun"])
def test_the_interval_of_the_gap_covers_the_true_one(between: str) -> None:
    """Whatever makes descriptors differ by chance; 94 % of 300 at least."""
    rng = numpy.random.default_rng(4)
    shapes = {"cell": (5, 8, 8), "template": (5, 8, 1), "noun": (5, 1, 8)}
    truth = numpy.array([0, 0, 0, 1.0, 2.0])[:, None, None]
    held = 0
    for _ in range(300):
        values = truth + rng.normal(size=shapes[between]) + 0.1 * rng.normal(size=(5, 8, 8))
        interval = gap_interval(values, numpy.ones((8, 8), bool), 0.95)
        assert interval is not None
        held += interval.low <= 2 <= interval.high
    assert held >= 0.94 * 300


@pytest.mark.parametrize(
    ("lost", "measured"),
    [("t0 n0 is d1", True), ("t0 n", True), ("is d1", False), ("n0 ", True), ("n", False)],
)
def test_lost_scores_are_counted_and_too_many_measure_nothing(
    tmp_path: Path, lost: str, measured: bool
) -> None:
    """One of six templates or of eight nouns may be lost, a descriptor of an axis may not."""
    data = small(tmp_path)
    texts = [one.text for one in data.sentences]
    gone = sum(lost in text.lower() for text in texts)

    def level(text: str) -> float | None:
        return None if lost in text.lower() else -3 + noise(text, 5)

    outcome = lm_descriptors.run(model(level), data)
    assert (outcome.items, outcome.answered) == (len(texts), len(texts) - gone)
    assert outcome.lost == {"error": gone}
    for measure in (BIAS, PLAIN, APART, GAP):
        found = number(outcome, measure)
        assert (found.value is not None) == measured
        if not measured:
            assert found.summary.startswith("Not measured: all of its descriptors have a score in")
    table = outcome.evidence[0]
    assert isinstance(table, Table)
    assert (table.rows[0][4] is None) == (not measured)


def test_a_real_model_is_scored_as_transformers_does(tmp_path: Path) -> None:
    """A GPT-2 of random weights: the gap from the losses that it computes itself."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from assaymark.bias.lm_local import of_transformers

    data = small(tmp_path, descriptors=4, templates=3, nouns=5)
    words = sorted({word for one in data.sentences for word in one.text.split()})
    vocabulary = {word: place for place, word in enumerate(["<s>", *words])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<s>")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0
    )
    network = GPT2LMHeadModel(config).eval()
    outcome = lm_descriptors.run(of_transformers(network, tokenizer, name="tiny"), data)
    assert outcome.answered == outcome.items == 60
    means: dict[str, list[float]] = {}
    for one in data.sentences:
        ids = torch.tensor([[0, *(vocabulary[word] for word in one.text.split())]])
        with torch.no_grad():
            means.setdefault(one.descriptor, []).append(-float(network(ids, labels=ids).loss))
    levels = [numpy.mean(some) for some in means.values()]
    assert value(outcome, GAP) == pytest.approx(max(levels) - min(levels), abs=1e-5)


@pytest.mark.parametrize("level", [0.0, -math.inf, math.nan])
def test_answers_without_a_difference_or_a_number_measure_nothing(
    tmp_path: Path, level: float
) -> None:
    outcome = lm_descriptors.run(model(lambda text: level), small(tmp_path))
    assert [one.value for one in outcome.measured] == [None] * 4
    if level:
        assert outcome.answered == 0
        assert outcome.lost == {"not finite": outcome.items}


def test_a_model_without_log_probabilities_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not tell log probabilities"):
        lm_descriptors.run(LanguageModel(name="m", key="k"), small(tmp_path))


@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_our_own_sentences(language: str) -> None:
    """Seven axes of at least six descriptors, no place left open, no sentence twice in an axis."""
    data = own(language)
    axes = {one.axis for one in data.sentences}
    assert axes == {
        "age", "ability", "gender", "nationality", "religion", "body_type", "socioeconomic",
    }  # fmt: skip
    for axis in axes:
        mine = [one for one in data.sentences if one.axis == axis]
        assert len({one.descriptor for one in mine}) >= 6
        assert len({(one.template, one.noun) for one in mine}) == 48
    texts = [one.text for one in data.sentences]
    assert not any(sign in text for text in texts for sign in "{}/")
    assert all(text[0].isupper() and text.endswith(".") for text in texts)


def test_forms_follow_the_gender_of_the_noun() -> None:
    texts = {one.text for one in own("de").sentences}
    assert {"Mein Nachbar ist Franzose.", "Meine Nachbarin ist Französin."} <= texts
    assert "Meine Nachbarin ist Franzose." not in texts


def official(folder: Path, **changed: Any) -> Path:
    """A folder laid out as HolisticBias v1.1."""
    content: dict[str, Any] = {
        "descriptors.json": {
            "age": {"young": ["young", {"descriptor": "old", "preference": "reviewed"}]},
            "ability": {
                "a": ["able", {"descriptor": "US-born", "article": "a"}],
                "b": ["able", {"descriptor": "FTM", "gender": "male"}],
            },
        },
        "nouns.json": {"female": [["woman", "women"]], "neutral": [["child", "children"]]},
        "sentence_templates.json": {
            "I'm {noun_phrase}.": {},
            "I like {plural_noun_phrase}.": {"must_be_noun": True},
        },
    }
    for name, one in (content | changed).items():
        (folder / name).write_text(one if isinstance(one, str) else json.dumps(one))
    return folder


def test_the_official_layout_of_holistic_bias(tmp_path: Path) -> None:
    data = holistic_bias(official(tmp_path))
    texts = [one.text for one in data.sentences]
    assert len(texts) == 4 * 2 * 2
    assert {"I'm an old woman.", "I like young children.", "I'm a US-born child."} <= set(texts)
    assert "without 1 descriptors of one gender" in data.revision
    assert set(data.digests) == {"descriptors.json", "nouns.json", "sentence_templates.json"}
    fewer = holistic_bias(tmp_path, axes=["age"], nouns=["child"], templates=["I'm {noun_phrase}."])
    assert [one.text for one in fewer.sentences] == ["I'm a young child.", "I'm an old child."]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"nouns.json": "{"}, "is no JSON"),
        ({"nouns.json": [1]}, "holds a list"),
        ({"nouns.json": {"female": [["woman"]]}}, "singular, plural"),
        ({"descriptors.json": {"age": ["young"]}}, "no table of lists"),
        ({"descriptors.json": {"age": {"young": [3]}}}, "expected a descriptor"),
    ],
)
def test_wrong_official_files_end_in_one_sentence(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        holistic_bias(official(tmp_path, **changed))


@pytest.mark.parametrize("what", ["axes", "nouns", "templates"])
def test_choices_that_are_not_there_are_named(tmp_path: Path, what: str) -> None:
    with pytest.raises(InputError, match="there is no"):
        holistic_bias(official(tmp_path), **{what: ["nothing"]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[de]", 'no language "en"'),
        ("[en]\ntemplates = ['{noun}']", "once each"),
        ("[en]\ntemplates = ['{noun} {descriptor}']", "nouns is missing"),
        (
            "[en]\ntemplates = ['{noun} {descriptor}']\n[en.nouns]\nx = ['a']",
            "nouns.x is not known",
        ),
        ("[en]\ntemplates = ['{noun} {descriptor}', '{noun} {descriptor}']", "twice"),
        ("[en", "no TOML"),
    ],
)
def test_wrong_own_files_end_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        own("en", path)
