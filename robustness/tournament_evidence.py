"""The games of a tournament as heat maps, rankings and CSV files."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from assaymark.reports.files import write_atomically
from assaymark.reports.intervals import clopper_pearson
from assaymark.reports.model import Cell, Estimate, Estimates, Evidence, HeatMap, HeatRow, Table
from assaymark.robustness.models import Loaded
from assaymark.robustness.pictures import trio
from assaymark.robustness.tournament import Tournament
from assaymark.robustness.tournament_scores import Games, Matrix, Rank, share_interval

_MEAN, _WORST = "mean of all attacks", "worst case: all attacks at once"


def evidence(
    played: Tournament,
    defenses: Sequence[Loaded],
    classes: Mapping[str, tuple[str, ...]],
    limit: float | None,
) -> tuple[Evidence, ...]:
    """Heat maps first, then rankings, what is missing, signs of hidden gradients, and examples."""
    games = played.games
    pictures = [
        trio(example, classes[one.name], confident=one.access != "labels")
        for one in defenses
        for example in played.examples[one.name]
    ]
    return (
        *heat_maps(games),
        _chart(games, limit),
        *_rankings(games),
        *_missing(played),
        *_signs(played),
        *pictures,
    )


def heat_maps(games: Games) -> tuple[HeatMap, ...]:
    """Accuracy under attacks and under targeted ones, and how often the target class was hit."""
    clean = HeatRow(
        label="no attack",
        cells=tuple(
            _share(name, int(right.sum()) if bool(known.all()) else None, games.n)
            for name, right, known in zip(
                games.defenses, games.clean, games.clean_known, strict=True
            )
        ),
    )
    totals = (_mean_row(games), _worst_row(games))
    maps = []
    untargeted = _rows(games, games.attacks, games.accuracy_on_attacks)
    targeted = _rows(games, games.targeted, games.accuracy_on_targeted_attacks)
    share = "Share of images classified correctly, with 95 % intervals."
    note = (
        f"{share} Weak attacks flatter the mean; the worst case is what all attacks together leave."
    )
    if untargeted:
        maps.append(_map("Accuracy under attacks", games, (clean, *untargeted, *totals), note))
    if targeted:
        title = "Accuracy under targeted attacks"
        if untargeted:
            maps.append(_map(title, games, targeted, share))
        else:
            maps.append(_map(title, games, (clean, *targeted, *totals), note))
        hits = _rows(games, games.targeted, games.hit_target_class)
        maps.append(
            _map(
                "Taken to the target class",
                games,
                hits,
                "Share of images answered as their target class: high is good for the attacker.",
            )
        )
    return tuple(maps)


def write_matrices(folder: Path, games: Games) -> None:
    """The files of the NIPS 2017 toolkit, and worst_case_ranking.csv beside them.

    What was not measured is an empty cell. Raises InputError where the folder cannot be written.
    """
    matrices = {
        "accuracy_on_attacks": (games.attacks, games.accuracy_on_attacks),
        "accuracy_on_targeted_attacks": (games.targeted, games.accuracy_on_targeted_attacks),
        "hit_target_class": (games.targeted, games.hit_target_class),
    }
    for name, (attacks, matrix) in matrices.items():
        rows: list[list[object]] = [["", *games.defenses]]
        rows += [[label, *row] for label, row in zip(attacks, matrix, strict=True)]
        write_atomically(folder / f"{name}.csv", _csv(rows))
    rankings = {
        "worst_case": ("DefenseName", games.worst_case_ranking()),
        "defense": ("DefenseName", games.defense_ranking()),
        "attack": ("AttackName", games.attack_ranking()),
        "targeted_attack": ("AttackName", games.targeted_attack_ranking()),
    }
    for name, (title, ranks) in rankings.items():
        rows = [[title, "Score"]]
        rows += [[rank.name, None if rank.place is None else rank.score] for rank in ranks]
        write_atomically(folder / f"{name}_ranking.csv", _csv(rows))


def _harmless(cell: object) -> object:
    """A name that a spreadsheet would run as a formula is marked as text (OWASP, CSV injection)."""
    formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{cell}" if formula else cell


def _csv(rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return stream.getvalue()


def _map(title: str, games: Games, rows: Sequence[HeatRow], note: str) -> HeatMap:
    return HeatMap(
        title=title,
        rows_are="attack",
        columns_are="defense",
        columns=games.defenses,
        rows=tuple(rows),
        note=note,
    )


def _rows(games: Games, attacks: tuple[str, ...], matrix: Matrix) -> tuple[HeatRow, ...]:
    return tuple(
        HeatRow(
            label=label,
            cells=tuple(
                _share(name, hits, games.n) for name, hits in zip(games.defenses, row, strict=True)
            ),
        )
        for label, row in zip(attacks, matrix, strict=True)
    )


def _share(label: str, hits: int | None, n: int) -> Estimate:
    interval = None if hits is None else clopper_pearson(hits, n)
    if hits is None or interval is None:
        return Estimate(label=label, value=None, n=n)
    return Estimate(label=label, value=hits / n, low=interval.low, high=interval.high, n=n)


def _worst_row(games: Games) -> HeatRow:
    done = games.complete.all(0) & games.clean_known.all(1)
    cells = tuple(
        _share(name, int(standing.sum()) if bool(known) else None, games.n)
        for name, standing, known in zip(games.defenses, games.standing, done, strict=True)
    )
    return HeatRow(label=_WORST, cells=cells, total=True)


def _mean_row(games: Games) -> HeatRow:
    trials = len(games.known)
    cells = []
    for name, points, done in zip(
        games.defenses, games.defense_points, games.complete.all(0), strict=True
    ):
        interval = share_interval(points, trials) if bool(done) else None
        cells.append(
            Estimate(
                label=name,
                value=None if interval is None else float(points.sum()) / (trials * games.n),
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                n=games.n,
            )
        )
    return HeatRow(label=_MEAN, cells=tuple(cells), total=True)


def _chart(games: Games, limit: float | None) -> Estimates:
    """Worst case beside the mean, defense by defense."""
    worst, mean = _worst_row(games), _mean_row(games)
    return Estimates(
        title="Worst case beside the mean",
        estimates=tuple(
            Estimate(
                label=f"{cell.label}, {word}",
                value=cell.value,
                low=cell.low,
                high=cell.high,
                n=cell.n,
            )
            for pair in zip(worst.cells, mean.cells, strict=True)
            for word, cell in zip(("worst case", "mean"), pair, strict=True)
        ),
        limit=limit,
    )


def _rankings(games: Games) -> list[Table]:
    titles = [
        ("Defenses by their worst case", "images that stand", games.worst_case_ranking()),
        ("Defenses by their score", "correct answers", games.defense_ranking()),
        ("Attacks by their score", "answers not correct", games.attack_ranking()),
        ("Targeted attacks by their score", "target class hit", games.targeted_attack_ranking()),
    ]
    return [_ranking(title, unit, ranks) for title, unit, ranks in titles if ranks]


def _ranking(title: str, unit: str, ranks: tuple[Rank, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for rank in ranks:
        interval = rank.interval
        spread = None if interval is None else f"[{interval.low:.3f}, {interval.high:.3f}]"
        against = ""
        if rank.p is not None:
            against = f"{'a tie' if rank.tie else 'ahead'} (p = {rank.p:.2g})"
        if rank.place is None:
            against = "not placed: not every game was measured"
        placed = rank.place is not None
        score = rank.score if placed else None
        share = rank.score / rank.most if placed else None
        rows.append((rank.place, rank.name, score, rank.most, share, spread, against))
    return Table(
        title=title,
        columns=("place", "name", unit, "of", "share", "95 % interval", "against the next"),
        rows=tuple(rows),
        note="A tie is a pair of neighbours that these images do not tell apart: an exact sign test over "
        "images, p ≥ 0.05, uncorrected for several comparisons."
        if len(ranks) > 1
        else "",
    )


def _missing(played: Tournament) -> list[Table]:
    if not played.missing:
        return []
    return [
        Table(
            title="Not measured",
            columns=("attack", "defense", "images", "why"),
            rows=tuple(
                (
                    missing.attack or "no attack",
                    missing.defense or "every defense",
                    missing.images,
                    missing.reason,
                )
                for missing in played.missing
            ),
            note="Nobody has points from these images: neither the attack nor the defense.",
        )
    ]


def _signs(played: Tournament) -> list[Table]:
    rows = tuple(
        (name, sign.name, "yes" if sign.found else "no", sign.measured)
        for name, masking in played.masking.items()
        for sign in masking.signs
    )
    if not rows:
        return []
    return [
        Table(
            title="Signs of a hidden gradient",
            columns=("defense", "sign", "found", "measured"),
            rows=rows,
            note="Where one is found, a good accuracy of that defense is not to be relied on.",
        )
    ]
