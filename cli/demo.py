"""`assaymark demo`: every pillar on embedded real data, ending in a report."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.options import command_line, debug
from assaymark.cli.terminal import say, tell
from assaymark.reports.errors import InputError


def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where to put the policy, the signed pictures and the report.")
    ] = Path("assaymark-demo"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Attack, audit and verify embedded real data, and write report.html and report.json.

    The demo's models have faults on purpose, so its report says fail; the command itself exits 0.
    """
    from assaymark.cli.device import choose
    from assaymark.cli.exit import exit_code
    from assaymark.cli.outputs import write_outputs
    from assaymark.cli.run import Job, forget, run
    from assaymark.cli.show import show
    from assaymark.reports.policy_file import parse

    choose(device)
    text = prepare(folder)
    policy = parse(text, "assaymark.toml", folder=folder)
    job = Job(
        policy=policy,
        text=text,
        name="assaymark.toml",
        folder=folder,
        command=command_line(),
        device=device,
        debug=debug(),
    )
    report = run(job)
    outputs = [folder / "report.html", folder / "report.json"]
    show(report)
    write_outputs(report, outputs)
    forget(job)
    failed = [finding for finding in report.findings if finding.error]
    say(
        f"These faults are there to be found. The same policy in CI would exit {exit_code(report):d}: "
        f"assaymark audit {folder / 'assaymark.toml'}"
    )
    say(f"wrote {outputs[1]}")
    say(f"report: {outputs[0].resolve()}")
    if failed:
        raise typer.Exit(3)


def prepare(folder: Path) -> str:
    """Fill a folder with the demo's policy, its signed pictures and a tampered copy of one.

    The signing keys are made for this run and never written; only their trust anchor is.
    """
    from importlib.resources import files

    from PIL import Image
    from sklearn.datasets import load_sample_images

    from assaymark.provenance.claims import Claims
    from assaymark.provenance.keys import new_chain
    from assaymark.provenance.sign import sign
    from assaymark.reports.files import write_atomically

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / "assaymark.toml").is_file() or not (folder / "media").is_dir():
            raise InputError(
                f"{folder} exists and is not an earlier demo: name a new folder, "
                "assaymark demo FOLDER"
            )
        tell(f"writing into the earlier demo in {folder}")
    media = folder / "media"
    taken = Claims(source_type="digitalCapture")
    try:
        media.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    chain = new_chain("Assaymark demo newsroom")
    write_atomically(folder / "root.pem", chain.trust_anchor_pem)
    for name, pixels in zip(("temple", "flower"), load_sample_images().images, strict=True):
        unsigned = folder / f"{name}-unsigned.jpg"
        Image.fromarray(pixels).save(unsigned, quality=88)
        sign(unsigned, media / f"{name}.jpg", chain.credentials, taken, overwrite=True)
        unsigned.unlink()
    signed = bytearray((media / "flower.jpg").read_bytes())
    signed[-2000] ^= 0x01  # one bit of the picture
    write_atomically(media / "flower-tampered.jpg", bytes(signed))
    text = (files("assaymark.cli") / "demo.toml").read_text(encoding="utf-8")
    write_atomically(folder / "assaymark.toml", text)
    return text
