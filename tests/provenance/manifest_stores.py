"""Manifest stores for tests: made by c2pa, taken out of JPEG files, or put together box by box."""

import io
import warnings
from functools import cache
from typing import Any

from authorities import EMAIL, authority, key_pem, pem
from PIL import Image

from assaymark.provenance.keys import Authority

ROOT = authority("Signing root", ca=True)
MIDDLE = authority("Signing CA", ROOT, ca=True, path_length=0)
LEAF = authority("Signer", MIDDLE, purposes=EMAIL)


def c2pa_context(trusted: str = "", **verify: bool) -> Any:
    """c2pa with these anchors; nothing is fetched unless it says so."""
    import c2pa

    settings: dict[str, Any] = {
        "version": 1,
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False} | verify,
        "builder": {"thumbnail": {"enabled": False}},
    }
    if trusted:
        settings["trust"] = {"trust_anchors": trusted}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return c2pa.Context.from_dict(settings)


def sign_jpeg(
    leaf: Authority,
    above: tuple[Authority, ...] = (),
    tsa_url: str | None = None,
    trusted: str = "",
) -> tuple[bytes, bytes]:
    """A small signed JPEG and its manifest store, both made by c2pa."""
    import c2pa

    picture, output = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "JPEG")
    picture.seek(0)
    info = c2pa.C2paSignerInfo(
        b"es256",
        pem(leaf, *above).encode(),
        key_pem(leaf).encode(),
        tsa_url.encode() if tsa_url else None,
    )
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": kind}]}
    manifest = {
        "claim_generator_info": [{"name": "assaymark test"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": actions}],
    }
    with (
        c2pa_context(trusted) as context,
        c2pa.Signer.from_info(info) as signer,
        c2pa.Builder(manifest, context=context) as builder,
    ):
        store: bytes = builder.sign(signer, "image/jpeg", picture, output)
    return output.getvalue(), store


@cache
def signed_store() -> tuple[bytes, bytes]:
    """The same file for every test that only reads."""
    return sign_jpeg(LEAF, (MIDDLE,))


def jumb(kind: bytes, label: str, *boxes: bytes) -> bytes:
    """A superbox (ISO 19566-5, A.3)."""
    uuid = kind + bytes.fromhex("00110010800000AA00389B71")
    description = uuid + b"\3" + label.encode() + b"\0"
    content = (8 + len(description)).to_bytes(4, "big") + b"jumd" + description + b"".join(boxes)
    return (8 + len(content)).to_bytes(4, "big") + b"jumb" + content


def jpeg_store(data: bytes) -> bytes | None:
    """The manifest store in a JPEG's APP11 segments (ISO 19566-5, annex D), or None."""
    at, found = 2, b""
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + size]
        if data[at + 1] == 0xEB and segment[:2] == b"JP":
            # each segment repeats the box's header, which counts once
            found += segment[8:] if not found else segment[16:]
        at += 2 + size
    return found or None
