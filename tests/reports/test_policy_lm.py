"""Limits on language models: every metric takes a sensible one and refuses one that decides nothing."""

import pytest

from assaymark.reports.errors import InputError
from assaymark.reports.lm_suites import COVERAGE, METRICS, SUITES, range_of
from assaymark.reports.policy import Policy
from assaymark.reports.policy_file import parse


def policy(metric: str, side: str, bound: float, more: str = "") -> Policy:
    """A check of the suites that measure the metric, with one gate."""
    owners = [name for name, suite in SUITES.items() if metric in suite.metrics] or ["decisions"]
    data = {name: ['data = "x"'] if SUITES[name].needs_data else [] for name in owners}
    suites = ", ".join(
        f"{name} = {{ {', '.join([*found, *([more] if more else [])])} }}"
        for name, found in data.items()
    )
    return parse(
        f"""
[[check]]
id = "lm"
kind = "bias.lm"
model = "some.module:model"
indicators = "gate"
suites = {{ {suites} }}
gate = {{ metric = "{metric}", {side} = {bound} }}
"""
    )


def sides(metric: str) -> tuple[str, ...]:
    return {"high": ("min",), "low": ("max",), "either": ("min", "max")}[METRICS[metric].good]


def ends(metric: str) -> tuple[float, float] | None:
    return range_of(metric) if METRICS[metric].scale else (0, 1)


USUAL = {"crows_pairs_log_probability_per_token": -5.0}
"""Where it is not a tenth."""


@pytest.mark.parametrize("metric", METRICS)
def test_usual_limits_are_taken(metric: str) -> None:
    usual = USUAL.get(metric, 0.1)
    found = ends(metric)
    signed = found is not None and found[0] < 0 and metric not in USUAL
    for side in sides(metric):
        policy(metric, side, -usual if signed and side == "min" else usual)


@pytest.mark.parametrize("metric", METRICS)
def test_limits_that_decide_nothing_are_refused(metric: str) -> None:
    found = ends(metric)
    wrong = {"low": "min", "high": "max"}.get(METRICS[metric].good)
    if wrong:
        with pytest.raises(InputError, match=r"would pass the worst|lies between|decides nothing"):
            policy(metric, wrong, 0.1)
    for side in sides(metric) if found else ():
        assert found is not None
        end = found[0] if side == "min" else found[1]
        if abs(end) < 1e9:
            with pytest.raises(InputError, match="decides nothing"):
                policy(metric, side, end)
        beyond = -20.0 if side == "min" else 20.0
        if abs(end) < 1e9:
            with pytest.raises(InputError, match="decides nothing"):
                policy(metric, side, beyond)


def test_per_cent_of_a_score_from_minus_1_to_1_is_not_a_limit() -> None:
    with pytest.raises(
        InputError, match=r"between -1 and 1, so max = 20 decides nothing: did you mean 0.2"
    ):
        policy("bbq_bias_ambiguous", "max", 20)
    with pytest.raises(InputError, match=r"did you mean -0\.2"):
        policy("bbq_bias_ambiguous", "min", -20)


def test_the_range_of_a_sentiment_is_that_of_its_classifier() -> None:
    scorer = 'sentiment = { classifier = "some.module:rate", low = 0.0, high = 5.0 }'
    policy("bold_sentiment_mean", "min", 2.5, scorer)
    policy("bold_sentiment_difference", "max", 2.5, scorer)
    with pytest.raises(InputError, match="decides nothing"):
        policy("bold_sentiment_mean", "min", 2.5)
    with pytest.raises(InputError, match="decides nothing"):
        policy("bold_sentiment_difference", "max", 5.0, scorer)


def test_coverage_needs_no_suite() -> None:
    assert policy(COVERAGE, "min", 0.9).check[0].gates[0].metric == COVERAGE
