"""Certificate chains and private keys for Content Credentials.

`new_chain` makes root → intermediate → leaf for one of C2PA's signature algorithms (C2PA 2.2,
section 13.2), with what a time-stamping authority and an OCSP responder need beside it;
`load_credentials` takes those, or a key of any common kind from a file, a token or a function.
"""

import os
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from assaymark.provenance.certificate_profile import refused, warnings_about
from assaymark.provenance.certificates import (
    ALGORITHMS,
    CLAIM_SIGNING,
    DOCUMENT_SIGNING,
    HASHES,
    Authority,
    Key,
    algorithm_of,
    check_algorithm,
    check_days,
    issue,
    leaf_key,
    new_key,
    pem,
    private_pem,
    public_der,
    serial_of,
    shortened,
    subject_name,
)
from assaymark.provenance.key_files import (
    needs_passphrase,
    read_certificates,
    read_private_key,
    write_new,
)
from assaymark.provenance.key_folder import (
    INDEX,
    Index,
    Pair,
    index_beside,
    index_text,
    locked,
    settled,
    stamp,
)
from assaymark.provenance.pkcs11_keys import pkcs11_key
from assaymark.provenance.pkcs11_uri import SCHEME, has_pin
from assaymark.provenance.remote_keys import FunctionKey, RemoteKey, is_function
from assaymark.reports.errors import InputError

__all__ = [
    "ALGORITHMS",
    "CLAIM_SIGNING",
    "DOCUMENT_SIGNING",
    "Authority",
    "Chain",
    "Credentials",
    "check_passphrase",
    "load_anchors",
    "load_credentials",
    "new_chain",
    "passphrase_wanted",
    "write_chain",
]

_PASSPHRASE_LIMIT = 1023  # OpenSSL's


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A trust anchor, an issuing intermediate, and what it issued: the leaf that signs claims, a
    time-stamping authority and an OCSP responder."""

    algorithm: str
    root: Authority
    intermediate: Authority
    leaf: Authority
    tsa: Authority
    ocsp: Authority

    @property
    def credentials(self) -> "Credentials":
        return Credentials(
            algorithm=self.algorithm,
            chain_pem=pem(self.leaf.certificate, self.intermediate.certificate),
            key_pem=private_pem(self.leaf.key, None),
        )

    @property
    def trust_anchor_pem(self) -> str:
        return pem(self.root.certificate)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a signer holds: the leaf's chain, and its private key.

    key_pem: as PKCS #8 in memory; empty for a `remote` key, which never leaves its token or
    service. warnings: what some verifiers may object to.
    """

    algorithm: str
    chain_pem: str
    key_pem: str = ""
    remote: RemoteKey | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        key = "key_pem=<private>" if self.remote is None else f"remote={self.remote!r}"
        return f"Credentials(algorithm={self.algorithm!r}, {key})"


def new_chain(
    organization: str,
    *,
    algorithm: str = "es256",
    name: str | None = None,
    days: int = 365,
    ocsp_url: str | None = None,
) -> Chain:
    """Make fresh keys and certificates; the leaf is valid for `days` from now.

    organization: the subject that a verifier shows as the signer; 1 to 64 characters. ocsp_url:
    where verifiers may ask whether the leaf is revoked. Raises InputError for an unknown algorithm
    or a name that a certificate cannot hold.
    """
    check_algorithm(algorithm)
    check_days(days)
    if ocsp_url is not None and not ocsp_url.startswith(("http://", "https://")):
        raise InputError(f"the OCSP URL is {ocsp_url}: expected http:// or https://")
    name = name or shortened(f"{organization} content signing")
    subject_name(organization, name)

    def make(
        role: str, name: str, days: int, *, issuer: Authority | None = None, kind: str = algorithm
    ) -> Authority:
        key = new_key(kind)
        certificate = issue(
            subject_name(organization, shortened(name)),
            key.public_key(),
            role,
            issuer=issuer.certificate if issuer else None,
            issuer_key=issuer.key if issuer else key,
            days=days,
            digest=HASHES[algorithm],
            ocsp_url=ocsp_url if role == "signing" else None,
        )
        return Authority(certificate=certificate, key=key)

    root = make("root", f"{organization} root", days + 3650)
    ours = make("intermediate", f"{organization} CA", days + 1825, issuer=root)
    # P-256 for both services: every verifier knows it, and RSA keys take long to make
    return Chain(
        algorithm=algorithm,
        root=root,
        intermediate=ours,
        leaf=make("signing", name, days, issuer=ours),
        tsa=make(
            "time stamping", f"{organization} time stamps", days + 1825, issuer=ours, kind="es256"
        ),
        ocsp=make("OCSP", f"{organization} OCSP responder", days + 1825, issuer=ours, kind="es256"),
    )


def write_chain(chain: Chain, folder: Path, passphrase: bytes) -> dict[str, Path]:
    """Write the chain as PEM; private keys are encrypted and readable by their owner only.

    Raises InputError when the folder exists: keys are never overwritten.
    """
    check_passphrase(passphrase)
    if folder.exists():
        raise InputError(f"{folder} exists already: keys are never overwritten, name a new folder")
    contents = _contents(chain, passphrase)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        for file, text in contents.items():
            write_new(made / file, text, private=file.endswith("key.pem"))
        os.rename(made, folder)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return {file: folder / file for file in contents}


def _contents(chain: Chain, passphrase: bytes) -> dict[str, str]:
    issuer = pem(chain.intermediate.certificate)
    pair = Pair(
        serial=serial_of(chain.leaf.certificate), algorithm=chain.algorithm, created=stamp()
    )
    keys = {
        "root.key.pem": chain.root.key,
        "intermediate.key.pem": chain.intermediate.key,
        "key.pem": chain.leaf.key,
        "tsa.key.pem": chain.tsa.key,
        "ocsp.key.pem": chain.ocsp.key,
    }
    return {
        "root.pem": chain.trust_anchor_pem,
        "intermediate.pem": issuer,
        "chain.pem": chain.credentials.chain_pem,
        "tsa.pem": pem(chain.tsa.certificate),
        "tsa-chain.pem": pem(chain.tsa.certificate) + issuer,
        "ocsp.pem": pem(chain.ocsp.certificate),
        INDEX: index_text(Index(current=pair.serial, pairs=(pair,))),
    } | {file: private_pem(key, passphrase) for file, key in keys.items()}


def check_passphrase(passphrase: bytes) -> None:
    """Raise InputError for a passphrase that does not protect, or that OpenSSL cannot take."""
    if len(passphrase) > _PASSPHRASE_LIMIT:
        raise InputError(
            f"the passphrase has {len(passphrase)} bytes, expected at most {_PASSPHRASE_LIMIT}"
        )
    if not passphrase:
        raise InputError("an empty passphrase would leave the private keys open: give one")


def load_credentials(chain: Path, key: Path | str, passphrase: bytes | None) -> Credentials:
    """Read a certificate chain and its private key, encrypted or not.

    key: a file; `pkcs11:…` (RFC 7512) for a key in a token; or `package.module:function` for one
    behind a service, called as function(data, algorithm) → signature. Raises InputError when either
    is unreadable, the passphrase is missing or wrong, the key is not the leaf's, or the leaf is
    revoked or may not sign (C2PA 2.2, section 14.5.1).
    """
    managed = (chain.parent / INDEX).exists()
    with locked(chain.parent, exclusive=False) if managed else nullcontext():
        certificates = read_certificates(settled(chain), passphrase=passphrase)
        leaf, index = certificates[0], index_beside(chain)
        remote = _remote(str(key), leaf, chain, index, passphrase)
        private = None if remote else _private(Path(key), chain, leaf, passphrase)
    _check(chain, certificates, index)
    serial = serial_of(leaf)
    rotated = index is not None and index.pair(serial) is not None and index.current != serial
    warning = (f"{chain} is a pair that was replaced by a newer one",) if rotated else ()
    return Credentials(
        algorithm=_algorithm(leaf, chain, index),
        chain_pem=pem(*certificates),
        key_pem="" if private is None else private_pem(private, None),
        remote=remote,
        warnings=warning + warnings_about(certificates),
    )


def _remote(
    key: str, leaf: x509.Certificate, chain: Path, index: Index | None, passphrase: bytes | None
) -> RemoteKey | None:
    token, function = key.startswith(SCHEME), is_function(key)
    if not token and not function:
        return None
    algorithm, public = _algorithm(leaf, chain, index), leaf_key(leaf)
    if token:
        return pkcs11_key(key, algorithm=algorithm, public_key=public, passphrase=passphrase)
    return FunctionKey(target=key, algorithm=algorithm, public_key=public, folder=Path.cwd())


def _private(key: Path, chain: Path, leaf: x509.Certificate, passphrase: bytes | None) -> Key:
    private = read_private_key(settled(key), passphrase)
    if leaf_key(leaf) != public_der(private.public_key()):  # type: ignore[attr-defined]
        raise InputError(
            f"{key} is not the key of the first certificate in {chain}: expected the leaf's own key"
        )
    return private  # type: ignore[return-value]


def _check(chain: Path, certificates: tuple[x509.Certificate, ...], index: Index | None) -> None:
    serial = serial_of(certificates[0])
    if index and (revoked := index.revocation(serial)):
        raise InputError(
            f"the certificate {serial} in {chain} was revoked on {revoked.at[:10]} "
            f"({revoked.reason}): make a new one with assaymark keys rotate"
        )
    if reasons := refused(certificates):
        more = f" (and {len(reasons) - 1} more: assaymark keys show {chain})"
        raise InputError(f"{chain}: {reasons[0]}{more if len(reasons) > 1 else ''}")


def _algorithm(leaf: x509.Certificate, chain: Path, index: Index | None) -> str:
    pair = index.pair(serial_of(leaf)) if index else None
    algorithm = pair.algorithm if pair else algorithm_of(leaf)
    if not algorithm:
        raise InputError(
            f"{chain} has a key of a kind that C2PA does not allow: expected EC P-256/384/521, "
            "Ed25519 or RSA of at least 2048 bits"
        )
    return algorithm


def passphrase_wanted(key: Path | str) -> bool:
    """Whether a key needs a passphrase or PIN that has to be asked for."""
    text = str(key)
    if text.startswith(SCHEME):
        return not has_pin(text)
    return not is_function(text) and needs_passphrase(Path(key))


def load_anchors(paths: list[Path] | tuple[Path, ...]) -> str:
    """Trust anchors as one PEM text; raises InputError when one is not a certificate."""
    return "".join(pem(*read_certificates(path, "trust anchor")) for path in paths)
