"""Everything that a file's Content Credentials say, as data, as text, as JSON and as one HTML page.

All of it comes from the file and is hostile: text is escaped where it is shown, thumbnails are decoded
and encoded anew within limits, and nothing is fetched.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from assaymark.provenance import chains, facts
from assaymark.provenance.case import Case, Undecided
from assaymark.provenance.free_bytes import FreeBytes
from assaymark.provenance.ocsp import Responders
from assaymark.provenance.rules import lost_history
from assaymark.provenance.second_opinion import Opinion
from assaymark.provenance.thumbnails import thumbnails
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verification import State, Verification
from assaymark.provenance.verify import examine
from assaymark.reports.files import unicode
from assaymark.reports.model import Node, Picture

_MAX_MANIFESTS = 200
_MAX_DATA = 20_000  # characters of one assertion that are shown
_KINDS = ("failure", "informational", "success")


@dataclass(frozen=True, kw_only=True)
class Action:
    """One action of a manifest; when: as the manifest says it."""

    action: str
    when: str
    source_type: str
    agent: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A work that a manifest names. manifest: the label of the work's own, or nothing."""

    title: str
    relationship: str
    media_type: str
    manifest: str
    failures: tuple[str, ...]
    thumbnail: Picture | None


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """data: its JSON text, cut to a length that can be read."""

    label: str
    data: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One manifest of the store. time: what its time stamp says, trusted or not."""

    label: str
    title: str
    generator: str
    signer: str
    common_name: str
    serial: str
    algorithm: str
    time: str
    claim_version: str
    active: bool
    reached: bool
    actions: tuple[Action, ...]
    ingredients: tuple[Ingredient, ...]
    assertions: tuple[Assertion, ...]
    thumbnail: Picture | None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """One certificate of the active signer's chain, the leaf first. Times are UTC."""

    subject: str
    issuer: str
    serial: str
    sha256: str
    not_before: str
    not_after: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """One line of the engine's report."""

    kind: str
    code: str
    of: str
    explanation: str


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """One file, opened up. lost: what is missing in its history. unknown: what could not be looked at."""

    found: Verification
    size: int | None
    manifests: tuple[Manifest, ...]
    certificates: tuple[Certificate, ...]
    statuses: tuple[Status, ...]
    free: FreeBytes | None
    opinion: Opinion | None
    lost: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def state(self) -> State:
        return self.found.state

    @property
    def tree(self) -> Node | None:
        return self.found.tree


def inspection(
    path: Path,
    trust: Trust = NOBODY,
    *,
    second: bool = False,
    responders: Responders | None = None,
) -> Inspection:
    """Open one file up; never raises for what it holds.

    second: also ask the second engine. responders: also ask these about revocation.
    """
    found = examine(path, trust)
    case = Case(found=found, trust=trust, responders=responders)
    unknown: list[str] = []
    store, free = b"", None
    certificates: tuple[Certificate, ...] = ()
    if found.readable:
        try:
            store, free = case.store, case.free
            unknown += free.unknown
        except Undecided as error:
            unknown.append(str(error))
        try:
            certificates = tuple(map(_certificate, case.chain))
        except Undecided as error:
            unknown.append(str(error))
    return Inspection(
        found=found,
        size=_size(path),
        manifests=_manifests(found, store),
        certificates=certificates,
        statuses=_statuses(found.document),
        free=free,
        opinion=case.second if second else None,
        lost=tuple(lost_history(found.document)) if found.readable else (),
        unknown=tuple(unknown),
    )


def as_json(inspection: Inspection) -> str:
    """One JSON document in ASCII, so that no control character reaches a terminal."""
    document = {
        **inspection.found.facts(),
        "size": inspection.size,
        "manifests": [asdict(item) for item in inspection.manifests],
        "certificates": [asdict(item) for item in inspection.certificates],
        "statuses": [asdict(item) for item in inspection.statuses],
        "free_bytes": [
            {**asdict(item), "explained": item.explained}
            for item in (inspection.free.ranges if inspection.free else ())
        ],
        "second_opinion": asdict(inspection.opinion) if inspection.opinion else None,
        "lost_history": list(inspection.lost),
        "unknown": list(inspection.unknown),
    }
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False, default=str) + "\n"


def as_text(inspection: Inspection) -> str:
    """Lines for a terminal; what is not printable, such as marks of direction, is spelled out."""
    found = inspection.found
    lines = [f"{found.path}: {found.state}", f"  {found.explanation}"]
    lines += [f"  {name}: {value}" for name, value in summary(inspection)]
    lines += [f"  note: {note}" for note in found.notes]
    lines += [f"  history: {lost}" for lost in inspection.lost]
    for item in inspection.free.unexplained if inspection.free else ():
        lines.append(f"  free bytes {item.start} to {item.end} ({item.place}): {item.what}")
    lines += [f"  not known: {text}" for text in inspection.unknown]
    if inspection.tree:
        lines += ["", *_branches(inspection.tree, "", "")]
    return "".join(shown(line) + "\n" for line in lines)


def shown(text: object) -> str:
    r"""Text on one line without anything that is not printable.

    >>> shown("a\u202eb\x1b[0m")
    'a\\u202eb\\x1b[0m'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in str(text)
    )


def summary(inspection: Inspection) -> tuple[tuple[str, str], ...]:
    """What a reader wants to know first, as pairs; what is not said is left out."""
    found = inspection.found
    signed_at = found.signed_at
    stamped = facts.time_of(found.document)
    time = f"{signed_at:%Y-%m-%d %H:%M:%S} UTC, by a trusted time stamp" if signed_at else ""
    if stamped and not signed_at:
        time = f"{stamped:%Y-%m-%d %H:%M:%S} UTC, which nobody trusted vouches for"
    free = inspection.free
    hidden = sum(item.end - item.start for item in free.unexplained) if free else 0
    pairs = (
        ("title", found.title),
        ("signed by", found.signer),
        ("certificate", found.common_name),
        ("algorithm", found.algorithm),
        ("signed at", time),
        ("made with", found.generator),
        ("origin", ", ".join(found.source_types)),
        ("authors", ", ".join(found.authors)),
        ("training", ", ".join(f"{name}: {use}" for name, use in found.training.items())),
        ("identity", found.identity or ""),
        ("revocation", found.revocation if found.readable else ""),
        ("credentials", found.where),
        ("address", found.remote),
        ("manifests", str(len(inspection.manifests)) if inspection.manifests else ""),
        ("free bytes", f"{hidden} unexplained" if free else ""),
        ("second engine", inspection.opinion.why if inspection.opinion else ""),
        ("codes", ", ".join(dict.fromkeys(found.failures))),
    )
    return tuple((name, value) for name, value in pairs if value)


def _branches(node: Node, first: str, rest: str) -> list[str]:
    detail = f"  {node.detail}" if node.detail else ""
    lines = [f"{first}{shown(node.label)}{shown(detail)}"]
    for child in node.children:
        last = child is node.children[-1]
        lines += _branches(
            child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")
        )
    return lines


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _manifests(found: Verification, store: bytes) -> tuple[Manifest, ...]:
    known = facts.mapping(found.document.get("manifests"))
    order = dict.fromkeys((*found.history, *known))
    pictures = thumbnails(store)
    return tuple(
        _manifest(found, label, facts.mapping(known.get(label)), pictures)
        for label in list(order)[:_MAX_MANIFESTS]
    )


def _manifest(
    found: Verification, label: str, of: Mapping[str, Any], pictures: Mapping[str, Picture]
) -> Manifest:
    info = facts.mapping(of.get("signature_info"))
    return Manifest(
        label=label,
        title=str(of.get("title") or ""),
        generator=facts.generator(of),
        signer=facts.signer(info),
        common_name=str(info.get("common_name") or ""),
        serial=str(info.get("cert_serial_number") or ""),
        algorithm=str(info.get("alg") or "").lower(),
        time=str(info.get("time") or ""),
        claim_version=str(of.get("claim_version") or "1"),
        active=label == found.label,
        reached=label in found.history,
        actions=tuple(map(_action, facts.actions(of))),
        ingredients=tuple(
            _ingredient(label, item, pictures) for item in facts.items(of.get("ingredients"))
        ),
        assertions=tuple(
            Assertion(label=name, data=_data(data)) for name, data in facts.assertions(of)
        ),
        thumbnail=_thumbnail(label, of, pictures),
    )


def _action(action: Mapping[str, Any]) -> Action:
    agent = action.get("softwareAgent")
    name = facts.mapping(agent).get("name") if isinstance(agent, dict) else agent
    return Action(
        action=str(action.get("action") or ""),
        when=str(action.get("when") or ""),
        source_type=str(action.get("digitalSourceType") or "").rsplit("/", 1)[-1],
        agent=str(name or ""),
        description=str(action.get("description") or ""),
    )


def _ingredient(label: str, item: Mapping[str, Any], pictures: Mapping[str, Picture]) -> Ingredient:
    return Ingredient(
        title=str(item.get("title") or "untitled"),
        relationship=str(item.get("relationship") or ""),
        media_type=str(item.get("format") or ""),
        manifest=str(item.get("active_manifest") or ""),
        failures=facts.ingredient_failures(item),
        thumbnail=_thumbnail(label, item, pictures),
    )


def _thumbnail(
    label: str, of: Mapping[str, Any], pictures: Mapping[str, Picture]
) -> Picture | None:
    """The picture that a reference names; one without a manifest's label is in the manifest itself."""
    name = str(facts.mapping(of.get("thumbnail")).get("identifier") or "")
    tail = name.rpartition("/")[2]
    inside = next(
        (other for other in {k.partition(" ")[0] for k in pictures} if other in name), label
    )
    return pictures.get(f"{inside} {tail}")


def _data(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, indent=2, ensure_ascii=True, default=str)
    more = len(text) - _MAX_DATA
    return text if more <= 0 else f"{text[:_MAX_DATA]}\n… and {more} more characters"


def _certificate(certificate: x509.Certificate) -> Certificate:
    return Certificate(
        subject=chains.name_of(certificate),
        issuer=_issuer(certificate),
        serial=f"{certificate.serial_number:X}",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=_moment(certificate.not_valid_before_utc),
        not_after=_moment(certificate.not_valid_after_utc),
    )


def _issuer(certificate: x509.Certificate) -> str:
    try:
        return certificate.issuer.rfc4514_string()
    except chains.BROKEN:
        return "an issuer whose name cannot be read"


def _moment(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _statuses(document: facts.Document) -> tuple[Status, ...]:
    return tuple(
        Status(
            kind=kind,
            code=str(item.get("code", "")),
            of=str(item.get("url", "")),
            explanation=str(item.get("explanation", "")),
        )
        for kind in _KINDS
        for item in facts.statuses(document, kind)
    )


def name(path: Path) -> str:
    """A file's name as text that any file can hold."""
    return shown(unicode(path.name))
