"""One small picture, signed with any credentials, and what two independent engines say of it."""

import functools
import io
import json
import warnings

import c2pa
from PIL import Image

from assaymark.provenance.keys import Credentials
from assaymark.provenance.signers import open_signer

MANIFEST = {"title": "test", "claim_generator_info": [{"name": "assaymark test", "version": "1"}]}


PURPOSES = ("1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36", "1.3.6.1.4.1.62558.2.1")


def context(anchors_pem: str = "", purposes: tuple[str, ...] = PURPOSES) -> c2pa.Context:
    """purposes: the EKUs that C2PA names; without them c2pa-rs 0.91 asks for emailProtection."""
    trust = {"trust_config": "\n".join(purposes)} if purposes else {}
    if anchors_pem:
        trust["trust_anchors"] = anchors_pem
    settings = {
        "version": 1,
        "trust": trust,
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return c2pa.Context.from_dict(settings)


@functools.cache
def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 120, 60)).save(stream, "JPEG")
    return stream.getvalue()


def sign_with(signer: c2pa.Signer, title: str = "test") -> bytes:
    output = io.BytesIO()
    with context() as settings, c2pa.Builder(MANIFEST | {"title": title}, settings) as builder:
        generated = c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
        builder.set_intent(c2pa.C2paBuilderIntent.CREATE, generated)
        builder.sign(signer, "image/jpeg", io.BytesIO(jpeg()), output)
    return output.getvalue()


def signed(credentials: Credentials, tsa_url: str | None = None) -> bytes:
    with open_signer(credentials, tsa_url) as signer:
        return sign_with(signer)


def read(data: bytes, anchors_pem: str, purposes: tuple[str, ...] = PURPOSES) -> str:
    """ "Trusted", "Valid" or "Invalid", as c2pa-rs says."""
    with (
        context(anchors_pem, purposes) as settings,
        c2pa.Reader("image/jpeg", io.BytesIO(data), context=settings) as reader,
    ):
        return str(json.loads(reader.json())["validation_state"])


def second(data: bytes, anchors_pem: str) -> str:
    """The same from encypher-c2pa, offline."""
    import encypher_c2pa

    report = encypher_c2pa.verify(
        data,
        "image/jpeg",
        trust_pem=anchors_pem,
        no_default_trust=True,
        telemetry=False,
        online=False,
    )
    return str(report["validation_state"])
