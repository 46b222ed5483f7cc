"""Signing in memory, and reading back with c2pa and with Encypher's verifier, an engine of its own."""

import io
import json
from pathlib import Path
from typing import Any

import c2pa
import encypher_c2pa

from assaymark.provenance.c2pa_context import shared_context
from assaymark.provenance.claims import Claims
from assaymark.provenance.definition import new_builder
from assaymark.provenance.formats import FORMATS, Format
from assaymark.provenance.keys import Chain, Credentials
from assaymark.provenance.trust import Trust

JPEG = next(kind for kind in FORMATS if kind.name == "JPEG")


def open_signer(credentials: Credentials) -> c2pa.Signer:
    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(
            credentials.algorithm.encode(),
            credentials.chain_pem.encode(),
            credentials.key_pem.encode(),
            None,
        )
    )


def signed(source: Path, claims: Claims, signer: c2pa.Signer, **options: Any) -> bytes:
    """The signed copy of a file; a JPEG where no other kind is given."""
    target = io.BytesIO()
    kind, history = options.pop("kind", JPEG), options.pop("history", False)
    with (
        new_builder(claims, source, kind, history=history, **options) as builder,
        source.open("rb") as stream,
    ):
        builder.sign(signer, kind.media_type, stream, target)
    return target.getvalue()


def by_c2pa(
    data: bytes, chain: Chain, identities: str = "", *, kind: Format = JPEG
) -> dict[str, Any]:
    """The library's report; `boxes` has the assertions as they are stored."""
    trust = Trust(signers=chain.trust_anchor_pem, identities=identities)
    with c2pa.Reader(kind.media_type, io.BytesIO(data), context=shared_context(trust)) as reader:
        found: dict[str, Any] = json.loads(reader.json())
        detailed = json.loads(reader.detailed_json())
    label = found["active_manifest"]
    return {
        "state": found["validation_state"],
        "results": found["validation_results"],
        "manifests": found["manifests"],
        "boxes": detailed["manifests"][label]["assertion_store"],
        "claim": detailed["manifests"][label]["claim"],
        **found["manifests"][label],
    }


def by_encypher(
    data: bytes, chain: Chain, identities: str | None = None, *, kind: Format = JPEG
) -> dict[str, Any]:
    """The second engine's report, without its trust lists, network and telemetry."""
    found = encypher_c2pa.verify(
        data,
        kind.media_type,
        trust_pem=chain.trust_anchor_pem,
        cawg_trust_pem=identities,
        no_default_trust=True,
        telemetry=False,
        online=False,
    )
    report = found["manifest_report"]
    return {
        "state": found["validation_state"],
        "results": found["validation_results"],
        **report["manifests"][report["active_manifest"]],
    }


def assertion(manifest: dict[str, Any], label: str) -> Any:
    """The data of the only assertion with this label."""
    (data,) = (item["data"] for item in manifest["assertions"] if item["label"] == label)
    return data


def codes(results: dict[str, Any], kind: str) -> list[str]:
    part = results.get("activeManifest", results)
    return [item["code"] for item in part.get(kind, ())]
