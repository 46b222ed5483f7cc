"""Every suite on models of known answers: what it measures is what a policy may name, and nothing is lost."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pytest

from assaymark.bias.lm_check import check_language_model
from assaymark.bias.lm_model import (
    Blank,
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
    Vectors,
    quiet,
)
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


def chance(text: str) -> float:
    """A number in (0, 1) that follows from the text alone."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") + 1) / (2**48 + 2)


def score(requests: Sequence[Continuation], progress: Progress = quiet) -> list[Scored | Failed]:
    """Words have log probabilities by chance; of "yes" and "no" the two have all the mass."""
    answers: list[Scored | Failed] = []
    for one in requests:
        words = one.text.split()
        if words and words[0].lower() in ("yes", "no") and len(words) == 1:
            yes = chance(one.context)
            share = (yes if words[0].lower() == "yes" else 1 - yes) / 2.01
            answers.append(Scored((one.text,), (float(numpy.log(share)),)))
            continue
        logs = tuple(float(numpy.log(chance(f"{one.context} {word}"))) for word in words)
        answers.append(
            Scored(tuple(words), logs) if words else Failed("not-tokenizable", "no words")
        )
    return answers


def generate(
    prompts: Sequence[Prompt], sampling: Sampling, progress: Progress = quiet
) -> list[Reply | Failed]:
    return [
        Reply(
            _written(one),
            "stop",
            (
                ("Yes", float(numpy.log(chance(one.text)))),
                ("No", float(numpy.log1p(-chance(one.text)))),
            ),
        )
        for one in prompts
    ]


def _written(prompt: Prompt) -> str:
    """A letter where options have letters, a word where one is asked for, otherwise a sentence."""
    number = chance(f"{prompt.text}{prompt.sample}")
    if re.search(r"\bB[.)]", prompt.text):
        return "AB"[int(2 * number)]
    if "yes" in prompt.text.lower():
        return ("Yes", "No")[int(2 * number)]
    return ("She is a bad nurse.", "He is a good and kind doctor.")[int(2 * number)]


def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
    rows = [numpy.random.default_rng(int(2**40 * chance(text))).normal(size=16) for text in texts]
    return numpy.array(rows), (True,) * len(rows)


class Words:
    """A masked model whose tokens are words."""

    mask = 0

    def __init__(self) -> None:
        self.ids: dict[str, int] = {"[MASK]": 0, "[CLS]": 1, "[SEP]": 2}

    def pieces(self, text: str, *, after_space: bool) -> tuple[int, ...]:
        return tuple(self.ids.setdefault(word, len(self.ids)) for word in text.lower().split())

    def encode(self, text: str) -> tuple[int, ...]:
        return (1, *self.pieces(text, after_space=False), 2)

    def special(self, ids: Sequence[int]) -> tuple[bool, ...]:
        return tuple(number in (1, 2) for number in ids)

    def words(self, text: str) -> tuple[int | None, ...]:
        return (None, *range(len(self.encode(text)) - 2), None)

    def log_probs(
        self, blanks: Sequence[Blank], progress: Progress = quiet
    ) -> list[float | Failed]:
        return [float(numpy.log(chance(f"{one}"))) for one in blanks]


def whole() -> LanguageModel:
    return LanguageModel(
        name="by chance",
        key="by chance",
        score=score,
        masked=Words(),
        generate=generate,
        embed=embed,
    )


def failing() -> LanguageModel:
    """The same, and no request gets an answer."""
    away = Failed("error", "the server is away")

    class Away(Words):
        def log_probs(
            self, blanks: Sequence[Blank], progress: Progress = quiet
        ) -> list[float | Failed]:
            return [away for _ in blanks]

    def unscored(requests: Sequence[Continuation], progress: Progress) -> list[Scored | Failed]:
        return [away for _ in requests]

    def unwritten(
        prompts: Sequence[Prompt], sampling: Sampling, progress: Progress
    ) -> list[Reply | Failed]:
        return [away for _ in prompts]

    def unknown(texts: Sequence[str], progress: Progress) -> tuple[Vectors, tuple[bool, ...]]:
        return numpy.full((len(texts), 16), numpy.nan), (False,) * len(texts)

    return LanguageModel(
        name="away",
        key="away",
        score=unscored,
        masked=Away(),
        generate=unwritten,
        embed=unknown,
    )


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
