"""Certificates from a CA of somebody else: a request, and its answer put in place."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from assaymark.provenance.certificate_profile import refused
from assaymark.provenance.certificates import (
    HASHES,
    ROLES,
    algorithm_of,
    check_algorithm,
    leaf_key,
    new_key,
    pem,
    private_pem,
    public_der,
    serial_of,
    subject_name,
)
from assaymark.provenance.describe_keys import Description, describe
from assaymark.provenance.key_files import (
    order_chain,
    parse_certificates,
    read_certificates,
    read_limited,
    read_private_key,
)
from assaymark.provenance.key_folder import (
    Pair,
    locked,
    open_folder,
    place,
    stamp,
    switch,
    writing,
)
from assaymark.provenance.keys import check_passphrase
from assaymark.reports.errors import InputError

REQUEST, REQUEST_KEY = "request.pem", "request.key.pem"


def new_request(
    folder: Path,
    passphrase: bytes,
    *,
    organization: str | None = None,
    name: str | None = None,
    algorithm: str | None = None,
    again: bool = False,
) -> str:
    """A request (CSR, PKCS #10 in PEM) for a CA, with a fresh key that waits in the folder.

    None keeps what the current certificate says. A request that is waiting is returned as it is,
    since its answer needs its key; `again` throws it away. The pair that signs stays until
    `install`. Raises InputError for a wrong passphrase or a name that a certificate cannot hold.
    """
    check_passphrase(passphrase)
    with locked(folder, exclusive=True):
        index = open_folder(folder)
        request, waiting = folder / REQUEST, folder / REQUEST_KEY
        leaf = read_certificates(folder / "chain.pem")[0]
        pending = None if again else _pending(folder)
        # one that was answered may lie there still, if installing it was interrupted
        if pending and not _same_key(pending, leaf):
            read_private_key(waiting, passphrase)  # raises for another passphrase
            return request.read_text(encoding="utf-8")
        kind = algorithm or index.pair_that_signs.algorithm
        check_algorithm(kind)
        key, subject = new_key(kind), leaf.subject
        named = subject_name(
            organization or _attribute(subject, NameOID.ORGANIZATION_NAME),
            name or _attribute(subject, NameOID.COMMON_NAME),
        )
        builder = x509.CertificateSigningRequestBuilder().subject_name(named)
        purposes = x509.ExtendedKeyUsage(ROLES["signing"].purposes)
        builder = builder.add_extension(purposes, critical=False)
        text = builder.sign(key, HASHES[kind]).public_bytes(Encoding.PEM).decode()  # type: ignore[arg-type]
        with writing(folder):
            request.unlink(missing_ok=True)
            place(waiting, private_pem(key, passphrase), private=True)
            place(request, text)
        return text


def install(folder: Path, chain_pem: str | bytes) -> Description:
    """Put a CA's answer to `new_request` in place of the current pair, which goes to `archive/`.

    chain_pem: PEM, DER or PKCS #7, in any order, with or without a root. Raises InputError when it
    is not for the key that waits, or may not sign claims; nothing is changed then.
    """
    with locked(folder, exclusive=True):
        index = open_folder(folder)
        request = _pending(folder)
        if request is None:
            raise InputError(f"no request waits in {folder}: make one with assaymark keys request")
        chain = _answer(chain_pem, request)
        if reasons := refused(chain):
            raise InputError(f"the CA's answer cannot sign claims: {'; '.join(reasons)}")
        pair = Pair(
            serial=serial_of(chain[0]),
            algorithm=_requested(request, chain[0]),
            created=stamp(),
            own=False,
        )
        if index.pair(pair.serial):
            raise InputError(f"the certificate {pair.serial} is in {folder} already")
        key = (folder / REQUEST_KEY).read_text(encoding="utf-8")
        switch(folder, index, pem(*chain), key, pair)
        for used in (REQUEST, REQUEST_KEY):
            (folder / used).unlink()
    return describe(folder)


def _pending(folder: Path) -> x509.CertificateSigningRequest | None:
    if not (folder / REQUEST).exists() or not (folder / REQUEST_KEY).exists():
        return None
    try:
        return x509.load_pem_x509_csr(read_limited(folder / REQUEST, "request"))
    except ValueError as error:
        raise InputError(
            f"{folder / REQUEST} is no certificate request: make a new one with --again"
        ) from error


def _same_key(request: x509.CertificateSigningRequest, leaf: x509.Certificate) -> bool:
    return public_der(request.public_key()) == leaf_key(leaf)


def _answer(
    chain_pem: str | bytes, request: x509.CertificateSigningRequest
) -> tuple[x509.Certificate, ...]:
    data = chain_pem.encode() if isinstance(chain_pem, str) else chain_pem
    try:
        found = parse_certificates(data)
    except ValueError as error:
        raise InputError(f"the CA's answer cannot be read: {error}") from error
    chain = order_chain(found, public_der(request.public_key()))
    if not chain:
        raise InputError(
            f"the CA's answer holds {len(found)} certificates, none for the key of {REQUEST}: "
            "expected the certificate for the request that waits"
        )
    return tuple(chain)


def _requested(request: x509.CertificateSigningRequest, leaf: x509.Certificate) -> str:
    """RSA keys fit three algorithms: the request's own hash says which was asked for."""
    kind = algorithm_of(leaf) or ""
    digest = request.signature_hash_algorithm
    return f"ps{digest.digest_size * 8}" if kind.startswith("ps") and digest else kind


def _attribute(subject: x509.Name, kind: x509.ObjectIdentifier) -> str:
    found = subject.get_attributes_for_oid(kind)
    return str(found[0].value) if found else ""
