"""What is measured beside groups: scores, growth, slices, differences, impact ratios, individuals.

A part imports what computes it when it is asked for, so that an audit that does not want it starts fast.
"""

from collections.abc import Callable

from assaymark.bias.findings import Measured, findings
from assaymark.bias.wanted import Part, Request


def _scores(request: Request) -> Part:
    """Numbers of groups that are no proportions, and their largest differences."""
    from assaymark.bias.score_findings import SOURCES, STEPS, score_findings

    wanted = request.wanted
    found = [
        finding
        for attribute in request.data.groups
        for finding in score_findings(
            request.check,
            request.data,
            attribute,
            gates=request.gates_of(attribute),
            tags=request.tags,
            min_group_size=wanted.min_group_size,
            missing_apart=wanted.missing_apart,
            seed=request.seed,
        )
    ]
    return Part(findings=found, steps=STEPS, sources=SOURCES)


def _differences(request: Request) -> Part:
    """Every group against everybody else, corrected for having looked so often."""
    from assaymark.bias.differences import differences, table_of

    found = differences(request.data, min_group_size=request.wanted.min_group_size)
    standing = sum(one.claimed for one in found)
    tested = sum(one.p is not None for one in found)
    measured = Measured(
        target=", ".join(request.data.groups),
        measure="significant_differences",
        value=float(standing) if tested else None,
        summary=f"{standing} of {tested} rates of groups differ from those of everybody else by more than "
        "chance explains, at one false claim in twenty audits."
        if tested
        else "Not measured: no rate of a group can be compared with that of everybody else.",
        n=request.data.n,
        evidence=(table_of(found),),
    )
    return Part(
        findings=findings(request.check, measured, (), request.tags),
        steps=(
            "Every rate of every group is tested against all other rows (Fisher's exact test), and the "
            "p-values are corrected for their number: Holm keeps false claims to one in twenty audits, "
            "Benjamini and Hochberg the share of false ones to a tenth.",
        ),
        sources=(
            "Fisher 1935, The Design of Experiments",
            "Holm 1979, Scandinavian Journal of Statistics 6",
            "Benjamini and Hochberg 1995, JRSS B 57",
        ),
    )


def _entropy(request: Request) -> Part:
    """How unevenly benefits fall on people."""
    from assaymark.bias.entropy_findings import SOURCES, entropy_findings

    found = entropy_findings(
        request.check, request.data, gates=request.gates_of_all, tags=request.tags
    )
    return Part(
        findings=found,
        steps=(
            "A decision's benefit to a person is decision − label + 1: 0, 1 or 2. The generalized entropy "
            "index (α = 2) and the Theil index (α = 1) say how unevenly benefits fall, 0 when evenly.",
        ),
        sources=SOURCES,
    )


def _consistency(request: Request) -> Part | None:
    """Whether people who are alike are decided alike."""
    wanted = request.wanted
    if wanted.neighbors is None or wanted.features is None:
        return Part(findings=(), not_tested=("whether people who are alike are decided alike",))
    from assaymark.bias.individual_findings import SOURCES, consistency_findings

    found = consistency_findings(
        request.check,
        request.data,
        wanted.features,
        neighbors=wanted.neighbors,
        gates=request.gates_of_all,
        tags=request.tags,
        seed=request.seed,
    )
    return Part(
        findings=found,
        steps=(
            f"Consistency: 1 less how far each decision is from the mean of its {wanted.neighbors} nearest "
            "neighbours by features, which are standardised; the row itself is none of them.",
        ),
        sources=SOURCES[:2],
    )


def _flips(request: Request) -> Part:
    """Whether the model decides otherwise when only the sensitive value is another."""
    flips, features = request.wanted.flips, request.wanted.features
    if flips is None or features is None:
        return Part(findings=(), not_tested=("decisions under another sensitive value",))
    from assaymark.bias.individual_findings import SOURCES, flip_findings

    found = [
        finding
        for column in flips.columns
        for finding in flip_findings(
            request.check,
            flips.model,
            features,
            (column,),
            flips.positive,
            flips.threshold,
            gates=request.gates_of(column),
            tags=request.tags,
            weight=request.data.weight,
        )
    ]
    return Part(
        findings=found,
        steps=(
            "Attribute flip: each row is asked again with every other value of the sensitive column, "
            "all else left as it is. That is no causal counterfactual, since proxies keep their values.",
        ),
        sources=SOURCES[2:],
    )


def _slices(request: Request) -> Part:
    """Where the model serves worst."""
    options = request.wanted.slices
    if options is None:
        return Part(findings=(), not_tested=("slices by other columns",))
    from assaymark.bias.slice_check import SOURCES, STEPS, slice_findings

    found = slice_findings(
        request.check,
        request.data,
        options.columns,
        loss=options.loss,
        depth=options.depth,
        min_size=options.min_size,
        gates=request.gates_of_all,
        tags=request.tags,
        seed=request.seed,
    )
    return Part(findings=found, steps=STEPS, sources=SOURCES)


def _impact(request: Request) -> Part | None:
    """The tables of New York City's Local Law 144."""
    options = request.wanted.impact
    if options is None:
        return None
    from assaymark.bias.impact_findings import impact_method, impact_ratio_findings

    found = impact_ratio_findings(
        request.check,
        request.data,
        sex=options.sex,
        race=options.race,
        scoring=options.scoring,
        unknown=options.unknown,
        exclude_below=options.exclude_below,
        gates=request.gates,
        tags=request.tags,
    )
    method = impact_method(request.check, request.data, scoring=options.scoring)
    return Part(
        findings=found,
        steps=method.steps[1:],
        sources=method.sources,
        not_tested=method.not_tested,
    )


def _growth(request: Request) -> Part:
    """Whether gaps have grown since the accepted run."""
    accepted = request.wanted.accepted
    if accepted is None:
        return Part(findings=(), not_tested=("growth of gaps since an accepted run",))
    from assaymark.bias.paired_findings import growth_findings

    found = [
        finding
        for attribute in request.data.groups
        for finding in growth_findings(
            request.check,
            request.data,
            accepted,
            attribute,
            gates=request.gates_of(attribute),
            tags=request.tags,
            min_group_size=request.wanted.min_group_size,
            missing_apart=request.wanted.missing_apart,
        )
    ]
    return Part(
        findings=found,
        steps=(
            "Growth of a gap: the gap now less that of the accepted decisions on the same rows. Its interval "
            "pairs the two decisions of each row, and holds for all pairs of groups of both runs at once.",
        ),
        sources=("McNemar 1947, Psychometrika 12",),
    )


PARTS: tuple[Callable[[Request], Part | None], ...] = (
    _scores,
    _growth,
    _slices,
    _differences,
    _impact,
    _flips,
    _consistency,
    _entropy,
)
"""In the order in which a reader meets them."""
