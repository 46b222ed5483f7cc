"""The finding: a measured number with its uncertainty, held against a limit the user wrote.

Plain frozen values on the standard library, so that every pillar can make them and every renderer
can read them. Undefined is None, shown as "not measured", never 0.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Cell = str | float | int | bool | None
Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """What a finding says once its limit has been held against it."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    WAIVED = "waived"
    NOT_MEASURED = "not-measured"
    MEASURED = "measured"
    """A number without a limit: reported, neither good nor bad news."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A two-sided confidence interval; `confidence` in (0, 1)."""

    low: float
    high: float
    confidence: float
    method: str

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"an interval needs low <= high, got [{self.low}, {self.high}]")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A bound written in the policy: either `minimum` or `maximum`.

    `on` says what must keep it. "estimate": the measured value. "lower" (of a minimum) or "upper"
    (of a maximum): the far end of the interval, so that a small sample is inconclusive, never a
    pass by luck.

    >>> Limit(minimum=0.4).judge(0.41, None)
    <Verdict.PASS: 'pass'>
    >>> ci = Interval(low=0.35, high=0.47, confidence=0.95, method="Clopper–Pearson")
    >>> Limit(minimum=0.4, on="lower").judge(0.41, ci)
    <Verdict.INCONCLUSIVE: 'inconclusive'>
    """

    minimum: float | None = None
    maximum: float | None = None
    on: Literal["estimate", "lower", "upper"] = "estimate"

    def __post_init__(self) -> None:
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError("a limit is either a minimum or a maximum")
        if not math.isfinite(self.minimum if self.maximum is None else self.maximum):  # type: ignore[arg-type]
            raise ValueError("a limit is finite")
        wrong = "upper" if self.maximum is None else "lower"
        if self.on == wrong:
            raise ValueError(f'a limit of this kind cannot be held on the "{wrong}" bound')

    def judge(self, value: float | None, interval: Interval | None) -> Verdict:
        """Pass, fail, inconclusive (the interval straddles the limit) or not measured."""
        if value is None:
            return Verdict.NOT_MEASURED
        if self.on == "estimate":
            return Verdict.PASS if self._holds(value) else Verdict.FAIL
        if interval is None:
            return Verdict.NOT_MEASURED
        ends = {self._holds(interval.low), self._holds(interval.high)}
        if ends == {True}:
            return Verdict.PASS
        return Verdict.FAIL if ends == {False} else Verdict.INCONCLUSIVE

    def _holds(self, number: float) -> bool:
        if self.minimum is not None:
            return number >= self.minimum
        assert self.maximum is not None
        return number <= self.maximum

    def __str__(self) -> str:
        sign, bound = ("≥", self.minimum) if self.maximum is None else ("≤", self.maximum)
        where = "" if self.on == "estimate" else f" ({self.on} bound)"
        return f"{sign} {bound:g}{where}"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A limit on one metric of a check; `confidence` is that of the interval it is held on."""

    metric: str
    limit: Limit
    confidence: float = 0.95
    severity: Severity = "high"
    attribute: str | None = None
    defense: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a finding cost; passes are counted per example, not per batch.

    queries: images that a black box was asked about, all of them; None when the model is open.
    """

    seconds: float | None = None
    forward: int | None = None
    backward: int | None = None
    queries: int | None = None


# Evidence is data, never markup; renderers draw it.


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; None in a cell is shown as "not measured"."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    type: Literal["table"] = "table"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One labelled number with its interval, for a chart."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Numbers in [0, 1] side by side, drawn as dots with intervals."""

    title: str
    estimates: tuple[Estimate, ...]
    limit: float | None = None
    type: Literal["estimates"] = "estimates"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An encoded picture; `data` is base64."""

    media_type: Literal["image/png", "image/webp", "image/jpeg"]
    data: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class ImageTrio:
    """Original, adversarial, and their difference multiplied by `factor` around mid-grey.

    confidence: None of a model that answers labels only.
    """

    title: str
    original: Picture
    adversarial: Picture
    difference: Picture
    factor: float
    label: str
    prediction: str
    confidence: float | None
    fooled_prediction: str
    fooled_confidence: float | None
    linf: float
    l2: float
    attack: str
    type: Literal["image-trio"] = "image-trio"


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """A picture with what a reader should know about it."""

    caption: str
    picture: Picture


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures side by side, such as a patch that was learned."""

    title: str
    pictures: tuple[Captioned, ...]
    type: Literal["pictures"] = "pictures"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A labelled node of a tree."""

    label: str
    detail: str = ""
    children: tuple["Node", ...] = ()


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What checking one file said: its state, the standard's status codes, and the manifest tree."""

    title: str
    state: str
    expected: str
    explanation: str
    codes: tuple[str, ...]
    tree: Node | None = None
    type: Literal["validation"] = "validation"


@dataclass(frozen=True, kw_only=True)
class HeatRow:
    """A row of a heat map, one cell a column; total: it sums up the others."""

    label: str
    cells: tuple[Estimate, ...]
    total: bool = False


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Numbers in [0, 1] in rows and columns, drawn as a table whose cells have a shade.

    rows_are, columns_are: what a row and a column stand for, such as "attack" and "defense". A cell
    without a value is shown as "not measured", in no shade.
    """

    title: str
    rows_are: str
    columns_are: str
    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    note: str = ""
    type: Literal["heat-map"] = "heat-map"

    def __post_init__(self) -> None:
        if any(len(row.cells) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.title}: a heat map has one cell a column in every row")


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a plot; low and high are the interval of y."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    n: int | None = None

    def __post_init__(self) -> None:
        ends = (self.x, self.y, self.low or 0.0, self.high or 0.0)
        if not all(map(math.isfinite, ends)):
            raise ValueError(f"a point of a plot is finite, got {ends}")


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points under one name; joined: drawn as a line."""

    label: str
    points: tuple[Point, ...]
    joined: bool = True


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Series in one pair of axes. diagonal: also the line y = x, which a calibrated model follows."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    diagonal: bool = False
    note: str = ""
    type: Literal["plot"] = "plot"


Evidence = Table | Estimates | ImageTrio | Pictures | Validation | HeatMap | Plot


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """A risk accepted by a named person until a date (ISO 8601)."""

    check: str
    reason: str
    owner: str
    expires: str
    metric: str | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One measured number of one check, and what it means.

    value: None when it could not be measured, never NaN. n: how many examples stand behind it.
    needs_n: about how many would decide an inconclusive limit. integrity: a failure means that a
    signature or digest that must hold does not. error: why the check could not run. unreliable: why a good
    number would not be believed; a limit that it keeps is then undecided, one that it breaks is broken
    all the same.
    """

    check: str
    target: str
    measure: str
    summary: str
    value: float | None = None
    interval: Interval | None = None
    n: int | None = None
    limit: Limit | None = None
    severity: Severity = "high"
    needs_n: int | None = None
    integrity: bool = False
    error: str | None = None
    unreliable: str | None = None
    waiver: Waiver | None = None
    evidence: tuple[Evidence, ...] = ()
    references: tuple[str, ...] = ()
    cost: Cost = Cost()

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.check}: a finding is finite or None, got {self.value}")

    @property
    def judged(self) -> Verdict:
        """The verdict before any waiver."""
        if self.error is not None:
            return Verdict.ERROR
        if self.limit is not None:
            verdict = self.limit.judge(self.value, self.interval)
            doubtful = self.unreliable is not None and verdict is Verdict.PASS
            return Verdict.INCONCLUSIVE if doubtful else verdict
        return Verdict.NOT_MEASURED if self.value is None else Verdict.MEASURED

    @property
    def verdict(self) -> Verdict:
        """A waiver excuses a broken or undecided limit, not a check that did not run."""
        excused = self.waiver is not None and self.judged in (Verdict.FAIL, Verdict.INCONCLUSIVE)
        return Verdict.WAIVED if excused else self.judged

    @property
    def blocks(self) -> bool:
        """Whether this finding alone keeps the report from being complete."""
        return self.verdict in (Verdict.ERROR, Verdict.INCONCLUSIVE) or (
            self.verdict is Verdict.NOT_MEASURED and self.limit is not None
        )


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a check measured, what it did not test, and where the method comes from."""

    check: str
    title: str
    steps: tuple[str, ...]
    not_tested: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check hands back: findings, how they were measured, and digests of what was read."""

    findings: tuple[Finding, ...]
    method: Method
    digests: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The record that lets somebody else repeat the run."""

    tool: str
    command: str
    policy_name: str
    policy_sha256: str
    policy_text: str
    seed: int
    device: str
    started: str
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    platform: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings of one run. An empty report never passes."""

    findings: tuple[Finding, ...] = ()
    methods: tuple[Method, ...] = ()
    warnings: tuple[str, ...] = ()
    run: Run | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings; PASS needs at least one passed limit.

        >>> Report().verdict
        <Verdict.NOT_MEASURED: 'not-measured'>
        """
        seen = {finding.verdict for finding in self.findings}
        if Verdict.FAIL in seen:
            return Verdict.FAIL
        if Verdict.ERROR in seen:
            return Verdict.ERROR
        if any(finding.blocks for finding in self.findings):
            return Verdict.INCONCLUSIVE
        for verdict in (Verdict.PASS, Verdict.WAIVED, Verdict.MEASURED):
            if verdict in seen:
                return verdict
        return Verdict.NOT_MEASURED

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASS

    @property
    def counts(self) -> Counter[Verdict]:
        return Counter(finding.verdict for finding in self.findings)


def by_urgency(findings: Iterable[Finding]) -> list[Finding]:
    """Broken limits first, the most severe on top; otherwise in the order of the policy."""
    order = [
        Verdict.FAIL,
        Verdict.ERROR,
        Verdict.INCONCLUSIVE,
        Verdict.NOT_MEASURED,
        Verdict.WAIVED,
        Verdict.PASS,
        Verdict.MEASURED,
    ]
    return sorted(
        findings,
        key=lambda finding: (order.index(finding.verdict), SEVERITIES.index(finding.severity)),
    )
