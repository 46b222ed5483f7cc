"""An arms race as findings: the detector's AUC on every generation, and what each attack cost."""

from assaymark.provenance.detect_race import Race
from assaymark.reports.model import (
    CheckResult,
    Evidence,
    Finding,
    Method,
    Plot,
    Point,
    Series,
    Table,
)


def result_of(check: str, target: str, found: Race) -> CheckResult:
    """Both curves; the numbers are those after the last round."""
    return CheckResult(
        findings=(
            Finding(
                check=check,
                target=target,
                measure="weakest_generation_auc",
                summary="The last detector's lowest AUC over all generations of the race.",
                value=found.weakest,
                n=len(found.rounds),
                evidence=_evidence(found),
            ),
            Finding(
                check=check,
                target=target,
                measure="attacker_cost_db",
                summary=_cost_summary(found),
                value=found.last_cost,
                n=len(found.rounds),
            ),
        ),
        method=Method(
            check=check,
            title=f"Arms race of {len(found.rounds)} rounds",
            steps=(
                f"The detector's AUC on the first generation was {found.start:.3f} at "
                f"{found.start_psnr:.1f} dB.",
                "Each round tunes a generator against the newest detector and perturbs fakes pixel by "
                "pixel, then trains the detector on every generation so far.",
                "An attacker stops where the detector is no better than a coin on his own photographs "
                "(won): his least damage that wins counts, else that of the attempt that got furthest. The "
                "generator's damage is against as many steps of training without a detector.",
                "AUCs are of photographs from sources that neither side trained with.",
                "Hardened weights are kept only where the AUC on clean files does not fall by more than "
                f"{found.settings['tolerance']:g}.",
            ),
            not_tested=(
                "generators other than the race's own: measure the weights with detect evaluate",
            ),
        ),
    )


def _cost_summary(found: Race) -> str:
    did = "What the last round cost the tuned generator: decibels of PSNR to the photographs."
    if not found.rounds or found.rounds[-1].costs[0].won:
        return did
    reached = found.rounds[-1].costs[0].reached
    return f"{did} It did not win: its best attempt left the detector an AUC of {reached:.3f}."


def _evidence(found: Race) -> tuple[Evidence, ...]:
    return (_detector(found), _attackers(found), _table(found))


def _detector(found: Race) -> Plot:
    lines = {
        "under attack": [(each.number, each.attacked) for each in found.rounds],
        "after hardening": [(each.number, each.hardened) for each in found.rounds],
        "lowest over all generations": [
            (each.number, min(each.generations)) for each in found.rounds
        ],
        "the same after JPEG 75": [(each.number, min(each.resaved)) for each in found.rounds],
    }
    return Plot(
        title="The detector's AUC, round by round",
        x_label="round",
        y_label="AUC",
        series=tuple(
            Series(label=label, points=tuple(Point(x=float(x), y=y) for x, y in points))
            for label, points in lines.items()
        ),
    )


def _attackers(found: Race) -> Plot:
    names = [cost.attacker for cost in found.rounds[0].costs] if found.rounds else []
    return Plot(
        title="What the attacks cost, round by round",
        x_label="round",
        y_label="decibels of PSNR",
        series=tuple(
            Series(
                label=name,
                points=tuple(
                    Point(x=float(each.number), y=each.costs[place].decibels)
                    for each in found.rounds
                ),
            )
            for place, name in enumerate(names)
        ),
    )


def _table(found: Race) -> Table:
    return Table(
        title="Rounds",
        columns=("round", "attacker", "cost dB", "AUC reached", "won", "PSNR", "steps", "CPU s",
                 "AUC before", "AUC after", "clean AUC fell by", "kept"),
        rows=tuple(
            (
                each.number,
                cost.attacker,
                round(cost.decibels, 3),
                round(cost.reached, 3),
                cost.won,
                round(cost.psnr, 2),
                cost.steps,
                round(cost.seconds, 1),
                each.attacked,
                each.hardened,
                each.clean_fall,
                each.kept,
            )
            for each in found.rounds
            for cost in each.costs
        ),
    )  # fmt: skip
