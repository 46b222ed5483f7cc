"""Signed heads of a log as C2SP checkpoints: origin, size and root in a signed note.

https://c2sp.org/tlog-checkpoint and https://c2sp.org/signed-note. Ed25519 is signature type 0x01 and
es256 type 0x02, which other tools read; the other algorithms have no byte there and use 0xff and a
name of ours.
"""

import base64
import datetime as dt
import hashlib
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from assaymark.provenance.keys import Credentials
from assaymark.provenance.raw_signature import leaf_certificate, sign_bytes, spki, verifies
from assaymark.provenance.signer_chain import Signer, judge_signer, name_of, read_certificates
from assaymark.reports.errors import InputError, IntegrityError

_LARGEST = 1 << 20
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_DASH = "— "


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The head of a log: its name, how many entries it has, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, credentials: Credentials) -> str:
    """The signed note. Raises InputError for an origin that a note cannot hold."""
    origin = checkpoint.origin
    if not origin or "+" in origin or not origin.isprintable() or re.search(r"\s", origin):
        raise InputError(f"{origin!r} cannot name a log: expected text without space or plus sign")
    signature = sign_bytes(credentials, checkpoint.text.encode())
    identifier = note_key_id(origin, leaf_certificate(credentials).public_key())
    line = base64.b64encode(identifier + signature).decode()
    return f"{checkpoint.text}\n{_DASH}{origin} {line}\n"


def verify_checkpoint(
    note: str, chain_pem: str, trust_anchors_pem: str = "", *, at: dt.datetime | None = None
) -> tuple[Checkpoint, Signer]:
    """The head that the leaf of `chain_pem` signed, and whether an anchor vouches for that leaf.

    Signatures of other keys are passed over, as the standard says. Raises InputError when the note
    or the certificates are malformed, IntegrityError when the leaf's signature is missing or wrong.
    """
    checkpoint, signatures = read_checkpoint(note)
    chain = read_certificates(chain_pem, "the certificates of the log's signer")
    key = chain[0].public_key()
    mine = note_key_id(checkpoint.origin, key)
    found = [
        signature
        for name, signature in signatures
        if name == checkpoint.origin and signature[:4] == mine
    ]
    if not found:
        raise IntegrityError(
            f"the checkpoint of {checkpoint.origin} is not signed by {name_of(chain[0])}: expected a "
            "signature by the key of that certificate"
        )
    if not all(verifies(key, one[4:], checkpoint.text.encode()) for one in found):
        raise IntegrityError(
            f"the signature of the checkpoint of {checkpoint.origin} does not hold: it was changed"
        )
    return checkpoint, judge_signer(chain, trust_anchors_pem, at=at)


def read_checkpoint(note: str) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    """What a note says, NOT verified, and its signatures; raises InputError when it is malformed."""
    wrong = "the checkpoint is malformed: expected origin, size, root, an empty line and signatures"
    text, found, signed = note.rpartition("\n\n")
    lines = text.split("\n")
    if len(note) > _LARGEST or not found or len(lines) < 3 or not all(lines):
        raise InputError(wrong)
    if any(ord(character) < 32 and character != "\n" for character in note) or len(lines) > 3:
        raise InputError(f"{wrong}; extension lines and control characters are not accepted")
    if not _SIZE.fullmatch(lines[1]) or not signed.endswith("\n"):
        raise InputError(wrong)
    signatures = []
    for line in signed[:-1].split("\n"):
        name, space, value = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise InputError(wrong)
        signatures.append((name, _base64(value, wrong)))
    root = _base64(lines[2], wrong)
    if len(root) != 32:
        raise InputError(wrong)
    return Checkpoint(origin=lines[0], size=int(lines[1]), root=root), signatures


def note_key_id(name: str, key: object) -> bytes:
    """The four bytes by which a note names a key (signed-note, "Signatures")."""
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return hashlib.sha256(spki(key)).digest()[:4]
    return hashlib.sha256(name.encode() + b"\n" + _typed(key)).digest()[:4]


def verifier_key(origin: str, credentials: Credentials) -> str:
    """The key as other tools for notes take it: name, key identifier and Ed25519 key.

    Raises InputError for another algorithm, of which the note format has no such text.
    """
    key = leaf_certificate(credentials).public_key()
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InputError(f"a note's verifier key is Ed25519, this one is {credentials.algorithm}")
    typed = base64.b64encode(_typed(key)).decode()
    return f"{origin}+{note_key_id(origin, key).hex()}+{typed}"


def _typed(key: object) -> bytes:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return b"\x01" + key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return b"\xffassaymark.dev/log\n" + spki(key)  # type: ignore[arg-type]


def _base64(text: str, wrong: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InputError(wrong) from error
