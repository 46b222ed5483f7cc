"""The rule that fuses evidence: planted cases with a known answer, and that more never says less."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance.evidence import Evidence, Family, Says
from assaymark.provenance.fuse import DECIDES, STATISTICS, Verdict, fuse


def piece(
    family: Family, says: Says, llr: float | None = None, *, name: str = "x", **details: object
) -> Evidence:
    return Evidence(
        detector=name, family=family, says=says, summary=f"{name} {says}", llr=llr, details=details
    )


CAMERA = piece(Family.CREDENTIAL, Says.AUTHENTIC, name="credential", trusted=True)
ANYBODYS_CAMERA = piece(Family.CREDENTIAL, Says.AUTHENTIC, name="credential", trusted=False)
SIGNED = piece(Family.CREDENTIAL, Says.GENERATED, name="credential", trusted=True)
CHANGED = piece(Family.CREDENTIAL, Says.MANIPULATED, name="credential", trusted=False)
MARK = piece(Family.WATERMARK, Says.GENERATED, name="watermark")
TOLD = piece(Family.METADATA, Says.GENERATED, name="metadata")
HIGH = piece(Family.LEARNED, Says.GENERATED, 2.5, name="learned")
LOW = piece(Family.LEARNED, Says.NOTHING, -0.4, name="learned")
BETWEEN = piece(Family.LEARNED, Says.NOTHING, 0.5, name="learned")
SILENT = piece(Family.LEARNED, Says.ABSTAINS, name="learned")
SPLICED = piece(Family.FORENSIC, Says.MANIPULATED, 2.0, name="splice")
FAINT = piece(Family.LEARNED, Says.GENERATED, 0.2, name="speech")
HINT = piece(Family.FORENSIC, Says.MANIPULATED, 0.6, name="splice")
SHOWN_ONLY = piece(Family.FORENSIC, Says.MANIPULATED, name="noise")
BROKEN = piece(Family.LEARNED, Says.GENERATED, math.inf, name="own")
WHOLE = piece(Family.FORENSIC, Says.NOTHING, -0.5, name="splice")


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ((), Verdict.CANNOT_TELL),
        ((SILENT,), Verdict.CANNOT_TELL),
        ((ANYBODYS_CAMERA, SILENT), Verdict.CANNOT_TELL),
        ((LOW,), Verdict.NO_SIGN),
        ((BETWEEN,), Verdict.CANNOT_TELL),
        ((HIGH,), Verdict.GENERATED),
        ((SIGNED, LOW), Verdict.GENERATED),
        ((TOLD, LOW), Verdict.GENERATED),
        ((MARK,), Verdict.GENERATED),
        ((piece(Family.WATERMARK, Says.GENERATED, name="open", open=True),), Verdict.GENERATED),
        ((CAMERA, SILENT), Verdict.NO_SIGN),
        ((CAMERA, HIGH), Verdict.NO_SIGN),
        ((CAMERA, TOLD), Verdict.CANNOT_TELL),
        ((CAMERA, MARK, TOLD), Verdict.CANNOT_TELL),
        ((CHANGED, LOW), Verdict.MANIPULATED),
        ((SPLICED, LOW), Verdict.MANIPULATED),
        ((SPLICED, HIGH), Verdict.GENERATED),
        ((WHOLE, LOW), Verdict.NO_SIGN),
        ((WHOLE,), Verdict.CANNOT_TELL),
        ((FAINT, LOW), Verdict.CANNOT_TELL),  # each speaks, and together they do not reach the limit
        ((HINT, LOW), Verdict.CANNOT_TELL),
        ((SHOWN_ONLY, LOW), Verdict.NO_SIGN),  # it was not measured, so it does not count
        ((CAMERA, HINT, SPLICED), Verdict.NO_SIGN),
        ((BROKEN, LOW), Verdict.CANNOT_TELL),
    ],
    ids=lambda value: value.value if isinstance(value, Verdict) else "+".join(
        f"{item.detector}-{item.says}" for item in value) or "nothing",
)  # fmt: skip
def test_planted_cases(evidence: tuple[Evidence, ...], verdict: Verdict) -> None:
    assert fuse(evidence).verdict is verdict


def test_the_probability_is_the_prior_and_the_points() -> None:
    """Bayes' rule in closed form: odds = prior odds x likelihood ratio."""
    odds = 0.2 / 0.8 * math.exp(2.5)
    assert fuse((HIGH,), prior=0.2).probability == pytest.approx(odds / (1 + odds))
    assert fuse((SILENT,)).probability is None
    assert fuse(()).manipulated_probability is None


def test_a_statistic_cannot_say_more_than_it_was_measured_on() -> None:
    sure = piece(Family.LEARNED, Says.GENERATED, 50.0)
    assert fuse((sure,)).probability == pytest.approx(1 / (1 + math.exp(-STATISTICS)))
    for broken in (math.nan, math.inf):
        assert fuse((piece(Family.LEARNED, Says.GENERATED, broken),)).probability is None


def test_two_looks_pay_for_the_second_chance() -> None:
    """Of k statistics the largest counts, less ln k: what Bonferroni's correction takes."""
    one, two = fuse((HIGH,)), fuse((HIGH, LOW))
    assert one.probability is not None
    assert two.probability is not None
    gap = math.log(one.probability / (1 - one.probability))
    gap -= math.log(two.probability / (1 - two.probability))
    assert gap == pytest.approx(math.log(2))


def test_an_open_mark_counts_as_a_statement() -> None:
    opened = piece(Family.WATERMARK, Says.GENERATED, open=True)
    assert fuse((opened,)).probability == fuse((TOLD,)).probability


def test_statements_of_one_hand_are_one() -> None:
    assert fuse((TOLD, TOLD)).probability == fuse((TOLD,)).probability


def test_a_prior_is_not_evidence() -> None:
    """However likely such files are generated, or not, a look that says nothing decides nothing."""
    uncounted = piece(Family.LEARNED, Says.GENERATED, name="spectrum")
    assert fuse((uncounted, LOW), prior=0.99).verdict is Verdict.CANNOT_TELL
    assert fuse((HIGH,), prior=0.01).verdict is Verdict.CANNOT_TELL


def test_what_was_overruled_is_told() -> None:
    assert "overruled" in fuse((CAMERA, HIGH)).conflicts[0]
    assert "contradicts" in fuse((CAMERA, MARK, TOLD)).conflicts[0]
    assert fuse((HIGH, LOW)).conflicts == ()


_ORDER = [Verdict.NO_SIGN, Verdict.CANNOT_TELL, Verdict.GENERATED]
_PIECES = st.lists(
    st.builds(
        lambda family, says, llr, trusted: piece(family, says, llr, trusted=trusted),
        st.sampled_from(Family),
        st.sampled_from([Says.GENERATED, Says.AUTHENTIC, Says.NOTHING, Says.ABSTAINS]),
        st.one_of(st.none(), st.floats(-8, 8)),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(
    pieces=_PIECES,
    more=st.sampled_from([SIGNED, MARK, TOLD, piece(Family.CREDENTIAL, Says.GENERATED)]),
)
def test_a_further_statement_never_says_less(pieces: list[Evidence], more: Evidence) -> None:
    before, after = fuse(pieces), fuse([*pieces, more])
    assert _ORDER.index(after.verdict) >= _ORDER.index(before.verdict)
    assert after.probability is not None
    if before.probability is not None:
        assert after.probability >= before.probability - 1e-12


@settings(max_examples=300, deadline=None)
@given(pieces=_PIECES, low=st.floats(-5, 5), rise=st.floats(0, 5))
def test_a_higher_score_never_says_less(pieces: list[Evidence], low: float, rise: float) -> None:
    """The detector says generated from DECIDES on, as the shipped ones do."""

    def with_score(llr: float) -> list[Evidence]:
        says = Says.GENERATED if llr >= DECIDES else Says.NOTHING
        return [*pieces, piece(Family.LEARNED, says, llr)]

    before, after = fuse(with_score(low)), fuse(with_score(low + rise))
    assert _ORDER.index(after.verdict) >= _ORDER.index(before.verdict)
    assert before.probability is not None
    assert after.probability is not None
    assert after.probability >= before.probability - 1e-12
