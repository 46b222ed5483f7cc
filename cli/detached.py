"""`assaymark model` and `assaymark attest`: what is signed beside itself."""

from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.keys import KeyName, Keys, PassphraseFile, credentials_of
from assaymark.cli.options import ExitZero, Outputs, command_line, debug
from assaymark.cli.policy_text import policy_text
from assaymark.cli.terminal import say, tell
from assaymark.cli.verify import Anchors
from assaymark.reports.errors import InputError

models = typer.Typer(
    help="Sign folders of weights or data (OpenSSF model signing).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
attestations = typer.Typer(
    help="Bind a report to the models it is about (in-toto, DSSE).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Chain = Annotated[Path | None, typer.Option(help="PEM chain, the signing certificate first.")]
Folder = Annotated[Path, typer.Argument(help="A folder, or one file.")]
LinkRule = Annotated[
    str, typer.Option("--links", help="Links to files: refuse, inside (the folder) or follow.")
]
Ignored = Annotated[
    list[str] | None, typer.Option(help="Path in the folder that is left out; repeatable.")
]


@models.callback()
def _models() -> None:
    """Sign folders of weights or data (OpenSSF model signing)."""


@attestations.callback()
def _attestations() -> None:
    """Bind a report to the models it is about (in-toto, DSSE)."""


@models.command("sign")
def sign_model(
    folder: Folder,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The signature, such as model.sig.")
    ],
    keys: Keys = None,
    chain: Chain = None,
    key: KeyName = None,
    ignore: Ignored = None,
    links: LinkRule = "refuse",
    digest: Annotated[str, typer.Option(help="sha256 or blake2b.")] = "sha256",
    shard_size: Annotated[
        int | None, typer.Option(help="Bytes of the parts that large files are hashed in.")
    ] = None,
    bare_key: Annotated[
        bool, typer.Option("--bare-key", help="Carry no certificate, only the key's digest.")
    ] = False,
    previous: Annotated[
        Path | None,
        typer.Option(help="An earlier signature: hash only files that look changed since."),
    ] = None,
    remember: Annotated[
        bool, typer.Option("--remember", help="Keep how files look, for --previous next time.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Files read at a time.")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign every file of a folder in one signature beside it."""
    from assaymark.provenance.folder_manifest import GIT, Links
    from assaymark.provenance.model_signature import sign_folder
    from assaymark.reports.errors import nearest

    if links not in list(Links):
        raise InputError(f"--links {links}{nearest(links, tuple(Links))}")
    done = sign_folder(
        folder,
        output,
        credentials_of(keys, chain, key, passphrase_file),
        ignore=(*GIT, *(ignore or ())),
        links=Links(links),
        algorithm=digest,
        shard_size=shard_size,
        bare_key=bare_key,
        workers=workers,
        previous=previous,
        memory=remember or previous is not None,
    )
    say(f"wrote {output}: {done.files} files, {done.files - done.reused} hashed")


@models.command("verify")
def verify_model(
    folder: Folder,
    signature: Annotated[Path, typer.Argument(help="The signature.")],
    trust_anchor: Anchors = None,
    public_key: Annotated[
        Path | None, typer.Option(help="PEM public key that is trusted by itself.")
    ] = None,
    ignore: Ignored = None,
    links: LinkRule = "refuse",
    allow_added: Annotated[
        bool, typer.Option("--allow-added", help="Files that the signer did not list are no fault.")
    ] = False,
    accept_expired: Annotated[
        bool,
        typer.Option(
            "--accept-expired", help="Certificates that were valid when they were issued."
        ),
    ] = False,
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """Say whether a folder is as it was signed, and by whom; 4 when a file differs."""
    if not trust_anchor and public_key is None:
        tell("neither --trust-anchor nor --public-key is given, so no signer can be trusted")
    _check(
        {
            "id": "verify",
            "kind": "provenance.folder",
            "folder": str(folder),
            "signature": str(signature),
            "trust_anchors": list(trust_anchor or ()),
            "public_key": str(public_key) if public_key else None,
            "ignore": list(ignore or ()),
            "links": links,
            "allow_added": allow_added or None,
            "accept_expired": accept_expired or None,
        },
        output,
        exit_zero,
    )


@attestations.command("make")
def make(
    report: Annotated[Path, typer.Argument(help="A report that a run stored as .json.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The attestation.")],
    keys: Keys = None,
    chain: Chain = None,
    key: KeyName = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Which of the report's digests are models; repeatable.")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign a statement: this report, with this verdict, is about the models with these digests."""
    from assaymark.provenance.attestation import attest
    from assaymark.reports.store import from_json

    credentials = credentials_of(keys, chain, key, passphrase_file)
    statement = attest(report, credentials, output, read=from_json, models=tuple(model or ()))
    names = ", ".join(item["name"] for item in statement["subject"])
    say(f"wrote {output}: {report.name} is about {names}")


@attestations.command("verify")
def verify_attestation(
    attestation: Annotated[Path, typer.Argument(help="The attestation.")],
    report: Annotated[Path | None, typer.Option(help="The report it should be about.")] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="File of a model it should be about; repeatable.")
    ] = None,
    trust_anchor: Anchors = None,
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """Say who attests what; 4 when the report or a model is another one."""
    if not trust_anchor:
        tell("no --trust-anchor is given, so no signer can be trusted")
    _check(
        {
            "id": "verify",
            "kind": "provenance.attestation",
            "attestation": str(attestation),
            "report": str(report) if report else None,
            "subjects": list(subject or ()),
            "trust_anchors": list(trust_anchor or ()),
        },
        output,
        exit_zero,
    )


def _check(check: dict[str, object], output: list[Path] | None, exit_zero: bool) -> None:
    from assaymark.cli.finish import run_and_exit

    gate = {"metric": "trusted_signature", "min": 1.0, "severity": "critical"}
    run_and_exit(
        policy_text({**{k: v for k, v in check.items() if v not in (None, [])}, "gate": gate}),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        exit_zero=exit_zero,
        debug=debug(),
    )
