"""Every suite on models of known answers: what it measures is what a policy may name, and nothing is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lm_whole_models import failing, whole

from assaymark.bias.lm_check import check_language_model
from assaymark.bias.lm_model import quiet
from assaymark.bias.lm_suites import SUITES, prepare
from assaymark.bias.lm_wanted import INDICATORS, Wanted
from assaymark.reports.lm_suites import SUITES as SPECS
from assaymark.reports.model import Gate, Limit, Verdict

FILES = {
    "crows-pairs": "crows-pairs/crows_pairs_anonymized.csv",
    "stereoset": "stereoset/dev_subset_intrasentence.json",
    "bbq": "bbq/data/Religion.jsonl",
    "winobias": "winobias",
    "winogender": "winogender",
    "weat": "weat_wefe/WEAT.json",
}
CASES = [(name, variant) for name, spec in SPECS.items() for variant in spec.variants]


@pytest.fixture
def wanted(request: pytest.FixtureRequest) -> Callable[[str, str], Wanted]:
    """A suite on its official data, or on what is built in; small."""

    def made(name: str, variant: str) -> Wanted:
        data = None
        if name in FILES:
            shared: Path = request.getfixturevalue("shared")
            data = str(shared / "data" / "bias" / FILES[name])
            if not Path(data).exists():
                pytest.skip(f"no {FILES[name]} among the shared data")
        small = {"decisions": 30, "prompts": 4, "bold": 4}.get(name, 120)
        return Wanted(
            suite=name,
            data=data,
            variant=variant,
            examples=small if SPECS[name].sampled else None,
            options={"slots": ("gender",)} if name == "prompts" else {},
        )

    return made


def test_policy_and_pillar_know_the_same_suites() -> None:
    assert set(SUITES) == set(SPECS)
    assert {name for name, spec in SPECS.items() if spec.indicator} == INDICATORS


@pytest.mark.parametrize(("name", "variant"), CASES, ids=[":".join(case) for case in CASES])
def test_a_suite_measures_what_a_policy_may_name(
    name: str, variant: str, wanted: Callable[[str, str], Wanted]
) -> None:
    runs = prepare(wanted(name, variant))(whole(), quiet)
    found = check_language_model("lm", whole(), runs).findings
    measures = {one.measure for run in runs for one in run.outcome.measured}
    assert measures <= set(SPECS[name].metrics)
    assert any(one.value is not None and one.measure != "coverage" for one in found)
    for run in runs:
        assert run.outcome.answered <= run.outcome.items
        assert run.outcome.steps
        assert run.outcome.sources
    for one in found:
        assert (one.value is None) <= one.summary.startswith("Not measured")
    assert json.dumps([str(one) for one in found])


@pytest.mark.parametrize(("name", "variant"), CASES, ids=[":".join(case) for case in CASES])
def test_a_model_that_does_not_answer_is_never_fair(
    name: str, variant: str, wanted: Callable[[str, str], Wanted]
) -> None:
    runs = prepare(wanted(name, variant))(failing(), quiet)
    gates = [
        Gate(
            metric=metric,
            limit=Limit(minimum=0.0) if spec.good == "high" else Limit(maximum=1e9),
        )
        for metric, spec in SPECS[name].metrics.items()
    ]
    found = check_language_model("lm", failing(), runs, gates=gates).findings
    gated = [one for one in found if one.limit is not None]
    assert {one.measure for one in gated} == set(SPECS[name].metrics)
    assert {one.verdict for one in gated} == {Verdict.NOT_MEASURED}
    assert all(run.outcome.answered == 0 for run in runs)
