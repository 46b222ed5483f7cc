"""What replies say about groups: truths by hand, and models that are fair or not, by construction."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel, wasserstein_distance

from assaymark.bias.findings import Measured
from assaymark.bias.lm_chance import permuted_wasserstein, wasserstein
from assaymark.bias.lm_classifiers import Classifier, Labeller, Scorer, scorer
from assaymark.bias.lm_differences import Grouped, grouped
from assaymark.bias.lm_model import Failed, Reply
from assaymark.bias.lm_outcome import Outcome
from assaymark.bias.lm_replies import Replied
from assaymark.bias.lm_texts import measure_texts
from assaymark.reports.errors import InputError
from assaymark.reports.model import Plot, Table

DOWN = Failed("error", "the server is down")


def number_in(text: str) -> float:
    """The score that a reply of these tests holds as its last word."""
    return float(text.split()[-1])


NUMBERS = Scorer(
    classifier=Classifier(name="m:f", answer=lambda texts: [number_in(text) for text in texts])
)
POLARITY = Scorer(classifier=NUMBERS.classifier, low=-1.0, high=1.0)


def replied(
    cells: dict[str, Sequence[float | Failed | str]], category: str = "en gender"
) -> list[Replied]:
    """One template after the other: the reply of each group to it."""
    return [
        Replied(
            id=f"{place} {group}",
            group=group,
            cluster=str(place),
            category=category,
            prompt=f"About {group} {place}: 0",
            reply=cell if isinstance(cell, Failed) else Reply(f"says {cell}" if cell != "" else ""),
        )
        for group, cells_of in cells.items()
        for place, cell in enumerate(cells_of)
    ]


def by_name(outcome: Outcome, target: str = "en gender") -> dict[str, Measured]:
    return {one.measure: one for one in outcome.measured if one.target == target}


def table(outcome: Outcome, title: str) -> Table:
    (found,) = [one for one in outcome.evidence if one.title == title]
    assert isinstance(found, Table)
    return found


def test_toxicity_by_hand() -> None:
    given = replied({"women": [0.9, 0.5, 0.1, 0.2], "men": [0.6, 0.4, 0.0, 0.1]})
    outcome = measure_texts(given, toxicity=NUMBERS)
    assert (outcome.items, outcome.answered, outcome.lost) == (8, 8, {})
    assert by_name(outcome, "en gender = women")["toxicity_rate"].value == 0.5
    assert by_name(outcome, "en gender = men")["toxicity_rate"].value == 0.25
    gap = by_name(outcome)["toxicity_rate_difference"]
    assert gap.value == 0.25
    assert "25.0 percentage points" in gap.summary
    assert "50.0 % for women, 25.0 % for men" in gap.summary
    found = gap.interval_at(0.95)
    assert found is not None
    assert found.low == 0
    assert found.high > 0.25
    assert table(outcome, "Most toxic replies: en gender").rows[0][:2] == ("women", 0.9)


def test_sentiment_by_hand() -> None:
    given = replied({"women": [0.5, -0.5, 0.0, 1.0], "men": [0.25, 0.5, 0.0, -0.75]})
    outcome = measure_texts(given, sentiment=POLARITY, draws=99)
    found = by_name(outcome)
    assert found["sentiment_difference"].value == pytest.approx(0.25)
    assert found["sentiment_positive_rate_difference"].value == 0.0
    # sorted: -0.5 0 0.5 1 and -0.75 0 0.25 0.5
    assert found["sentiment_w1"].value == pytest.approx((0.25 + 0 + 0.25 + 0.5) / 4)
    assert "chance alone would give" in found["sentiment_w1"].summary
    for values in outcome.item_values:
        mean = by_name(outcome, values.target)[values.measure].value
        assert mean == pytest.approx(sum(values.values) / len(values.values))
        assert len(set(values.ids)) == len(values.clusters) == 4


def test_regard_by_hand() -> None:
    said = ["positive", "negative", "neutral", "other"]
    given = replied({"women": [0, 0, 2, 3], "men": [1, 1, 0, 2]})
    labels = Labeller(
        classifier=Classifier(
            name="m:f", answer=lambda texts: [said[int(number_in(text))] for text in texts]
        ),
        labels={one: one for one in said},
    )
    outcome = measure_texts(given, regard=labels)
    women = by_name(outcome, "en gender = women")
    assert women["regard_positive_rate"].value == 0.5
    assert women["regard_neutral_rate"].value == 0.25
    assert women["regard_negative_rate"].value == 0.0
    assert women["regard_mean"].value == 0.5
    assert by_name(outcome)["regard_difference"].value == pytest.approx(0.5 - (1 - 2) / 4)


def sampled(scores: dict[str, list[list[float | Failed]]]) -> list[Replied]:
    """For each group its prompts, each with its samples."""
    return [
        Replied(
            id=f"{group} {place}",
            group=group,
            cluster=str(place),
            category="en gender",
            prompt=f"{group} {place} 0",
            reply=one if isinstance(one, Failed) else Reply(f"{one}"),
        )
        for group, prompts in scores.items()
        for place, samples in enumerate(prompts)
        for one in samples
    ]


def test_expected_maximum_toxicity_by_hand() -> None:
    """RealToxicityPrompts: the mean over prompts of the largest, and how many have one of at least ½."""
    given = sampled(
        {"women": [[0.1, 0.7, 0.2], [0.3, 0.2, 0.1]], "men": [[0.5, 0.1, 0.1], [0.1, 0.1, 0.4]]}
    )
    outcome = measure_texts(given, toxicity=NUMBERS)
    women = by_name(outcome, "en gender = women")
    assert women["expected_maximum_toxicity"].value == pytest.approx(0.5)
    assert women["toxicity_probability"].value == 0.5
    assert women["expected_maximum_toxicity"].n == 2
    assert "3 samples a prompt" in women["expected_maximum_toxicity"].summary
    found = by_name(outcome)
    assert found["expected_maximum_toxicity_difference"].value == pytest.approx(0.05)
    ids = [one for values in outcome.item_values for one in values.ids]
    assert len(set(ids)) == len(ids) == 12


def test_a_prompt_with_a_lost_sample_has_no_maximum() -> None:
    given = sampled({"women": [[0.1, DOWN], [0.3, 0.2]], "men": [[0.5, 0.1], [0.1, 0.4]]})
    outcome = measure_texts(given, toxicity=NUMBERS)
    women = by_name(outcome, "en gender = women")
    assert (women["expected_maximum_toxicity"].n, women["toxicity_rate"].n) == (1, 3)
    # compared on the second prompt alone
    gap = by_name(outcome)["expected_maximum_toxicity_difference"]
    assert gap.value == pytest.approx(0.1)
    assert gap.interval_at(0.95) is None


def test_a_prompt_that_stands_twice_makes_no_samples() -> None:
    twice: list[list[float | Failed]] = [[0.1, 0.2], [0.3], [0.9]]
    outcome = measure_texts(sampled({"women": twice, "men": [[0.1]] * 3}), toxicity=NUMBERS)
    assert outcome.answered == 7
    assert not [one for one in outcome.measured if "maximum" in one.measure]


def test_tables_and_charts_of_hostile_replies() -> None:
    """Scores below 0 have a chart of their own; texts are cut short, not changed."""
    texts = ["<script>alert(1)</script>", "x" * 10_000, "\0 \u202e שלום", "\ud800", "2"]
    given = replied({"a": [f"{text} 0.5" for text in texts], "b": [-0.5] * 5})
    outcome = measure_texts(given, sentiment=POLARITY, draws=19)
    assert outcome.answered == 10
    rows = table(outcome, "Replies of the lowest sentiment: en gender").rows
    assert [row[1] for row in rows] == [-0.5] * 5 + [0.5] * 5
    said = [str(row[3]) for row in rows] + [str(row[6]) for row in rows]
    assert "says <script>alert(1)</script> 0.5" in said
    assert max(map(len, said)) == 200
    (plot,) = [one for one in outcome.evidence if isinstance(one, Plot)]
    assert [point.y for point in plot.series[0].points] == [0.5, -0.5]


def test_templates_that_a_group_lost_are_left_out_of_the_comparison() -> None:
    """Women lost the two templates on which everybody is toxic: that is no difference."""
    given = replied({"women": [DOWN, "", 0.1, 0.1, 0.1], "men": [0.9, 0.9, 0.1, 0.1, 0.1]})
    outcome = measure_texts(given, toxicity=NUMBERS)
    assert (outcome.answered, outcome.lost) == (8, {"error": 1, "unparsable": 1})
    assert by_name(outcome, "en gender = men")["toxicity_rate"].value == 0.4
    assert by_name(outcome)["toxicity_rate_difference"].value == 0.0
    rows = table(outcome, "Toxicity of replies: en gender").rows
    assert [(row[1], row[2], row[3]) for row in rows] == [("men", 5, 0), ("women", 3, 2)]


def replied_empty(given: list[Replied]) -> list[Replied]:
    return [
        one if one.group == "men" else Replied(**{**_fields(one), "reply": Reply("  ")})
        for one in given
    ]


def _fields(one: Replied) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("id", "group", "cluster", "category", "prompt")}


@pytest.mark.parametrize("lost", [DOWN, Failed("too-long", "too long")])
def test_a_group_without_answers_is_no_fair_group(lost: Failed) -> None:
    cells: dict[str, Sequence[float | Failed | str]] = {"women": [lost] * 4, "men": [0.1] * 4}
    outcome = measure_texts(replied(cells), toxicity=NUMBERS, sentiment=POLARITY)
    for one in by_name(outcome).values():
        if "classifier" not in one.measure:
            assert one.value is None
            assert "no reply of group women" in one.summary
            assert lost.reason in one.summary
    assert outcome.answered == 4


def test_empty_replies_are_lost() -> None:
    outcome = measure_texts(
        replied_empty(replied({"women": [0.1] * 3, "men": [0.1] * 3})), toxicity=NUMBERS
    )
    assert outcome.lost == {"unparsable": 3}
    assert by_name(outcome)["toxicity_rate_difference"].value is None


@pytest.mark.parametrize("answer", [math.nan, None, 7.0, "toxic"])
def test_a_classifier_that_fails_is_no_clean_bill(answer: object) -> None:
    broken = Scorer(classifier=Classifier(name="m:f", answer=lambda texts: [answer for _ in texts]))
    outcome = measure_texts(replied({"women": [0.1] * 3, "men": [0.2] * 3}), toxicity=broken)
    assert outcome.answered == 0
    assert outcome.lost == {"unparsable": 6}
    assert all(one.value is None for one in outcome.measured)


def test_the_lexicon_says_nothing_of_other_languages() -> None:
    cells: dict[str, Sequence[float | Failed | str]] = {"a": ["schön 1"] * 3, "b": ["gut 1"] * 3}
    for category, reason in (("de gender", "in 'de'"), ("gender", "nobody said")):
        outcome = measure_texts(replied(cells, category), sentiment=scorer("textblob"))
        assert all(one.value is None for one in outcome.measured)
        assert reason in outcome.measured[-1].summary
        assert outcome.lost == {"not-offered": 6}
    said = measure_texts(
        replied({"a": ["good"] * 3, "b": ["bad"] * 3}, "gender"),
        sentiment=scorer("textblob"),
        language="en",
    )
    assert by_name(said, "gender")["sentiment_difference"].value == pytest.approx(1.4)


def test_replies_that_the_lexicon_does_not_know_are_not_neutral() -> None:
    """All have a polarity of 0, and no difference: they are in another language, or noise."""
    cells: dict[str, Sequence[float | Failed | str]] = {
        "a": ["wunderbar"] * 12,
        "b": ["schrecklich"] * 12,
    }
    outcome = measure_texts(replied(cells), sentiment=scorer("textblob"))
    found = by_name(outcome)
    assert found["sentiment_difference"].value is None
    assert "knows a word in 0 %" in found["sentiment_difference"].summary
    assert outcome.answered == 0


def test_the_gap_that_the_classifier_makes_by_itself() -> None:
    """This one scores a name, not what is said: replies and prompts show the same gap."""
    by_term = Scorer(
        classifier=Classifier(
            name="m:f", answer=lambda texts: [0.8 if "women" in one else 0.1 for one in texts]
        )
    )
    outcome = measure_texts(replied({"women": [0.1] * 8, "men": [0.1] * 8}), toxicity=by_term)
    found = by_name(outcome)
    assert found["toxicity_rate_difference"].value == 0.0
    assert found["toxicity_classifier_difference"].value == pytest.approx(0.7)
    whole = measure_texts(
        replied({"women": [0.1] * 8, "men": [0.1] * 8}), toxicity=by_term, include_prompt=True
    )
    assert by_name(whole)["toxicity_rate_difference"].value == 1.0


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: measure_texts(replied({"a": [0.1]})), "no classifier of texts"),
        (lambda: measure_texts([], toxicity=NUMBERS), "no replies"),
        (lambda: measure_texts(replied({"a": [0]}), toxicity=NUMBERS, threshold=2), "from 0 to 1"),
        (
            lambda: measure_texts(replied({"a": [0]}), sentiment=NUMBERS, positive_above=-1),
            "counts as positive",
        ),
    ],
)
def test_what_cannot_be_measured(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ask()


def test_one_group_is_no_comparison() -> None:
    found = by_name(measure_texts(replied({"women": [0.1] * 4}), toxicity=NUMBERS))
    assert found["toxicity_rate_difference"].value is None
    assert "one group only" in found["toxicity_rate_difference"].summary


def test_names_with_a_prefix() -> None:
    outcome = measure_texts(replied({"a": [0.1], "b": [0.1]}), toxicity=NUMBERS, prefix="bold_")
    assert all(one.measure.startswith("bold_") for one in outcome.measured)
    assert all(one.measure.startswith("bold_") for one in outcome.item_values)


# intervals and distances


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_two_groups_on_shared_templates_are_the_paired_t_test(seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    one, other = rng.uniform(0.2, 0.8, (2, 12))
    found = grouped([*one, *other], "a" * 12 + "b" * 12, [str(place) for place in range(12)] * 2)
    interval = found.difference_interval(0.95)
    exact = ttest_rel(one, other).confidence_interval(0.95)
    assert interval is not None
    low, high = sorted((abs(exact.low), abs(exact.high)))
    apart = exact.low > 0 or exact.high < 0
    assert interval.high == pytest.approx(high, rel=1e-4)
    assert interval.low == pytest.approx(low if apart else 0.0, rel=1e-3, abs=1e-6)


def test_replies_that_are_all_alike_are_no_certainty() -> None:
    """The same reply to every group in 20 templates: up to 1 - 0.025^(1/20) of others may differ."""
    values = numpy.tile(numpy.random.default_rng(0).uniform(size=20), 2)
    clusters = [str(place) for place in range(20)] * 2
    for given_values in (values, values * 0):
        found = grouped(given_values, "a" * 20 + "b" * 20, clusters).difference_interval(0.95)
        assert found is not None
        assert found.low == 0
        assert found.high >= 1 - 0.025 ** (1 / 20) - 1e-6


def test_one_cluster_has_no_interval() -> None:
    found = grouped([0, 1, 1, 1], "aabb", "1111")
    assert found.difference == 0.5
    assert found.difference_interval() is None


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=20),
    st.lists(st.floats(-1, 1), min_size=1, max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_wasserstein_is_scipys(one: list[float], other: list[float]) -> None:
    group = numpy.repeat([0, 1], [len(one), len(other)])
    found = wasserstein(numpy.array([*one, *other]), group, 2)[0, 1]
    assert found == pytest.approx(wasserstein_distance(one, other), abs=1e-12)
    if len(one) == len(other):
        sorted_apart = numpy.abs(numpy.sort(one) - numpy.sort(other)).mean()
        assert found == pytest.approx(sorted_apart, abs=1e-12)


def test_the_level_of_chance_is_the_mean_over_all_orders() -> None:
    """Three templates of two prompts: 8 orders, all equally likely, counted out."""
    values = numpy.array([0.1, 0.9, 0.3, 0.4, 0.0, 0.7])
    group, cluster = numpy.array([0, 1] * 3), numpy.repeat([0, 1, 2], 2)
    every = []
    for order in range(8):
        flips = numpy.repeat([order & 1, order >> 1 & 1, order >> 2 & 1], 2)
        every.append(wasserstein(values, group ^ flips, 2)[0, 1])
    found = permuted_wasserstein(
        values, group, numpy.arange(6), cluster, 2, seed=0, draws=4000, widest=1.0
    )
    assert found.value == every[0]
    assert found.chance == pytest.approx(numpy.mean(every), abs=0.01)
    at_least = numpy.mean([one >= every[0] - 1e-12 for one in every])
    assert found.p == pytest.approx(at_least, abs=0.03)


def fair(kind: str, groups: int, seed: int, *, shared: bool) -> Grouped:
    """20 templates that differ much among themselves, and groups that do not; or clusters of one group."""
    rng = numpy.random.default_rng(seed)
    group, cluster = numpy.tile(numpy.arange(groups), 20), numpy.repeat(numpy.arange(20), groups)
    if not shared:
        cluster = cluster * groups + group
    template = rng.normal(size=cluster.max() + 1)[cluster]
    if kind == "shares":
        values = (rng.random(len(group)) < 1 / (1 + numpy.exp(1 - template))).astype(float)
    else:  # many zeros, and skewed, as scores of sentiment are
        scores = numpy.tanh(template / 2 + rng.exponential(size=len(group)) / 2 - 0.5)
        values = numpy.where(rng.random(len(group)) < 0.4, 0.0, scores)
    return grouped(
        values,
        [str(one) for one in group],
        [str(one) for one in cluster],
        shares=kind == "shares",
        low=0.0 if kind == "shares" else -1.0,
    )


def accused(kind: str, groups: int, seeds: int, *, shared: bool) -> float:
    runs = (fair(kind, groups, 1000 + seed, shared=shared) for seed in range(seeds))
    found = [one.difference_interval() for one in runs]
    assert all(one is not None for one in found)
    return sum(one is not None and one.low > 0 for one in found) / seeds


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("groups", [2, 4, 8])
@pytest.mark.parametrize("kind", ["shares", "scores"])
def test_fair_models_are_not_accused(kind: str, groups: int, shared: bool) -> None:
    """The largest difference is never 0; its interval at 95 % leaves 0 out in at most 6 % of 200 models."""
    assert accused(kind, groups, 200, shared=shared) <= 0.06


@pytest.mark.long
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("groups", [2, 4, 8])
@pytest.mark.parametrize("kind", ["shares", "scores"])
def test_fair_models_are_not_accused_over_many_seeds(kind: str, groups: int, shared: bool) -> None:
    """Within the error of 4,000 runs (0.0034) of at most 5.5 %."""
    assert accused(kind, groups, 4000, shared=shared) <= 0.055 + 2 * 0.0036


@pytest.mark.parametrize(("groups", "shared"), [(2, True), (4, True), (8, True), (4, False)])
def test_distances_of_fair_models_are_those_of_chance(groups: int, shared: bool) -> None:
    accused, above = 0, []
    for seed in range(200):
        one = fair("scores", groups, 1000 + seed, shared=shared)
        found = permuted_wasserstein(
            one.values,
            one.group,
            numpy.arange(len(one.values)),
            one.cluster,
            groups,
            seed=seed,
            draws=99,
            widest=2.0,
        )
        interval = found.interval()
        accused += interval is not None and interval.low > 0
        assert found.chance is not None
        above.append(found.value - found.chance)
    assert accused <= 0.06 * 200
    assert abs(numpy.mean(above)) < 0.01


def test_samples_of_a_prompt_move_together() -> None:
    """10 alike samples of a prompt are one: dealt one by one they would make chance differences small."""
    rng = numpy.random.default_rng(1)
    prompts = rng.uniform(size=40)
    values = numpy.repeat(prompts, 10)
    group = numpy.repeat(numpy.tile([0, 1], 20), 10)
    cluster, unit = numpy.repeat(numpy.arange(20), 20), numpy.repeat(numpy.arange(40), 10)
    args = {"seed": 0, "draws": 400, "widest": 1.0}
    whole = permuted_wasserstein(values, group, unit, cluster, 2, **args)  # type: ignore[arg-type]
    single = permuted_wasserstein(
        prompts,
        group[::10],
        unit[::10],
        cluster[::10],
        2,
        **args,  # type: ignore[arg-type]
    )
    assert whole.value == pytest.approx(single.value)
    assert whole.chance == pytest.approx(single.chance, rel=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_planted_differences_are_found(seed: int) -> None:
    """Toxic in 50 % and 10 % of 60 templates, and sentiment that lies 0.3 apart."""
    rng = numpy.random.default_rng(seed)
    toxic = {"women": rng.random(60) < 0.5, "men": rng.random(60) < 0.1}
    template = rng.normal(size=60) / 4
    cells: dict[str, Sequence[float | Failed | str]] = {
        name: [0.9 if hit else 0.1 for hit in hits] for name, hits in toxic.items()
    }
    moods: dict[str, Sequence[float | Failed | str]] = {
        name: list((template + shift + rng.normal(size=60) / 5).clip(-1, 1).tolist())
        for name, shift in (("women", -0.15), ("men", 0.15))
    }
    found = by_name(measure_texts(replied(cells), toxicity=NUMBERS)) | by_name(
        measure_texts(replied(moods), sentiment=POLARITY, draws=199)
    )
    for measure, truth in (
        ("toxicity_rate_difference", 0.4),
        ("sentiment_difference", 0.3),
        ("sentiment_w1", 0.3),
    ):
        interval = found[measure].interval_at(0.95)
        assert interval is not None
        assert interval.low > 0
        assert found[measure].value == pytest.approx(truth, abs=0.13)
