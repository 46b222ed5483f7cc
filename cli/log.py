"""`assaymark log`: the transparency log that `assaymark sign --log` writes."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.keys import KeyName, Keys, PassphraseFile, credentials_of
from assaymark.cli.terminal import say, tell
from assaymark.cli.verify import Anchors
from assaymark.reports.errors import InputError, IntegrityError

app = typer.Typer(
    help="The transparency log of what was signed.", no_args_is_help=True, rich_markup_mode=None
)
Log = Annotated[Path, typer.Argument(help="The log, as sign --log wrote it.")]
Chain = Annotated[Path | None, typer.Option(help="PEM chain, the signing certificate first.")]
Note = Annotated[Path | None, typer.Option(help="A signed head of the log.")]
SignedBy = Annotated[Path, typer.Option("--signed-by", help="PEM chain of who signed the head.")]


@app.callback()
def _group() -> None:
    """The transparency log of what was signed."""


@app.command("check")
def check(
    log: Log,
    checkpoint: Note = None,
    signed_by: Annotated[
        Path | None, typer.Option(help="PEM chain of who signed the head.")
    ] = None,
    trust_anchor: Anchors = None,
) -> None:
    """Find entries that were edited, removed or moved; 4 when there are any, 1 for a stranger's head."""
    from assaymark.provenance.checkpoint import verify_checkpoint
    from assaymark.provenance.log import check as check_log

    head = None
    if checkpoint is not None:
        if signed_by is None:
            raise InputError("--checkpoint needs --signed-by, the chain of who signed it")
        head, signer = verify_checkpoint(
            _text(checkpoint), _text(signed_by), _anchors(trust_anchor)
        )
        say(f"the head of {_entries(head.size)} is signed by {signer.name}")
        if not signer.trusted:
            tell(f"warning: no trust anchor vouches for {signer.name}: {signer.reason}")
    found = check_log(log, head)
    if not found.size and found.holds:
        raise InputError(
            f"{log} has no entry, so there is nothing that could hold: name another log"
        )
    for path in found.set_aside:
        tell(f"warning: a crash left {path}, which is no entry")
    if found.torn:
        tell(f"warning: the log ends in {found.torn} bytes that are no whole entry")
    if not found.holds:
        first = found.faults[0]
        where = f"entry {first.index}" if first.index is not None else "the log"
        raise IntegrityError(
            f"{log} does not hold, {len(found.faults)} faults; {where}: {first.text}"
        )
    say(f"{log} holds: {_entries(found.size)}, root {found.root.hex()}")
    if trust_anchor and head is not None and not signer.trusted:
        raise typer.Exit(1)
    if head is None:
        tell(
            "without --checkpoint nobody sees whether the end was cut off or changed, or the whole "
            "log written anew"
        )


@app.command("checkpoint")
def checkpoint(
    log: Log,
    output: Annotated[Path, typer.Option("-o", "--output", help="The signed head.")],
    keys: Keys = None,
    chain: Chain = None,
    key: KeyName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign the head of the log (a C2SP checkpoint); one that contradicts an earlier is never signed."""
    from assaymark.provenance.log import write_checkpoint

    made = write_checkpoint(log, output, credentials_of(keys, chain, key, passphrase_file))
    say(f"wrote {output}: {_entries(made.size)}, root {made.root.hex()}")


@app.command("prove")
def prove(
    log: Log,
    file: Annotated[Path, typer.Argument(help="A file that was signed.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The proof, as JSON.")],
    checkpoint: Note = None,
) -> None:
    """Write a proof that the log has an entry for a file, to be verified without the log."""
    from assaymark.provenance.log import prove as make_proof

    index = make_proof(log, file, output, _text(checkpoint) if checkpoint else None)
    say(f"wrote {output}: {file} is entry {index}")
    if checkpoint is None:
        tell("the proof carries no signed head: verify it with --checkpoint")


@app.command("verify")
def verify(
    proof: Annotated[Path, typer.Argument(help="The proof.")],
    file: Annotated[Path, typer.Argument(help="The file it is about.")],
    signed_by: SignedBy,
    checkpoint: Note = None,
    trust_anchor: Anchors = None,
) -> None:
    """Verify a proof offline; 4 when it does not hold, 1 when nobody vouches for its signer."""
    from assaymark.provenance.log import verify_proof

    found = verify_proof(
        proof,
        file,
        chain_pem=_text(signed_by),
        trust_anchors_pem=_anchors(trust_anchor),
        checkpoint=_text(checkpoint) if checkpoint else None,
    )
    say(
        f"{file} is entry {found.index} of the log that {found.signer.name} signed at "
        f"{_entries(found.checkpoint.size)}: logged {found.entry.time} as {found.entry.name}"
    )
    if not found.signer.trusted:
        tell(f"no trust anchor vouches for {found.signer.name}: {found.signer.reason}")
        raise typer.Exit(1)


def _entries(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _anchors(names: list[str] | None) -> str:
    from assaymark.provenance.keys import load_anchors

    return load_anchors([Path(name) for name in names or ()])
