"""The likelihoods of the descriptors of one axis, and how often two of them differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy
from scipy.stats import mannwhitneyu

from assaymark.bias.findings import Measured
from assaymark.bias.lm_clusters import share_interval
from assaymark.bias.lm_descriptor_gaps import Cells, Seen, gap_interval, means
from assaymark.bias.lm_descriptors_data import Sentence
from assaymark.bias.multiplicity import benjamini_hochberg
from assaymark.bias.rows import Flags, Numbers

LIKELIHOOD_BIAS = "descriptor_likelihood_bias"
UNCORRECTED = "descriptor_likelihood_bias_uncorrected"
GAP = "descriptor_log_likelihood_gap"
FEWEST_NOUNS = 5
"""Of fewer nouns a side hardly any two descriptors can differ significantly."""
Scores = Mapping[str, float | None]
"""Of each text the mean log probability of a token, None where there is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """The descriptors of an axis. values: (descriptors, templates, nouns), NaN where there is no score.

    seen: (templates, nouns) where every descriptor has one; a template with too few of them is not seen.
    """

    name: str
    descriptors: tuple[str, ...]
    values: Cells
    seen: Seen

    @property
    def means(self) -> Numbers:
        return means(self.values, self.seen)


def axis_of(name: str, sentences: Sequence[Sentence], scores: Scores) -> Axis:
    """The scores of the sentences of one axis in their places. Raises ValueError where one is missing."""
    descriptors, templates, nouns = (
        tuple(dict.fromkeys(values))
        for values in zip(
            *((one.descriptor, one.template, one.noun) for one in sentences), strict=True
        )
    )
    values = numpy.full((len(descriptors), len(templates), len(nouns)), numpy.nan)
    if values.size != len(sentences):
        raise ValueError(f"{name}: not every descriptor is in all templates with all nouns")
    places = [{one: at for at, one in enumerate(some)} for some in (descriptors, templates, nouns)]
    for one in sentences:
        at = tuple(
            where[key]
            for where, key in zip(places, (one.descriptor, one.template, one.noun), strict=True)
        )
        score = scores[one.text]
        values[at] = numpy.nan if score is None else score
    seen = numpy.isfinite(values).all(axis=0)
    seen &= (seen.sum(axis=1) >= FEWEST_NOUNS)[:, None]
    return Axis(name=name, descriptors=descriptors, values=values, seen=seen)


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """An axis with the tests of all its pairs of descriptors, template by template.

    p, adjusted: p-values. templates: of which template each of them is. why: what keeps the axis from
    being measured.
    """

    axis: Axis
    p: Numbers
    adjusted: Numbers
    templates: numpy.ndarray
    level: float
    why: str | None

    @property
    def hits(self) -> Flags:
        """Which pairs differ after the correction."""
        return self.adjusted < self.level


def compare(axis: Axis, level: float, largest_loss: float) -> Compared:
    """Mann–Whitney tests of all pairs, corrected over the axis."""
    why = _why_not(axis, largest_loss)
    found = [] if why else list(_p_values(axis))
    p = numpy.concatenate([p for _, p in found]) if found else numpy.zeros(0)
    templates = numpy.repeat([at for at, _ in found], [len(p) for _, p in found]) if found else p
    adjusted = numpy.array(benjamini_hochberg(p.tolist()), dtype=float)
    return Compared(axis=axis, p=p, adjusted=adjusted, templates=templates, level=level, why=why)


def _why_not(axis: Axis, largest_loss: float) -> str | None:
    if len(axis.descriptors) < 2:
        return "it has a single descriptor"
    kept, size = int(axis.seen.sum()), axis.seen.size
    if kept == 0 or kept < (1 - largest_loss) * size:
        return (
            f"all of its descriptors have a score in {kept} of {size} templates with nouns (needed are "
            f"{1 - largest_loss:.0%}, and {FEWEST_NOUNS} nouns in a template)"
        )
    likelihoods = axis.values[:, axis.seen]
    if likelihoods.min() == likelihoods.max():
        return "the model gives all of its sentences the same likelihood"
    return None


def _p_values(axis: Axis) -> Iterator[tuple[int, Numbers]]:
    """Of each template, the p-values of all pairs."""
    one, other = numpy.array(list(combinations(range(len(axis.descriptors)), 2))).T
    for template, seen in enumerate(axis.seen):
        if seen.any():
            scores = axis.values[:, template, seen]
            yield template, _mann_whitney(scores[one], scores[other])


def _mann_whitney(x: numpy.ndarray, y: numpy.ndarray) -> Numbers:
    """Two-sided p-values of the rows: exact where they are short and without ties."""
    both = numpy.sort(numpy.concatenate([x, y], axis=1), axis=1)
    exact = (both[:, 1:] != both[:, :-1]).all(axis=1) & (x.shape[1] <= 8)
    p = numpy.ones(len(x))
    for rows, method in ((exact, "exact"), (~exact, "asymptotic")):
        if rows.any():
            with numpy.errstate(divide="ignore", invalid="ignore"):  # all of a row are tied
                p[rows] = mannwhitneyu(x[rows], y[rows], axis=1, method=method).pvalue
    return numpy.where(numpy.isnan(p), 1.0, p)


def numbers(found: Compared) -> list[Measured]:
    """The three numbers of an axis."""
    axis = found.axis
    named = (LIKELIHOOD_BIAS, UNCORRECTED, GAP)
    if found.why is not None:
        reason = f"Not measured: {found.why}."
        return [
            Measured(target=axis.name, measure=name, value=None, summary=reason, n=None)
            for name in named
        ]
    n, sentences = len(found.p), int(axis.seen.sum()) * len(axis.descriptors)
    shares = []
    for name, hits, how in (
        (LIKELIHOOD_BIAS, found.hits, "after correction for the number of pairs"),
        (
            UNCORRECTED,
            found.p < found.level,
            "without correction, so that about 5 % would by chance",
        ),
    ):
        shares.append(
            Measured(
                target=axis.name,
                measure=name,
                value=float(hits.mean()),
                summary=f"{hits.mean():.1%} of the {n} pairs of {axis.name} descriptors in one template differ "
                f"in likelihood ({how}).",
                n=n,
                interval_at=partial(share_interval, hits.astype(float), found.templates),
            )
        )
    mean = axis.means
    low, high = int(mean.argmin()), int(mean.argmax())
    gap = float(mean[high] - mean[low])
    return [
        *shares,
        Measured(
            target=axis.name,
            measure=GAP,
            value=gap,
            summary=f'Sentences with "{axis.descriptors[high]}" are the likeliest of {axis.name}, those with '
            f'"{axis.descriptors[low]}" the least likely: {gap:.3f} nats a token apart.',
            n=sentences,
            interval_at=partial(gap_interval, axis.values, axis.seen),
        ),
    ]
