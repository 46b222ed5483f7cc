"""Whether the statistics of a bias audit keep their promises, beside those of two other tools.

Everything is simulated, so that the truth is known. Takes some three minutes of one CPU; no argument.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy
from scipy.stats import binom

from assaymark.bias.codes import Column
from assaymark.bias.differences import Difference, differences
from assaymark.bias.gaps import difference_interval
from assaymark.bias.multiplicity import FALSE_DISCOVERY_LEVEL
from assaymark.bias.rows import Predictions
from assaymark.bias.slice_results import Search, Slice
from assaymark.bias.slices import find_slices
from assaymark.reports.intervals import wilson

Random = numpy.random.Generator
RUNS = 500
FAIR = (5, 30)
"""Groups, and rows in each, of the fair models."""
PLANTED = {"c1": "1", "c2": "2"}


@dataclass(frozen=True)
class Line:
    """A line of the result; low and high: the goal, None where there is none."""

    what: str
    ours: float
    low: float | None
    high: float | None
    theirs: str = ""

    def __str__(self) -> str:
        goal, kept = "", ""
        if self.low is not None and self.high is not None:
            goal = f"{self.low:g} to {self.high:g}" if self.low else f"at most {self.high:g}"
            kept = "yes" if self.low <= round(self.ours, 3) <= self.high else "NO"
        return f"| {self.what} | {self.ours:.3f} | {self.theirs} | {goal} | {kept} |"


def column(name: str, codes: numpy.ndarray, size: int) -> Column:
    return Column(name=name, names=tuple(map(str, range(size))), codes=codes.astype(numpy.int32))


def by_argsort(p: numpy.ndarray) -> numpy.ndarray:
    """Giskard 2.16 (performance_bias_detector.py): an argsort in the place of ranks."""
    below = p[p <= (p.argsort() + 1) / len(p) * FALSE_DISCOVERY_LEVEL]
    return p <= below.max() if len(below) else numpy.zeros(len(p), dtype=bool)


def false_share(chosen: Iterable[bool], false: Iterable[bool]) -> float:
    pairs = [wrong for here, wrong in zip(chosen, false, strict=True) if here]
    return sum(pairs) / max(len(pairs), 1)


def searches(excess: float, seed: int) -> list[Search]:
    """Eight columns; in one of 12 rows losses are so much more frequent than elsewhere (0.15)."""
    random = numpy.random.default_rng(seed)
    found = []
    for run in range(RUNS):
        sizes = (2, 3, 4, 5, 5, 6, 8, 4)
        columns = {
            f"c{i}": column(f"c{i}", random.integers(0, size, 4000), size)
            for i, size in enumerate(sizes)
        }
        inside = (columns["c1"].codes == 1) & (columns["c2"].codes == 2)
        loss = random.random(4000) < 0.15 + excess * inside
        found.append(find_slices(columns, loss, min_size=30, seed=run))
    return found


def is_false(one: Slice) -> bool:
    """Neither inside the planted slice nor around it: its columns say nothing about a loss."""
    said = dict(one.conditions)
    known = PLANTED.keys() & said.keys()
    return not known or any(said[name] != PLANTED[name] for name in known)


def of_slices() -> list[Line]:
    lines = []
    noise = searches(0, 0)
    share = numpy.mean([bool(one.confirmed) for one in noise])
    lines.append(Line("noise: searches with a confirmed slice (Holm)", float(share), 0, 0.06))
    share = numpy.mean([bool(one.likely) for one in noise])
    theirs = numpy.mean([any(argsort_of(one.tested)) for one in noise])
    lines.append(
        Line("noise: false discovery rate of slices", float(share), 0, 0.11, f"{theirs:.3f}")
    )
    for excess in (0.1, 0.2):
        found = searches(excess, 1)
        ours = numpy.mean(
            [false_share((o in s.likely for o in s.tested), map(is_false, s.tested)) for s in found]
        )
        theirs = numpy.mean(
            [false_share(argsort_of(s.tested), map(is_false, by_name(s.tested))) for s in found]
        )
        what = f"a planted excess of {excess:g}"
        lines.append(Line(f"{what}: false discovery rate", float(ours), 0, 0.11, f"{theirs:.3f}"))
        exact = numpy.mean([any(dict(o.conditions) == PLANTED for o in s.confirmed) for s in found])
        lines.append(Line(f"{what}: confirmed by its exact name", float(exact), None, None))
    return lines


def by_name(tested: Iterable[Slice]) -> list[Slice]:
    return sorted(tested, key=lambda one: one.conditions)


def argsort_of(tested: Iterable[Slice]) -> list[bool]:
    p = numpy.array([one.p for one in by_name(tested) if one.p is not None])
    found: list[bool] = by_argsort(p).tolist()
    return found


def of_differences() -> list[Line]:
    """Six attributes of six groups; one group of the first has another selection rate."""
    random = numpy.random.default_rng(2)
    ours, theirs, claims = [], [], []
    for _ in range(RUNS):
        n = 1500
        groups = {f"a{i}": column(f"a{i}", random.integers(0, 6, n), 6) for i in range(6)}
        label = random.random(n) < 0.4
        chance = 0.3 + 0.3 * label + 0.2 * (groups["a0"].codes == 0)
        data = Predictions(
            name="simulated",
            groups=groups,
            note="",
            label=label,
            prediction=random.random(n) < chance,
            score=None,
        )
        found = sorted(differences(data), key=lambda one: (one.attribute, one.group, one.rate))
        false = [one.attribute != "a0" for one in found]
        ours.append(false_share((one.likely for one in found), false))
        theirs.append(false_share(by_argsort(p_of(found)), false))
        claims.append(any(one.claimed and wrong for one, wrong in zip(found, false, strict=True)))
    rate = float(numpy.mean(theirs))
    return [
        Line("table of groups: false discovery rate", float(numpy.mean(ours)), 0, 0.11, f"{rate:.3f}"),
        Line("table of groups: audits with a false claim (Holm)", float(numpy.mean(claims)), 0, 0.06),
    ]  # fmt: skip


def p_of(found: list[Difference]) -> numpy.ndarray:
    return numpy.array([1.0 if one.p is None else one.p for one in found])


def coverage_of_rates() -> list[Line]:
    """Every outcome counted with its probability."""
    shares = []
    for n in (30, 50, 100, 1000):
        intervals = [wilson(hits, n) for hits in range(n + 1)]
        for rate in (0.05, 0.1, 0.3, 0.5, 0.8, 0.95):
            chance = binom.pmf(numpy.arange(n + 1), n, rate)
            holds = [one is not None and one.low <= rate <= one.high for one in intervals]
            shares.append(float(chance[holds].sum()))
    what = "coverage of 95 % intervals of rates (24 settings, n ≥ 30)"
    return [
        Line(f"{what}: mean", sum(shares) / len(shares), 0.93, 0.97),
        Line(f"{what}: least", min(shares), 0.93, 0.97),
    ]


GAPS: tuple[tuple[tuple[float, ...], tuple[int, ...]], ...] = (
    ((0.5, 0.3), (30, 30)),
    ((0.5, 0.3), (40, 60)),
    ((0.1, 0.25), (200, 150)),
    ((0.5, 0.3, 0.4), (100, 50, 80)),
    ((0.9, 0.6, 0.6, 0.6, 0.6), (60,) * 5),
    ((0.2, 0.3, 0.4, 0.5, 0.6), (200,) * 5),
)


def coverage_of_gaps() -> list[Line]:
    random = numpy.random.default_rng(4)
    shares = []
    for rates, sizes in GAPS:
        gap = max(rates) - min(rates)
        draws = random.binomial(sizes, rates, size=(2000, len(sizes))).tolist()
        intervals = [difference_interval([(hits, sizes)], 0.95) for hits in draws]
        shares.append(numpy.mean([one.low <= gap <= one.high for one in intervals]))
    what = "coverage of 95 % intervals of gaps (6 settings, n ≥ 30 a group)"
    return [
        Line(f"{what}: mean", float(numpy.mean(shares)), 0.93, 1),
        Line(f"{what}: least", min(map(float, shares)), 0.93, 1),
    ]


def false_alarms() -> list[Line]:
    """A model that is the same to all groups: how often is the lower end of the gap above 0?"""
    groups, n = FAIR
    random = numpy.random.default_rng(5)
    draws = random.binomial(n, 0.4, size=(2000, groups)).tolist()
    ours = [difference_interval([(hits, [n] * groups)], 0.95).low > 0 for hits in draws]
    theirs = sum(fairlearn_low(hits, n, run) > 0 for run, hits in enumerate(draws[:40]))
    what = f"fair model, {groups} groups of {n}: gaps said to exist"
    return [Line(what, float(numpy.mean(ours)), 0, 0.06, f"{theirs / 40:.3f} (fairlearn, 40 runs)")]


def fairlearn_low(hits: list[int], n: int, run: int) -> float:
    """The lower end of fairlearn's 95 % bootstrap interval of the gap in selection rates."""
    from fairlearn.metrics import MetricFrame, selection_rate

    decided = numpy.concatenate([numpy.arange(n) < one for one in hits]).astype(int)
    frame = MetricFrame(
        metrics=selection_rate,
        y_true=decided,
        y_pred=decided,
        sensitive_features=numpy.repeat([f"g{i}" for i in range(len(hits))], n),
        n_boot=200,
        ci_quantiles=[0.025, 0.975],
        random_state=run,
    )
    return float(frame.difference_ci()[0])


PARTS: tuple[Callable[[], list[Line]], ...] = (
    of_slices,
    of_differences,
    coverage_of_rates,
    coverage_of_gaps,
    false_alarms,
)


def main() -> None:
    print("| promise | ours | another tool | goal | kept |\n|---|---|---|---|---|")
    for part in PARTS:
        for line in part():
            print(line, flush=True)
    print(
        "\nAnother tool: the rule of Giskard 2.16 on our p-values (false discovery rates), fairlearn's "
        "bootstrap (gaps)."
    )


if __name__ == "__main__":
    main()
