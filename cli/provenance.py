"""`assaymark keys`, `sign` and `verify`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.options import ExitZero, Outputs, command_line, debug
from assaymark.cli.policy_text import policy_text
from assaymark.cli.terminal import say
from assaymark.reports.errors import InputError

keys_app = typer.Typer(help="Certificates and keys.", no_args_is_help=True, rich_markup_mode=None)

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase; else ASSAYMARK_PASSPHRASE, else it is asked for."),
]


@keys_app.callback()
def _group() -> None:
    """Certificates and keys."""


@keys_app.command("new")
def new(
    folder: Annotated[Path, typer.Argument(help="New folder for the keys.")],
    organization: Annotated[str, typer.Option(help="Who a verifier sees as the signer.")],
    name: Annotated[
        str | None, typer.Option(help="Common name of the signing certificate.")
    ] = None,
    algorithm: Annotated[
        str, typer.Option(help="es256, es384, es512, ps256, ps384, ps512 or ed25519.")
    ] = "es256",
    days: Annotated[int, typer.Option(help="How long the signing certificate is valid.")] = 365,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a root, an intermediate and a signing certificate; private keys are encrypted."""
    from assaymark.provenance.keys import new_chain, write_chain

    if folder.exists():
        raise InputError(f"{folder} exists already: keys are never overwritten, name a new folder")
    chain = new_chain(organization, algorithm=algorithm, name=name, days=days)
    secret = _passphrase(passphrase_file, confirm=True)
    if not secret:
        raise InputError("the private keys are encrypted, so a passphrase is needed: give one")
    write_chain(chain, folder, secret)
    say(f"wrote {folder}/root.pem      the trust anchor: give it to those who verify")
    say(f"wrote {folder}/chain.pem     the signing certificate and its issuer")
    say(f"wrote {folder}/key.pem       the signing key, encrypted")
    say(f"wrote {folder}/root.key.pem, intermediate.key.pem   keep these offline")


def sign(
    source: Annotated[Path, typer.Argument(help="A JPEG or PNG; it is never changed.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The signed copy.")],
    chain: Annotated[Path, typer.Option(help="PEM chain, the signing certificate first.")],
    key: Annotated[Path, typer.Option(help="PEM private key, encrypted or not.")],
    title: Annotated[str | None, typer.Option(help="Title; default: the file name.")] = None,
    generated: Annotated[
        bool, typer.Option("--generated", help="A trained model made it.")
    ] = False,
    captured: Annotated[bool, typer.Option("--captured", help="A camera took it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign a picture with Content Credentials (C2PA)."""
    from assaymark.provenance.claims import Claims
    from assaymark.provenance.keys import load_credentials
    from assaymark.provenance.sign import sign as sign_file

    if generated and captured:
        raise InputError("--generated and --captured exclude each other: say one, or neither")
    secret = _passphrase(passphrase_file) if _encrypted(key) else None
    found = sign_file(
        source,
        output,
        load_credentials(chain, key, secret),
        Claims(
            title=title,
            source_type="trainedAlgorithmicMedia"
            if generated
            else "digitalCapture"
            if captured
            else None,
        ),
        overwrite=force,
    )
    say(f"wrote {output}, signed by {found.signer}")


def verify(
    files: Annotated[list[str], typer.Argument(help="Files, folders or patterns.")],
    trust_anchor: Annotated[
        list[str] | None,
        typer.Option(help="PEM certificate that a signer's chain may end in; repeatable."),
    ] = None,
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """Say who signed each file and whether it is unchanged since; 4 when a signature is broken."""
    from assaymark.cli.finish import run_and_exit
    from assaymark.provenance.check import find_files

    find_files(tuple(files))
    if not trust_anchor:
        from assaymark.cli.terminal import tell

        tell("no --trust-anchor is given, so no signer can be trusted")
    run_and_exit(
        policy_text(
            {
                "id": "verify",
                "kind": "provenance",
                "files": list(files),
                "trust_anchors": list(trust_anchor or ()),
                "gate": {"metric": "trusted_files", "min": 1.0, "severity": "critical"},
            }
        ),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        exit_zero=exit_zero,
        debug=debug(),
    )


def _encrypted(key: Path) -> bool:
    try:
        return b"ENCRYPTED" in key.read_bytes()
    except OSError:
        return False  # reading it properly says what is wrong


def _passphrase(file: Path | None, *, confirm: bool = False) -> bytes | None:
    """From a file, the environment, or a person at a terminal; never from the command line."""
    if file is not None:
        try:
            return file.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    if secret := os.environ.get("ASSAYMARK_PASSPHRASE"):
        return os.fsencode(secret)
    if not sys.stdin.isatty():
        return None
    typed: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed.encode()
