"""What the RFC 3161 time stamp of a claim says, and whom it may be believed from.

C2PA 2.2, section 10.3.2.5: a version 1 stamp (header sigTst) is over the claim, a version 2 stamp
(sigTst2) over the claim's signature; both as the CounterSignature structure of RFC 9052.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any

import cbor2
from asn1crypto import cms, core, tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.oid import ExtendedKeyUsageOID

from assaymark.provenance import chains, cose
from assaymark.provenance.chains import (
    BAD_DER,
    BROKEN,
    DIGESTS,
    Ending,
    certificates,
    name_of,
    pem_of,
)
from assaymark.reports.errors import InputError

MAX_TOKEN = 256 * 1024  # bytes
_PURPOSE = ExtendedKeyUsageOID.TIME_STAMPING


@dataclass(frozen=True, kw_only=True)
class TimeStamp:
    """What a time-stamping authority said.

    imprint_holds: the stamp is over this very claim or signature; None when what it is over is not
    at hand. signature_holds: the authority's certificate made the token's signature. Neither says
    who the authority is: see trusted_time_stamp.
    """

    time: dt.datetime
    authority: str
    imprint_holds: bool | None
    signature_holds: bool
    chain_pem: str
    version: int
    imprint_algorithm: str
    policy: str
    serial_number: int
    nonce: int | None = None
    accuracy: dt.timedelta | None = None


def time_stamp(cose_bytes: bytes, claim: bytes | None = None) -> TimeStamp | None:
    """The time stamp in a COSE_Sign1, or None when there is none.

    claim: the bytes of the claim box; a version 1 stamp is over them. Raises InputError when the
    signature or the stamp cannot be read, and for more than one stamp (C2PA allows one).
    """
    signature = cose.parse(cose_bytes)
    if not signature.stamps:
        return None
    if len(signature.stamps) > 1:
        raise InputError(
            f"the claim's signature holds {len(signature.stamps)} time stamps: expected one"
        )
    payload = claim if signature.stamp_version == 1 else cbor2.dumps(signature.signature)
    stamped = (
        None
        if payload is None
        else cbor2.dumps(["CounterSignature", signature.protected, b"", payload])
    )
    return read_token(signature.stamps[0], stamped, version=signature.stamp_version)


def read_token(der: bytes, stamped: bytes | None, *, version: int = 2) -> TimeStamp:
    """Read a TimeStampToken, or a TimeStampResp with one in it; `stamped` is what it should be over.

    Raises InputError when it is neither, was not granted, or breaks RFC 3161, section 2.4.2.
    """
    if len(der) > MAX_TOKEN:
        raise InputError(f"the time stamp has {len(der)} bytes: at most {MAX_TOKEN} are read")
    try:
        return _read(_signed_data(der), stamped, version)
    except BAD_DER as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"the time stamp cannot be read: {text or type(error).__name__}"
        ) from error


def trusted_time_stamp(stamp: TimeStamp, tsa_anchors_pem: str) -> Ending:
    """Whether a stamp holds and its authority's chain ends in the anchors for time stamping.

    The authority's certificate must be for time stamping alone, marked critical (RFC 3161, section
    2.3), and valid at the time it gave. Raises InputError when the anchors cannot be read.
    """
    if not stamp.signature_holds:
        return Ending(anchored=False, reason="the time stamp's own signature does not hold")
    if not stamp.imprint_holds:
        over = "something else" if stamp.imprint_holds is False else "a claim that is not at hand"
        return Ending(anchored=False, reason=f"the time stamp is over {over}")
    try:
        leaf = certificates(stamp.chain_pem, "the time stamp")[0]
        with chains.quiet():
            purposes = chains.extension(leaf, x509.ExtendedKeyUsage)
    except BROKEN as error:
        return Ending(anchored=False, reason=f"{stamp.authority} cannot be read: {error}")
    if purposes is None or not purposes.critical or list(purposes.value) != [_PURPOSE]:
        return Ending(
            anchored=False,
            reason=f"{stamp.authority} is not an authority for time stamping alone: expected "
            "timeStamping as its only extended key usage, marked critical",
        )
    return chains.chain_ends_in(stamp.chain_pem, tsa_anchors_pem, stamp.time, [_PURPOSE])


def _signed_data(der: bytes) -> Any:
    """The CMS SignedData; a response begins with a sequence, a token with an object identifier."""
    first = core.Sequence.load(der, strict=True)[0]
    if isinstance(first, core.ObjectIdentifier):
        content = cms.ContentInfo.load(der, strict=True)
    else:
        response = tsp.TimeStampResp.load(der, strict=True)
        status = response["status"]["status"].native
        if status not in ("granted", "granted_with_mods"):
            raise ValueError(f"the authority answered {status}")
        content = response["time_stamp_token"]
    if content["content_type"].native != "signed_data":
        raise ValueError(f"it holds {content['content_type'].native}, expected signed_data")
    return content["content"]


def _read(signed: Any, stamped: bytes | None, version: int) -> TimeStamp:
    content = signed["encap_content_info"]
    if content["content_type"].native != "tst_info" or len(signed["signer_infos"]) != 1:
        raise ValueError("expected one signer and a TSTInfo")
    # strict: bytes after the structure would be signed, but not shown
    info = tsp.TSTInfo.load(content["content"].contents, strict=True)
    signer = signed["signer_infos"][0]
    chain = _chain(signed["certificates"], signer)
    leaf = certificates(chain, "the time stamp")[0]
    time = info["gen_time"].native
    if not isinstance(time, dt.datetime) or time.tzinfo is None:
        raise ValueError("its time is not a UTC time")
    imprint = info["message_imprint"]
    algorithm = imprint["hash_algorithm"]["algorithm"].native
    return TimeStamp(
        time=time,
        authority=name_of(leaf),
        imprint_holds=_imprint_holds(algorithm, imprint["hashed_message"].native, stamped),
        signature_holds=_signature_holds(signer, leaf, content["content"].contents),
        chain_pem=chain,
        version=version,
        imprint_algorithm=str(algorithm),
        policy=str(info["policy"].dotted),
        serial_number=int(info["serial_number"].native),
        nonce=info["nonce"].native,
        accuracy=_accuracy(info["accuracy"]),
    )


def _imprint_holds(algorithm: str, digest: bytes, stamped: bytes | None) -> bool | None:
    if stamped is None:
        return None
    return algorithm in DIGESTS and hashlib.new(algorithm, stamped).digest() == digest


def _accuracy(accuracy: Any) -> dt.timedelta | None:
    if accuracy.native is None:
        return None
    seconds, millis, micros = (accuracy[key].native or 0 for key in ("seconds", "millis", "micros"))
    return dt.timedelta(seconds=seconds, milliseconds=millis, microseconds=micros)


def _chain(certificate_set: Any, signer: Any) -> str:
    """The signer's certificate first; a CMS set has no order of its own."""
    found = [item.chosen for item in certificate_set or () if item.name == "certificate"]
    if len(found) > chains.MAX_CHAIN:
        raise ValueError(f"it holds {len(found)} certificates, at most {chains.MAX_CHAIN} are read")
    own = [item for item in found if _is_signer(item, signer["sid"])]
    if len(own) != 1:
        raise ValueError(f"{len(own)} of its {len(found)} certificates are the signer's")
    rest = [item for item in found if item is not own[0]]
    return pem_of([item.dump() for item in own + rest], "the time stamp")


def _is_signer(certificate: Any, identifier: Any) -> bool:
    if identifier.name == "subject_key_identifier":
        return bool(certificate.key_identifier == identifier.native)
    chosen = identifier.chosen
    return bool(
        chosen["serial_number"].native == certificate.serial_number
        and chosen["issuer"].dump() == certificate.issuer.dump()
    )


def _signature_holds(signer: Any, leaf: x509.Certificate, content: bytes) -> bool:
    """RFC 5652, section 5.4, and the signing certificate attribute of RFC 3161, section 2.4.2."""
    attributes: dict[str, Any] = {}
    for item in signer["signed_attrs"]:
        name = item["type"].native
        if name in attributes or len(item["values"]) != 1:
            return False
        attributes[name] = item["values"][0]
    digest_name = signer["digest_algorithm"]["algorithm"].native
    wanted = {"content_type", "message_digest"}
    if digest_name not in DIGESTS or not wanted <= set(attributes):
        return False
    if attributes["content_type"].native != "tst_info":
        return False
    if attributes["message_digest"].native != hashlib.new(digest_name, content).digest():
        return False
    if not _names(attributes, leaf):
        return False
    # signed as a SET OF, sent with an implicit tag; the bytes as sent, never sorted again
    signed = b"\x31" + signer["signed_attrs"].dump()[1:]
    digest, pss = _algorithm(signer["signature_algorithm"], digest_name)
    return chains.signature_holds(leaf, signer["signature"].native, signed, digest, pss=pss)


def _names(attributes: dict[str, Any], leaf: x509.Certificate) -> bool:
    """Whether the signed attributes name the certificate, by SHA-1 (RFC 2634) or better (RFC 5035)."""
    if "signing_certificate_v2" in attributes:
        entry = attributes["signing_certificate_v2"]["certs"][0]
        algorithm = entry["hash_algorithm"]["algorithm"].native
        if algorithm not in DIGESTS:
            return False
        found: bytes = leaf.fingerprint(DIGESTS[algorithm]())
    elif "signing_certificate" in attributes:
        entry = attributes["signing_certificate"]["certs"][0]
        found = leaf.fingerprint(hashes.SHA1())
    else:
        return False
    return bool(entry["cert_hash"].native == found)


def _algorithm(
    algorithm: Any, digest_name: str
) -> tuple[hashes.HashAlgorithm | None, padding.PSS | None]:
    """The digest that was signed, and the parameters of RSASSA-PSS where that is the algorithm."""
    name = algorithm["algorithm"].native
    if name == "rsassa_pss":
        return chains.pss_parameters(algorithm["parameters"])
    if name in ("rsassa_pkcs1v15", "ecdsa", "ed25519"):  # plain names: the digest is its own field
        return DIGESTS[digest_name](), None
    for prefix, kind in DIGESTS.items():
        if name in (f"{prefix}_rsa", f"{prefix}_ecdsa"):
            return kind(), None
    return None, None
