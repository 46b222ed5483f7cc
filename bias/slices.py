"""The worst-served slices of the rows: found in one half, confirmed in the other.

What looks worst among thousands of slices looks worse than it is. So a random half of the rows is
searched, and the few slices that come out are tested on the other half, which the search never saw:
their rates, intervals and p-values there are unbiased.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy

from assaymark.bias.codes import Column
from assaymark.bias.exact import effective, fisher_greater
from assaymark.bias.halves import halves
from assaymark.bias.multiplicity import benjamini_hochberg, holm
from assaymark.bias.rows import Flags, Numbers
from assaymark.bias.slice_results import Search, Slice
from assaymark.bias.slice_search import (
    Candidate,
    Conditions,
    Half,
    Tally,
    distinct,
    ranked,
)
from assaymark.reports.errors import InputError

_MANY_VALUES = 1000
"""Of one column: pairs of them are counted all at once."""


def find_slices(
    columns: Mapping[str, Column],
    loss: Flags,
    *,
    weight: Numbers | None = None,
    depth: int = 2,
    min_size: int = 50,
    most: int = 50,
    seed: int = 0,
) -> Search:
    """The slices in which a loss is more frequent, each with its test on rows held out.

    columns: codes of shape (rows,), numbers in bands (`bands.quantile_bands`). loss, of the same shape: what
    went wrong for each row. weight: at least 0 and finite. depth: the most conditions of a slice.
    min_size: the rows that a slice and its complement have in the half that is searched. most: how
    many slices are tested at most. The halves depend on the seed and on what is in the rows, not on
    their order. Raises InputError for columns of another length or with too many values.
    """
    _check(columns, loss, weight, depth, min_size)
    ordered = [columns[name] for name in sorted(columns)]
    whole = Half(
        codes=[column.codes for column in ordered],
        sizes=[len(column.names) for column in ordered],
        loss=loss,
        weight=None if weight is None else weight / weight.max(initial=1e-300),
    )
    if weight is not None:
        whole = whole.part(weight > 0)
    content = [*whole.codes, whole.loss, *([] if whole.weight is None else [whole.weight])]
    searched, held_out = (whole.part(places) for places in halves(content, seed))
    why = _impossible(searched, held_out, min_size)
    found, looked = ([], 0) if why else ranked(searched, depth, min_size)
    if not (why or looked):
        why = f"no slice and its complement have {min_size} rows each in the half that is searched"
    candidates = distinct(searched, found, min_size, most)
    return Search(
        rows=len(whole.loss),
        searched=len(searched.loss),
        held_out=len(held_out.loss),
        looked=looked,
        rate=_rate(held_out.total()),
        min_size=min_size,
        tested=_adjusted(_slices(held_out, ordered, candidates)),
        why=why,
    )


def _check(
    columns: Mapping[str, Column],
    loss: Flags,
    weight: Numbers | None,
    depth: int,
    min_size: int,
) -> None:
    if depth < 1 or min_size < 1:
        raise InputError(
            f"slices of depth {depth} and at least {min_size} rows: expected at least 1 of both"
        )
    lengths = {"weight": len(loss) if weight is None else len(weight)}
    lengths |= {f'column "{name}"': len(column.codes) for name, column in columns.items()}
    for what, length in lengths.items():
        if length != len(loss):
            raise InputError(f"{what} has {length} rows, the loss {len(loss)}: expected as many")
    for name, column in columns.items():
        if len(column.names) > _MANY_VALUES:
            raise InputError(
                f'column "{name}" has {len(column.names)} different values: expected at most '
                f"{_MANY_VALUES} to find slices; put it in bands, or leave it out"
            )


def _impossible(searched: Half, held_out: Half, min_size: int) -> str | None:
    """Why no search can say anything."""
    rows = len(searched.loss) + len(held_out.loss)
    if max(searched.sizes, default=0) < 2:
        return "no column with two values or more to search in"
    if rows < 4 * min_size:
        return f"{rows} rows: expected at least {4 * min_size} for slices of {min_size} rows in either half"
    for half, what in ((searched, "searched"), (held_out, "held out")):
        losses = int(half.loss.sum())
        if losses in (0, len(half.loss)):
            return f"{losses} losses in {len(half.loss)} rows {what}: nothing tells slices apart"
    return None


def _slices(held_out: Half, columns: list[Column], candidates: list[Candidate]) -> list[Slice]:
    """Each candidate on the rows held out, with its p-value."""
    free = numpy.ones(len(held_out.loss), dtype=numpy.bool_)
    found, own = [], []
    for candidate in candidates:
        inside = held_out.rows_of(candidate.conditions)
        found.append(_slice(held_out, columns, candidate, inside))
        own.append(
            (
                *_effective(held_out.total(inside & free)),
                *_effective(held_out.total(~inside & free)),
            )
        )
        free &= ~inside
    whole = [(one.losses, one.cases, one.other_losses, one.other_cases) for one in found]
    p = numpy.maximum(_p_values(whole), _p_values(own))  # NaN where either is
    return [
        replace(one, p=None if numpy.isnan(raw) else float(raw))
        for one, raw in zip(found, p, strict=True)
    ]


def _p_values(counts: list[tuple[int, int, int, int]]) -> numpy.ndarray:
    return fisher_greater(*numpy.array(counts, dtype=numpy.float64).reshape(-1, 4).T)


def _slice(held_out: Half, columns: list[Column], candidate: Candidate, inside: Flags) -> Slice:
    mine, rest = held_out.total(inside), held_out.total(~inside)
    (losses, cases), (other_losses, other_cases) = _effective(mine), _effective(rest)
    return Slice(
        conditions=_words(columns, candidate.conditions),
        rows=int(inside.sum()),
        losses=losses,
        cases=cases,
        rate=_rate(mine),
        other_losses=other_losses,
        other_cases=other_cases,
        other_rate=_rate(rest),
        merged=tuple(_words(columns, one) for one in candidate.merged),
    )


def _words(columns: list[Column], conditions: Conditions) -> tuple[tuple[str, str], ...]:
    return tuple((columns[place].name, columns[place].names[code]) for place, code in conditions)


def _effective(side: Tally) -> tuple[int, int]:
    return effective(float(side.losses[0]), float(side.sums[0]), float(side.squares[0]))


def _rate(side: Tally) -> float | None:
    return float(side.losses[0] / side.sums[0]) if side.sums[0] else None


def _adjusted(slices: list[Slice]) -> tuple[Slice, ...]:
    """With p-values adjusted for all of them; the surest first."""
    p = [one.p for one in slices]
    adjusted = [
        replace(one, holm=family, benjamini_hochberg=discovery)
        for one, family, discovery in zip(slices, holm(p), benjamini_hochberg(p), strict=True)
    ]
    return tuple(sorted(adjusted, key=lambda one: (one.p is None, one.p or 0.0, one.conditions)))
