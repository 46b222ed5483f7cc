"""Signing by the library alone, so that tests can make files that `sign` refuses to make."""

import io
import json
from collections.abc import Sequence
from typing import Any

import c2pa
from authorities import key_pem, pem

from assaymark.provenance.c2pa_context import context
from assaymark.provenance.keys import Authority

MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def created(source_type: str = MADE, **more: Any) -> dict[str, Any]:
    return {"action": "c2pa.created", "digitalSourceType": source_type, **more}


def manifest(*actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A definition with these actions. more: entries of the definition; assertions are added."""
    told = {"label": "c2pa.actions.v2", "data": {"actions": list(actions)}}
    assertions = [told, *more.pop("assertions", ())] if actions else more.pop("assertions", [])
    return {
        "claim_generator_info": [{"name": "a maker", "version": "1"}],
        "title": "a work",
        **more,
        "assertions": list(assertions),
    }


def signed(
    data: bytes,
    leaf: Authority,
    *issuers: Authority,
    media_type: str = "image/jpeg",
    definition: dict[str, Any] | None = None,
    stamps: str = "",
    remote: str = "",
    embed: bool = True,
    algorithm: str = "es256",
    ingredients: Sequence[tuple[dict[str, Any], bytes]] = (),
) -> bytes:
    """`data` with a manifest by `leaf`. stamps: the URL of a time-stamping authority."""
    info = c2pa.C2paSignerInfo(
        algorithm.encode(),
        pem(leaf, *issuers).encode(),
        key_pem(leaf).encode(),
        stamps.encode() or None,
    )
    output = io.BytesIO()
    with (
        context() as settings,
        c2pa.Signer.from_info(info) as signer,
        c2pa.Builder(json.dumps(definition or manifest(created())), context=settings) as builder,
    ):
        for described, content in ingredients:
            builder.add_ingredient(json.dumps(described), media_type, io.BytesIO(content))
        if not embed:
            builder.set_no_embed()
        if remote:
            builder.set_remote_url(remote)
        builder.sign(signer, media_type, io.BytesIO(data), output)
    return output.getvalue()
