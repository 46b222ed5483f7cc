"""What detection found, as findings: a limit each, then the files that stand out."""

from collections.abc import Sequence
from pathlib import Path

from assaymark.provenance.check_findings import name
from assaymark.provenance.detect import LEFT_OUT
from assaymark.provenance.detect_drawings import drawings_of
from assaymark.provenance.detection import Detection
from assaymark.provenance.evidence import Evidence, Family, Says
from assaymark.provenance.fuse import Verdict
from assaymark.reports.model import Cell, Finding, Gate, Interval, Table
from assaymark.reports.model import Evidence as Shown

SHOWN = 40  # files with a finding of their own
DRAWN = 8  # of them so many with pictures
NAMED = 6  # detectors that are named in a sentence
_METHOD = "bounds: a file that could not be told counted either way"
_WORDS = {
    "generated": "generated",
    "generated-unmarked": "generated without any machine-readable mark that says so",
    "manipulated": "manipulated",
    "cannot-tell": "such that it cannot be told",
}
MEASURES = {
    "generated_files": "generated",
    "generated_unmarked_files": "generated-unmarked",
    "manipulated_files": "manipulated",
    "undecided_files": "cannot-tell",
}


def is_so(item: Detection, word: str) -> bool | None:
    """Whether a file is what `word` forbids; None where it cannot be told."""
    if word == "cannot-tell":
        return item.verdict is Verdict.CANNOT_TELL
    if word == "generated-unmarked" and item.declared:
        return False
    if item.verdict is Verdict.CANNOT_TELL:
        return None
    if word == "manipulated" and item.verdict is Verdict.NO_SIGN:
        # a file can show no sign of generation while nothing looked for what was changed in it
        return None if item.manipulated_probability is None else False
    wanted = Verdict.MANIPULATED if word == "manipulated" else Verdict.GENERATED
    return item.verdict is wanted


def findings_of(
    check: str,
    found: Sequence[Detection],
    *,
    gates: Sequence[Gate] = (),
    tags: tuple[str, ...] = (),
    root: Path = Path(),
) -> tuple[Finding, ...]:
    """Limits first, then the files, the most suspicious on top; files that cannot be read are errors."""
    findings = [_gate(check, found, gate, tags, root) for gate in gates]
    findings += _unreadable(check, found, tags, root)
    ordered = sorted((item for item in found if not item.problem), key=_suspicion)
    if len(ordered) > 1:
        findings.append(_overview(check, ordered, tags, root))
    for place, item in enumerate(ordered[:SHOWN]):
        findings.append(_of_file(check, item, tags, root, drawn=place < DRAWN))
    return tuple(findings)


def _suspicion(item: Detection) -> tuple[int, float]:
    order = (Verdict.GENERATED, Verdict.MANIPULATED, Verdict.CANNOT_TELL, Verdict.NO_SIGN)
    return order.index(item.verdict), -(item.probability or 0.0)


def _share(found: Sequence[Detection], word: str) -> tuple[float, Interval]:
    """The share that is so, with bounds for what could not be told."""
    answers = [is_so(item, word) for item in found]
    sure, unknown, n = answers.count(True), answers.count(None), len(answers)
    return sure / n, Interval(
        low=sure / n, high=(sure + unknown) / n, confidence=1.0, method=_METHOD
    )


def _gate(
    check: str, found: Sequence[Detection], gate: Gate, tags: tuple[str, ...], root: Path
) -> Finding:
    if gate.metric == "max_probability":
        return _highest(check, found, gate, tags, root)
    word = MEASURES[gate.metric]
    value, interval = _share(found, word)
    so = [item for item in found if is_so(item, word)]
    unknown = [item for item in found if is_so(item, word) is None]
    return Finding(
        check=check,
        target=_targets(so or unknown, root) or files_of(len(found)),
        measure=gate.metric,
        summary=f"{len(so)} of {files_of(len(found))} {'is' if len(so) == 1 else 'are'} {_WORDS[word]}"
        + (f": {_first(so, root)}" if so else "")
        + (f"; of {len(unknown)} it cannot be told: {_first(unknown, root)}" if unknown else "")
        + ".",
        value=value,
        interval=interval,
        n=len(found),
        limit=gate.limit,
        severity=gate.severity,
        references=tags,
    )


def _highest(
    check: str,
    found: Sequence[Detection],
    gate: Gate,
    tags: tuple[str, ...],
    root: Path,
) -> Finding:
    """The highest probability of "generated"; of a file without one it may be anything up to 1.

    So it may where the evidence contradicts itself, whatever its sum.
    """
    known = [item for item in found if item.probability is not None and not _contradicts(item)]
    without = [item for item in found if item.probability is None or _contradicts(item)]
    top = max(known, key=lambda item: item.probability or 0.0, default=None)
    value = None if top is None else top.probability
    interval = None
    if value is not None:
        high = 1.0 if without else value
        interval = Interval(low=value, high=high, confidence=1.0, method=_METHOD)
    summary = (
        "no file has a probability"
        if top is None
        else f"the highest probability is {value:.2f}, of {name(top.path, root)}"
    )
    if without:
        have = "has" if len(without) == 1 else "have"
        summary += (
            f"; {len(without)} of {files_of(len(found))} {have} none: {_first(without, root)}"
        )
    return Finding(
        check=check,
        target=name(top.path, root) if top else files_of(len(found)),
        measure="max_probability",
        summary=f"{summary}.",
        value=value,
        interval=interval,
        n=len(found),
        limit=gate.limit,
        severity=gate.severity,
        references=tags,
    )


def _contradicts(item: Detection) -> bool:
    return item.verdict is Verdict.CANNOT_TELL and bool(item.conflicts)


def _unreadable(
    check: str, found: Sequence[Detection], tags: tuple[str, ...], root: Path
) -> list[Finding]:
    problems = [item for item in found if item.problem]
    if not problems:
        return []
    return [
        Finding(
            check=check,
            target=_targets(problems, root),
            measure="unreadable_files",
            summary=f"{len(problems)} of {files_of(len(found))} cannot be looked at.",
            error=f"{name(problems[0].path, root)}: {problems[0].problem}",
            n=len(found),
            severity="critical",
            references=tags,
        )
    ]


def _of_file(
    check: str, item: Detection, tags: tuple[str, ...], root: Path, *, drawn: bool
) -> Finding:
    """What was found of one file; its number is the probability of what the verdict names."""
    shown: tuple[Shown, ...] = (_table(item), *_left_out(item), *_sum(item))
    manipulated = item.verdict is Verdict.MANIPULATED
    return Finding(
        check=check,
        target=name(item.path, root),
        measure="manipulated_probability" if manipulated else "generated_probability",
        summary=_sentence(item),
        value=item.manipulated_probability if manipulated else item.probability,
        n=1,
        evidence=(*shown, *(drawings_of(item) if drawn else ())),
        references=tags,
    )


def _sentence(item: Detection) -> str:
    parts = [f"{item.verdict}: {item.because}"]
    if item.verdict is Verdict.NO_SIGN:
        parts += _blindness(item)
    parts += _probabilities(item)
    parts += item.conflicts
    parts += item.notes
    parts += _did_not_look(item)
    return "; ".join(parts) + "."


def _did_not_look(item: Detection) -> list[str]:
    """The names of those that could have, and how many nobody asked."""
    split = [line.partition(": ") for line in item.not_looked_at]
    asked = list(dict.fromkeys(name for name, _, why in split if why != LEFT_OUT))
    unasked = sum(why == LEFT_OUT for _, _, why in split)
    told = [f"did not look: {listed(asked, NAMED)}"] if asked else []
    return [*told, *([f"{unasked} {LEFT_OUT}"] if unasked else [])]


def _blindness(item: Detection) -> list[str]:
    """What the statistics that found nothing miss: no sign is no proof."""
    points = {
        piece.point.measured_on: (piece.detector, piece.point.true_positive_rate)
        for piece in reversed(item.evidence)
        if piece.point is not None and piece.family is Family.LEARNED
    }
    return [
        f"{detector} misses {1 - rate:.0%} of the generated files it was measured on ({data})"
        for data, (detector, rate) in reversed(points.items())
    ]


def _probabilities(item: Detection) -> list[str]:
    """Both, with the prior each starts from: 0.5 is what nothing known looks like."""
    told = []
    if item.probability is not None:
        told.append(f"generated {_hundredths(item.probability)} from a prior of {item.prior:g}")
    if item.manipulated_probability is not None:
        told.append(f"manipulated {_hundredths(item.manipulated_probability)} from a prior of 0.5")
    return [f"probability of {', of '.join(told)}"] if told else []


def _hundredths(probability: float) -> str:
    """No probability here is 0 or 1, so none is rounded to one."""
    if probability < 0.005:
        return "under 0.01"
    return "over 0.99" if probability > 0.995 else f"{probability:.2f}"


def listed(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _table(item: Detection) -> Table:
    return Table(
        title="Evidence",
        columns=("detector", "says", "what it found", "log-likelihood ratio", "false positives",
                 "true positives", "CPU s"),
        rows=tuple(map(_row, item.evidence)),
        note="Rates are of the detector's threshold on sources and generators that were not fitted to.",
    )  # fmt: skip


def _row(piece: Evidence) -> tuple[Cell, ...]:
    point = piece.point
    return (
        piece.detector,
        "did not look" if piece.says is Says.ABSTAINS else piece.says.value,
        piece.summary,
        piece.llr,
        None if point is None else point.false_positive_rate,
        None if point is None else point.true_positive_rate,
        None if piece.seconds is None else round(piece.seconds, 4),
    )


def _left_out(item: Detection) -> tuple[Table, ...]:
    """What was not looked at, and why: the reader of a report must not take it for looked at."""
    if not item.not_looked_at:
        return ()
    split = [line.partition(": ") for line in item.not_looked_at]
    rows = tuple((detector, why) for detector, _, why in split)
    return (Table(title="What was not looked at", columns=("detector", "why"), rows=rows),)


def _sum(item: Detection) -> tuple[Table, ...]:
    if not item.contributions:
        return ()
    table = Table(
        title="How the verdict adds up",
        columns=("detector", "toward", "nats", "counts"),
        rows=tuple(
            (part.detector, part.toward.value, round(part.points, 3), part.counts)
            for part in item.contributions
        ),
        note=f'Prior probability of "generated": {item.prior:g}; of "manipulated": 0.5. Nats are natural '
        "logarithms of odds. Of one family only the strongest on either side counts; of k statistics the "
        "largest, less ln k.",
    )
    return (table,)


def _overview(
    check: str, ordered: Sequence[Detection], tags: tuple[str, ...], root: Path
) -> Finding:
    """All verdicts on one page, the most suspicious first."""
    counted = [(verdict, sum(item.verdict is verdict for item in ordered)) for verdict in Verdict]
    more = len(ordered) - SHOWN
    return Finding(
        check=check,
        target=f"{len(ordered)} files",
        measure="files_looked_at",
        summary=", ".join(f"{count} {verdict}" for verdict, count in counted if count) + ".",
        value=float(len(ordered)),
        n=len(ordered),
        evidence=(
            Table(
                title="Verdicts",
                columns=("file", "verdict", "probability of generated", "manipulated", "why"),
                rows=tuple(
                    (
                        name(item.path, root),
                        item.verdict.value,
                        item.probability,
                        item.manipulated_probability,
                        item.because,
                    )
                    for item in ordered[:SHOWN]
                ),
                note=f"The {SHOWN} most suspicious; a file given as records holds the other {more} too."
                if more > 0
                else "",
            ),
        ),
        references=tags,
    )


def _targets(items: Sequence[Detection], root: Path) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(name(item.path, root) for item in items[:3]) + more


def files_of(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _first(items: Sequence[Detection], root: Path) -> str:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return "; ".join(f"{name(item.path, root)} ({item.because})" for item in items[:5]) + more
