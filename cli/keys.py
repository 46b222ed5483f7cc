"""`assaymark keys`: make, show, rotate and revoke keys; request certificates; local services."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assaymark.cli.terminal import say, tell
from assaymark.reports.errors import InputError

if TYPE_CHECKING:
    from assaymark.provenance.certificates import Authority
    from assaymark.provenance.describe_keys import Description
    from assaymark.provenance.keys import Credentials

app = typer.Typer(help="Certificates and keys.", no_args_is_help=True, rich_markup_mode=None)

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase; else ASSAYMARK_PASSPHRASE, else it is asked for."),
]
Folder = Annotated[Path, typer.Argument(help="Folder that keys new made.")]
Keys = Annotated[
    Path | None,
    typer.Option(help="Key folder, as keys new makes it; instead of --chain and --key."),
]
KeyName = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Private key: a file (PEM, DER, PKCS #12), pkcs11:… (RFC 7512) or package.module:function.",
    ),
]
Algorithm = Annotated[
    str, typer.Option(help="es256, es384, es512, ps256, ps384, ps512 or ed25519.")
]
Days = Annotated[int, typer.Option(help="How long the signing certificate is valid.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]


@app.callback()
def _group() -> None:
    """Certificates and keys."""


@app.command("new")
def new(
    folder: Annotated[Path, typer.Argument(help="New folder for the keys.")],
    organization: Annotated[str, typer.Option(help="Who a verifier sees as the signer.")],
    name: Annotated[
        str | None, typer.Option(help="Common name of the signing certificate.")
    ] = None,
    algorithm: Algorithm = "es256",
    days: Days = 365,
    ocsp_url: Annotated[
        str | None, typer.Option(help="Where verifiers may ask whether it was revoked.")
    ] = None,
    try_on: Annotated[
        Path | None,
        typer.Option("--try", metavar="FILE", help="Sign this file at once and verify it."),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a root, an intermediate and a signing certificate; private keys are encrypted."""
    from assaymark.provenance.keys import new_chain, write_chain

    if folder.exists():
        raise InputError(f"{folder} exists already: keys are never overwritten, name a new folder")
    chain = new_chain(organization, algorithm=algorithm, name=name, days=days, ocsp_url=ocsp_url)
    secret = passphrase(passphrase_file, confirm=True)
    if not secret:
        raise InputError(
            "the private keys are encrypted, so a passphrase is needed: give one with "
            "--passphrase-file or in ASSAYMARK_PASSPHRASE"
        )
    write_chain(chain, folder, secret)
    say(f"wrote {folder}/root.pem      the trust anchor: give it to those who verify")
    say(f"wrote {folder}/chain.pem     the signing certificate and its issuer")
    say(f"wrote {folder}/key.pem       the signing key, encrypted")
    say(f"wrote {folder}/tsa…, ocsp…   a time-stamping authority and an OCSP responder of your own")
    say(f"wrote {folder}/root.key.pem, intermediate.key.pem   keep these offline")
    if try_on is not None:
        _try(try_on, chain)


def _try(source: Path, chain: Any) -> None:
    """Sign a file and verify the copy, so that the keys are seen to work."""
    from assaymark.provenance.plan import plan
    from assaymark.provenance.sign import sign
    from assaymark.provenance.trust import Trust
    from assaymark.provenance.verify import verify

    (task,) = plan([source]).tasks if source.is_file() else (None,)
    if task is None:
        raise InputError(f"{source} is no file: --try signs one, assaymark sign signs folders")
    signed = sign(task.source, task.destination, chain.credentials)
    found = verify(signed.destination, Trust(signers=chain.trust_anchor_pem))
    say(f"wrote {signed.manifest}: {found.state}, {found.explanation}")


@app.command("show")
def show(
    path: Annotated[Path, typer.Argument(help="Key folder, or a certificate file.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what certificates are, whether they may sign and, if not, why not."""
    from assaymark.provenance.describe_keys import describe, describe_all

    found = describe_all(path) if path.is_dir() else (describe(path),)
    if as_json:
        import json
        from dataclasses import asdict

        say(json.dumps([asdict(item) for item in found], default=str, ensure_ascii=True))
        return
    for item in found:
        _tell(item)


def _tell(item: "Description") -> None:
    say(f"{item.path}  {item.status}")
    rows = (
        ("subject", item.subject),
        ("issuer", item.issuer),
        ("algorithm", item.algorithm),
        ("serial", item.serial),
        (
            "valid",
            f"{item.not_before:%Y-%m-%d} to {item.not_after:%Y-%m-%d}, {item.days_left} days left",
        ),
        ("purposes", ", ".join(item.purposes) or "none"),
        ("SHA-256", item.fingerprint),
        ("OCSP", item.ocsp_url or "no responder named"),
        *(("refused", reason) for reason in item.refused),
        *(("warning", reason) for reason in item.warnings),
    )
    for name, value in rows:
        say(f"  {name:<10}{value}")


@app.command("rotate")
def rotate(
    folder: Folder,
    days: Days = 365,
    algorithm: Annotated[str | None, typer.Option(help="Another algorithm.")] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a new signing key; what the old one signed stays valid."""
    from assaymark.provenance.key_rotation import rotate as rotate_keys

    found = rotate_keys(folder, _needed(passphrase_file), days=days, algorithm=algorithm)
    say(
        f"{folder} signs with {found.serial} until {found.not_after:%Y-%m-%d}; the old pair is in archive"
    )


@app.command("revoke")
def revoke(
    folder: Folder,
    serial: Annotated[str, typer.Argument(help="As keys show prints it, or current.")] = "current",
    reason: Annotated[
        str, typer.Option(help="unspecified, keyCompromise, superseded …")
    ] = "unspecified",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Revoke a signing certificate, and write the list that says so (crl.pem)."""
    from assaymark.provenance.key_rotation import revoke as revoke_key

    done = revoke_key(folder, _needed(passphrase_file), serial, reason)
    say(f"revoked {done.revocation.serial} ({done.revocation.reason})")
    if done.crl is not None:
        say(f"wrote {done.crl}: give it to those who verify, or run assaymark keys ocsp {folder}")
    else:
        tell("the certificate is of another CA, which has to revoke it: ask it to")


@app.command("request")
def request(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write it.")
    ] = None,
    organization: Annotated[str | None, typer.Option(help="Else that of the certificate.")] = None,
    name: Annotated[str | None, typer.Option(help="Common name.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="Else that of the certificate.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Throw a waiting request away.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a certificate request (CSR) for a real CA; its key waits in the folder."""
    from assaymark.provenance.key_requests import new_request
    from assaymark.reports.files import write_atomically

    text = new_request(
        folder,
        _needed(passphrase_file),
        organization=organization,
        name=name,
        algorithm=algorithm,
        again=again,
    )
    path = output or folder / "request.pem"
    write_atomically(path, text)
    say(f"wrote {path}: send it to the CA, then run assaymark keys install {folder} ANSWER")


@app.command("install")
def install(
    folder: Folder,
    answer: Annotated[Path, typer.Argument(help="The CA's answer: PEM, DER or PKCS #7.")],
) -> None:
    """Put a CA's answer to a request in place; the old pair goes to the archive."""
    from assaymark.provenance.key_files import read_limited
    from assaymark.provenance.key_requests import install as install_answer

    found = install_answer(folder, read_limited(answer, "answer of the CA"))
    say(f"{folder} signs with {found.serial} of {found.issuer} until {found.not_after:%Y-%m-%d}")


@app.command("tsa")
def tsa(
    folder: Folder,
    host: Host = "127.0.0.1",
    port: Port = 3161,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Run a time-stamping authority (RFC 3161) for tests and closed networks."""
    from assaymark.provenance.tsa import serve_forever

    authority, chain = time_stamping(folder, passphrase_file)
    serve_forever(authority, chain, host, port, ready=_ready("time stamps"), log=tell)


@app.command("ocsp")
def ocsp(
    folder: Folder,
    host: Host = "127.0.0.1",
    port: Port = 2560,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Answer whether certificates of the folder were revoked (OCSP)."""
    from assaymark.provenance.key_files import read_certificates
    from assaymark.provenance.ocsp_responder import serve_forever
    from assaymark.provenance.revoked import standing_in

    issuer = read_certificates(folder / "intermediate.pem", "issuing certificate")[0]
    responder = _authority(folder, "ocsp", passphrase_file)
    serve_forever(
        issuer, responder, standing_in(folder), host, port, ready=_ready("OCSP"), log=tell
    )


def _ready(what: str) -> Any:
    return lambda url: say(f"{what} at {url}, until you press Ctrl-C")


def time_stamping(folder: Path, passphrase_file: Path | None) -> "tuple[Authority, list[Any]]":
    """The time-stamping authority of a key folder, and the certificates above it."""
    from assaymark.provenance.key_files import read_certificates

    if not (folder / "tsa.pem").is_file():
        raise InputError(
            f"{folder} holds no time-stamping authority: expected http://…, https://… or a folder "
            "that assaymark keys new made"
        )
    above = list(read_certificates(folder / "tsa-chain.pem", "chain")[1:])
    return _authority(folder, "tsa", passphrase_file), above


def _authority(folder: Path, name: str, passphrase_file: Path | None) -> "Authority":
    from assaymark.provenance.certificates import Authority
    from assaymark.provenance.key_files import read_certificates, read_private_key

    certificate = read_certificates(folder / f"{name}.pem")[0]
    key = read_private_key(folder / f"{name}.key.pem", _needed(passphrase_file))
    return Authority(certificate=certificate, key=key)  # type: ignore[arg-type]


def _no_core_file() -> None:
    """A process that holds a private key and crashes must not leave it in a file."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def credentials_of(
    folder: Path | None, chain: Path | None, key: str | None, passphrase_file: Path | None
) -> "Credentials":
    """The credentials that options name: a key folder, or a chain and a key."""
    _no_core_file()
    from assaymark.provenance.keys import load_credentials, passphrase_wanted

    if folder is not None and (chain or key):
        raise InputError("--keys and --chain with --key exclude each other: give one of them")
    if folder is not None:
        if not (folder / "chain.pem").is_file():
            raise InputError(
                f"{folder} is no folder of keys: make one with assaymark keys new {folder} "
                "--organization NAME"
            )
        chain, key = folder / "chain.pem", str(folder / "key.pem")
    if chain is None or key is None:
        raise InputError(
            "who signs? name a folder with --keys, or a certificate and its key with --chain and --key"
        )
    secret = passphrase(passphrase_file) if passphrase_wanted(key) else None
    return load_credentials(chain, key, secret)


def _needed(file: Path | None) -> bytes:
    secret = passphrase(file)
    if not secret:
        raise InputError(
            "the keys are encrypted: give their passphrase with --passphrase-file or in "
            "ASSAYMARK_PASSPHRASE"
        )
    return secret


def passphrase(file: Path | None, *, confirm: bool = False) -> bytes | None:
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
