"""`assaymark detect evaluate`, `train` and `race`: how good detectors are, and how to make them better."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assaymark.cli.options import Device, ExitZero, Outputs, SeedOfCommand, command_line, debug
from assaymark.cli.policy_text import policy_text
from assaymark.cli.terminal import Progress, say, tell

if TYPE_CHECKING:
    from datetime import datetime

    from assaymark.provenance.race_store import Round
    from assaymark.reports.model import CheckResult, Report


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder real/SOURCE/FILE and fake/GENERATOR/FILE, or a CSV or JSONL with path, label, "
            "source and generator.",
        ),
    ],
    detector: Annotated[
        str, typer.Option(help="A row of detect list, fused, or a published one.")
    ] = "learned",
    checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="Weights of a published detector.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of paths, where a table has several.")
    ] = None,
    delivery: Annotated[
        list[str] | None,
        typer.Option(help="Deliver every file again: a name, eight or sweep; repeatable."),
    ] = None,
    rate: Annotated[float, typer.Option(help="False positives that the threshold is for.")] = 0.05,
    threshold: Annotated[float | None, typer.Option(help="A fixed threshold instead.")] = None,
    scores: Annotated[
        str | None, typer.Option(metavar="FILE", help="Keep scores here, and go on from them.")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write what makes the scores evidence (--checkpoint)."),
    ] = None,
    min_auc: Annotated[float | None, typer.Option(help="Fail below.")] = None,
    max_false_positives: Annotated[float | None, typer.Option(help="Fail above.")] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Processes; 0: as the cores allow.")
    ] = 0,
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """Measure a detector on labelled files: AUC, EER, calibration, per generator and source."""
    from assaymark.cli.finish import run_and_exit

    gates = [
        {"metric": metric, side: bound, "on": "lower" if side == "min" else "upper"}
        for metric, side, bound in (
            ("auc", "min", min_auc),
            ("false_positive_rate", "max", max_false_positives),
        )
        if bound is not None
    ]
    check: dict[str, Any] = {
        "id": "evaluate",
        "kind": "provenance.detector",
        "labelled": data,
        "detector": detector,
        "checkpoint": checkpoint,
        "column": column,
        "deliveries": list(delivery or ()),
        "rate": rate,
        "threshold": threshold,
        "scores": scores,
        "calibration": calibration,
        "gate": gates,
    }
    run_and_exit(
        policy_text({key: value for key, value in check.items() if value not in (None, [])}),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        workers=workers or 1,
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )


def train(
    photos: Annotated[
        Path, typer.Argument(metavar="PHOTOS", help="Folder of real photographs: SOURCE/FILE.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Weights.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled files for the heads and the calibration, as in evaluate."),
    ] = None,
    decoders: Annotated[int, typer.Option(min=1, max=64, help="How many generators to make.")] = 12,
    decoder_steps: Annotated[int, typer.Option(min=1, help="Training steps of each.")] = 600,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the network.")] = 1500,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop the network's training after so long.")
    ] = None,
    device: Device = "auto",
    seed: SeedOfCommand = 0,
) -> None:
    """Train the image detectors: generators, pairs, the network, the heads; go on when asked again."""
    from assaymark.cli.device import choose
    from assaymark.provenance.detect_training import train_all

    def note(line: str) -> None:
        tell(line)

    trained = train_all(
        photos,
        output,
        data=data,
        decoders=decoders,
        decoder_steps=decoder_steps,
        steps=steps,
        seconds=None if minutes is None else 60 * minutes,
        device=choose(device),
        seed=seed,
        note=note,
    )
    for line in trained:
        say(line)


def race(
    photos: Annotated[
        str,
        typer.Argument(metavar="DATA", help="Photographs: a folder or table as in evaluate."),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep rounds and weights here, and go on from them."),
    ] = None,
    detector: Annotated[
        str, typer.Option(help="residual, or NAME:FILE as in attack --model detector:NAME.")
    ] = "residual",
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Attack and harden so often.")] = 5,
    attack_steps: Annotated[int, typer.Option(min=1, help="Of the generator, a round.")] = 120,
    hardening_steps: Annotated[int, typer.Option(min=1, help="Of the detector, a round.")] = 150,
    fit_steps: Annotated[int, typer.Option(min=1, help="Of the first generator.")] = 600,
    clean: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Real and generated files on which hardening must not cost; default: the first generator's.",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="AUC on clean files may fall by so much.")
    ] = 0.02,
    seed: SeedOfCommand = 0,
    output: Outputs = None,
) -> None:
    """Attack and harden a detector in turns; report its AUC under attack and the attacker's cost."""
    from datetime import UTC, datetime

    from assaymark.cli.outputs import check_outputs, write_outputs
    from assaymark.provenance.detect_data import read_data
    from assaymark.provenance.detect_race import clean_photos, split_photos
    from assaymark.provenance.detect_race import race as run
    from assaymark.provenance.detector_model import detector_model
    from assaymark.provenance.race_findings import result_of
    from assaymark.provenance.race_hardening import Hardening

    check_outputs(output or [])
    started = datetime.now(UTC)
    progress = Progress(1)
    progress.start("race")
    split = split_photos(read_data(Path(photos)), seed=seed)
    _, found = run(
        detector_model(detector).detector,
        split,
        rounds=rounds,
        fit_steps=fit_steps,
        attack_steps=attack_steps,
        hardening=Hardening(steps=hardening_steps),
        clean=None if clean is None else clean_photos(read_data(Path(clean))),
        tolerance=tolerance,
        folder=folder,
        seed=seed,
        progress=lambda each: progress(each.number, rounds),
    )
    progress.finish(f"{len(found.rounds)} rounds")
    say(f"before: AUC {found.start:.3f} on the first generation ({found.start_psnr:.1f} dB)")
    for each in found.rounds:
        say(_round(each))
    if found.weakest is not None:
        say(f"the last detector's lowest AUC over all generations: {found.weakest:.3f}")
    write_outputs(_report(result_of("race", detector, found), started, seed), output or [])
    for path in output or []:
        say(f"wrote {path}")
    if folder is not None:
        say(f"the last detector that was kept is {folder / 'detector.safetensors'}")


def _report(result: "CheckResult", started: "datetime", seed: int) -> "Report":
    from datetime import UTC, datetime
    from hashlib import sha256

    from assaymark.cli.versions import versions
    from assaymark.reports.model import Report, Run

    seconds = (datetime.now(UTC) - started).total_seconds()
    return Report(
        findings=result.findings,
        methods=(result.method,),
        run=Run(
            tool=f"assaymark {versions()['assaymark']}",
            command=command_line(),
            policy_name="command line",
            policy_sha256=sha256(b"").hexdigest(),
            policy_text="",
            seed=seed,
            device="cpu",
            started=started.strftime("%Y-%m-%d %H:%M:%S UTC"),
            seconds=round(seconds, 3),
            versions=versions(),
        ),
    )


def _round(each: "Round") -> str:
    costs = ", ".join(
        f"{cost.attacker} {cost.decibels:.2f} dB{'' if cost.won else ', not won'}"
        for cost in each.costs
    )
    kept = "kept" if each.kept else "given up, as the AUC on clean files fell"
    return (
        f"round {each.number}: AUC {each.attacked:.3f} under attack ({costs}), {each.hardened:.3f} after "
        f"hardening, {kept}"
    )
