"""`assaymark recover` and `assaymark watermark`: the way back from a copy without its manifest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assaymark.cli.terminal import say, tell
from assaymark.cli.verify import Anchors
from assaymark.reports.errors import InputError

if TYPE_CHECKING:
    from assaymark.provenance.recover import Recovery

watermarks = typer.Typer(
    help="Invisible watermarks in pictures.", no_args_is_help=True, rich_markup_mode=None
)
KeyFile = Annotated[Path, typer.Option("--key", help="File with the secret, at least 16 bytes.")]


@watermarks.callback()
def _group() -> None:
    """Invisible watermarks in pictures."""


def recover(
    file: Annotated[Path, typer.Argument(help="A picture, perhaps without its manifest.")],
    store: Annotated[str, typer.Option(metavar="FILE|URL", help="As sign --store wrote it.")],
    watermark_key: Annotated[
        Path | None, typer.Option(help="File with the secret of the watermark.")
    ] = None,
    trust_anchor: Anchors = None,
    false_match: Annotated[
        float, typer.Option(help="Chance that an unrelated picture's fingerprint matches anything.")
    ] = 0.01,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the best manifest (.c2pa).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Find the manifest that a picture lost; 1 when none that holds is found. A hit is no proof."""
    from assaymark.cli.sign import secret_of
    from assaymark.provenance.binding_store import BindingStore
    from assaymark.provenance.keys import load_anchors
    from assaymark.provenance.recover import recover as find
    from assaymark.provenance.trust import Trust
    from assaymark.reports.files import write_atomically

    if not 0 < false_match < 1:
        raise InputError(f"--false-match {false_match}: expected a probability between 0 and 1")
    trust = Trust(signers=load_anchors([Path(name) for name in trust_anchor or ()]))
    with BindingStore(store) as opened:
        found = find(
            file, opened, key=secret_of(watermark_key), trust=trust, false_match=false_match
        )
    if as_json:
        import json

        say(json.dumps(_plain(found), ensure_ascii=True))
    else:
        _tell(found)
    held = [lead for lead in found.candidates if lead.signature_holds]
    if not held:
        raise typer.Exit(1)
    if output is not None:
        write_atomically(output, held[0].entry.manifest)
        say(f"wrote {output}")


def _tell(found: "Recovery") -> None:
    for lead in found.candidates:
        say(
            f"{lead.entry.title or 'untitled'}, by {' and '.join(lead.found_by)}: {lead.explanation}"
        )
    if not found.candidates:
        say(f"nothing in the store leads to {found.path}")
    for sentence in found.searched:
        tell(sentence)


def _plain(found: "Recovery") -> dict[str, object]:
    leads = [
        {
            "title": lead.entry.title,
            "signer": lead.signer,
            "manifest_sha256": lead.entry.sha256,
            "found_by": list(lead.found_by),
            "p_value": lead.p_value,
            "distance": lead.distance,
            "signature_holds": lead.signature_holds,
            "trusted": lead.trusted,
            "agrees": lead.agrees,
            "explanation": lead.explanation,
        }
        for lead in found.candidates
    ]
    return {"path": str(found.path), "candidates": leads, "searched": list(found.searched)}


@watermarks.command("add")
def add(
    source: Annotated[Path, typer.Argument(help="A picture.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The marked copy.")],
    payload: Annotated[int, typer.Option(help="A number from 0 to 4294967295.")],
    key: KeyFile,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Mark a copy of a picture invisibly with a number; it is read back before it is written."""
    from assaymark.cli.sign import secret_of
    from assaymark.provenance.marked_files import mark_file

    secret = secret_of(key)
    assert secret is not None
    mark = mark_file(source, output, payload, secret, replace=force)
    say(f"wrote {output}: marked with {mark.payload}, p = {mark.p_value:.1g}")


@watermarks.command("detect")
def detect(
    file: Annotated[Path, typer.Argument(help="A picture.")],
    key: KeyFile,
) -> None:
    """Read the watermark of a picture; 1 when there is none of this key."""
    from assaymark.cli.sign import secret_of
    from assaymark.provenance.marked_files import detect_file

    secret = secret_of(key)
    assert secret is not None
    mark = detect_file(file, secret)
    if mark is None:
        say(f"{file} has no watermark of this key")
        raise typer.Exit(1)
    say(f"{file} is marked with {mark.payload}, score {mark.score:.2f}, p = {mark.p_value:.1g}")
