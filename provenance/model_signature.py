"""Detached signatures over folders of weights or data, as OpenSSF model signing 1.0 has them.

`model_signing verify` accepts what is signed here and the other way round. The standard knows ECDSA
on P-256, P-384 and P-521 (es256, es384, es512) and none of our other algorithms.
"""

import datetime as dt
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm

from assaymark.provenance.folder_manifest import (
    GIT,
    HASHES,
    File,
    Links,
    Listing,
    flaw,
    hash_files,
    list_folder,
)
from assaymark.provenance.folder_memory import memory_path, recall, remember
from assaymark.provenance.keys import Credentials
from assaymark.provenance.oms_bundle import (
    Bundle,
    FolderClaims,
    allowed,
    check_algorithm,
    hint_of,
    make_bundle,
    make_statement,
    read_bundle,
    read_claims,
)
from assaymark.provenance.raw_signature import PublicKey, leaf_certificate, read_public_key
from assaymark.provenance.signer_chain import Signer, judge_signer
from assaymark.provenance.verify import State
from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.files import check_writable, unicode, write_atomically

Parts = Sequence[tuple[str, bytes]]
_NAMED = 3  # files an explanation names


@dataclass(frozen=True, kw_only=True)
class FolderSignature:
    """What was signed. root: the digest of the folder. reused: files that were not hashed again."""

    signature: Path
    root: str
    files: int
    size: int
    reused: int = 0
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FolderVerification:
    """What a folder is worth beside its signature; names are paths from the folder.

    files: how many the signature lists. unhashed: what could not be read, with the reason.
    uncovered: what lies there and nobody vouches for by the rules of the signature: ignored paths,
    and empty files of a sharded signature. root: the digest of the folder, once the signature holds.
    """

    folder: Path
    signature: Path
    state: State
    explanation: str
    signer: Signer | None = None
    root: str = ""
    files: int = 0
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    unhashed: tuple[tuple[str, str], ...] = ()
    uncovered: tuple[str, ...] = ()


def sign_folder(
    folder: Path,
    signature: Path,
    credentials: Credentials,
    *,
    ignore: Iterable[str] = GIT,
    links: Links = Links.REFUSE,
    algorithm: str = "sha256",
    shard_size: int | None = None,
    bare_key: bool = False,
    workers: int | None = None,
    previous: Path | None = None,
    memory: bool = False,
) -> FolderSignature:
    """Sign every file below `folder`, or one file, and write the bundle to `signature`.

    ignore: paths from the folder that are left out, and listed as such in the signature; the
    signature itself always is. links: what to do with symbolic links to files. algorithm: sha256,
    or blake2b. shard_size: bytes of the parts that large files are hashed in, side by side; the
    standard then leaves empty files out. bare_key: carry no certificate, only a digest of the key.
    workers: files read at a time. memory: write beside the signature how the files look, for
    `previous`: an earlier signature of this folder, whose digests are taken for files that look as
    they did then (`folder_memory` says at what risk).

    Raises InputError when there is nothing to sign, a file cannot be hashed or changes meanwhile, or
    the algorithm is not one of the standard's; nothing is written then.
    """
    check_algorithm(credentials)
    if algorithm not in HASHES:
        raise InputError(f'unknown digest "{algorithm}": expected {" or ".join(HASHES)}')
    if shard_size is not None and shard_size < 1:
        raise InputError(f"a shard has {shard_size} bytes: expected 1 or more")
    check_writable(signature)
    started = time.time_ns()
    own = _own_names(folder, signature)
    left_out = tuple(dict.fromkeys((*ignore, *own)))
    listing = list_folder(folder, ignore=left_out, links=links)
    _check_signable(folder, listing, shard_size)
    claims = FolderClaims(
        name=unicode(folder.resolve().name),
        root="",
        algorithm=algorithm,
        shard_size=shard_size,
        allows_links=links is not Links.REFUSE,
        ignore=left_out,
        parts={},
    )
    known = {} if previous is None else _known(previous, claims, credentials, listing.files)
    parts = _hashed(folder, listing.files, known, claims, workers)
    claims = replace(claims, parts=parts)
    if not any(parts.values()):
        raise InputError(f"{folder} holds no file to sign: expected at least one that is not empty")
    statement = make_statement(claims)
    data = make_bundle(statement, credentials, bare_key=bare_key)
    write_atomically(signature, data)
    if memory or previous is not None:
        remember(signature, hashlib.sha256(data).hexdigest(), listing.files, started)
    return FolderSignature(
        signature=signature,
        root=read_claims(statement).root,
        files=len(listing.files),
        size=sum(file.size for file in listing.files),
        reused=len(known),
        ignored=tuple(name for name in listing.ignored if name not in own),
    )


def verify_folder(
    folder: Path,
    signature: Path,
    trust_anchors_pem: str = "",
    *,
    public_key_pem: str | None = None,
    ignore: Iterable[str] = (),
    links: Links = Links.REFUSE,
    allow_added: bool = False,
    accept_expired: bool = False,
    at: dt.datetime | None = None,
    workers: int | None = None,
) -> FolderVerification:
    """The state of a folder; never raises for what the folder or the signature holds.

    trust_anchors_pem: certificates that a signer's chain may end in. public_key_pem: a key that is
    trusted by itself, and needed for a signature made with a bare key. ignore: paths from the folder
    beside those the signer left out. links: as for signing; a link is never followed only because
    the signature says so. allow_added: files the signer did not list are no fault. A signature does
    not say when it was made, so certificates must be valid now, or `at` that time; accept_expired:
    at the start of the signer's own validity instead, as the standard's own tool does.

    Raises InputError when the anchors or the public key are not PEM.
    """
    key = None if public_key_pem is None else read_public_key(public_key_pem)
    blank = FolderVerification(
        folder=folder, signature=signature, state=State.UNREADABLE, explanation=""
    )
    try:
        bundle = read_bundle(signature)
    except InputError as error:
        return replace(blank, explanation=f"cannot read the signature: {error}")
    found = _signer_key(bundle, key)
    if isinstance(found, str):
        return replace(blank, explanation=found)
    if not allowed(found):
        return replace(
            blank,
            state=State.INVALID,
            explanation="signed with a key that the standard does not allow: expected ECDSA",
        )
    if not bundle.envelope.holds(found, bundle.envelope.signatures[0].signature):
        return replace(
            blank, state=State.INVALID, explanation="the signature does not hold for its statement"
        )
    try:
        claims = read_claims(bundle.envelope.payload)
        listing = list_folder(
            folder, ignore=(*claims.ignore, *ignore, *_own_names(folder, signature)), links=links
        )
    except InputError as error:
        return replace(blank, explanation=f"the signature holds, but {error}")
    signer = _judged(bundle, trust_anchors_pem, key, at, accept_expired)
    compared = _compare(blank, claims, listing, workers)
    return _concluded(replace(compared, signer=signer), allow_added)


def must_verify_folder(
    folder: Path, signature: Path, trust_anchors_pem: str = "", *, public_key_pem: str | None = None
) -> FolderVerification:
    """The verification of a folder that is trusted; raises IntegrityError for any other state."""
    found = verify_folder(folder, signature, trust_anchors_pem, public_key_pem=public_key_pem)
    if found.state is not State.TRUSTED:
        raise IntegrityError(f"{folder} is {found.state}: {found.explanation}")
    return found


def _own_names(folder: Path, signature: Path) -> tuple[str, ...]:
    """The signature and its memory as names from the folder, where they lie in it."""
    root = folder.resolve()
    names = []
    for path in (signature, memory_path(signature)):
        place = path.parent.resolve() / path.name
        if place != root and place.is_relative_to(root):
            names.append(place.relative_to(root).as_posix())
    return tuple(names)


def _check_signable(folder: Path, listing: Listing, shard_size: int | None) -> None:
    for name, reason in listing.refused.items():
        more = f" (and {len(listing.refused) - 1} more)" if len(listing.refused) > 1 else ""
        raise InputError(f"cannot sign {folder}: {shown(name)} {reason}{more}; or ignore it")
    for file in listing.files:
        if flaw(file.name) or (shard_size is not None and ":" in file.name):
            raise InputError(
                f"cannot sign {folder}: the name {shown(file.name)} cannot be written down in a "
                "signature of this kind, rename it"
            )


def _hashed(
    folder: Path,
    files: Sequence[File],
    known: Mapping[str, Parts],
    claims: FolderClaims,
    workers: int | None,
) -> dict[str, Parts]:
    fresh = [file for file in files if file.name not in known]
    made: dict[str, Parts] = {}
    for file, parts in hash_files(
        fresh, algorithm=claims.algorithm, shard_size=claims.shard_size, workers=workers
    ):
        if isinstance(parts, str):
            raise InputError(f"cannot sign {folder}: {shown(file.name)} {parts}")
        made[file.name] = parts
    return {
        file.name: known.get(file.name) or made.get(file.name, ())  # an empty file has no shard
        for file in files
    }


def _known(
    previous: Path, claims: FolderClaims, credentials: Credentials, files: Sequence[File]
) -> dict[str, Parts]:
    """Digests of an earlier signature by the same key, of files that look as they did."""
    bundle = read_bundle(previous)
    key = leaf_certificate(credentials).public_key()
    if not bundle.envelope.holds(key, bundle.envelope.signatures[0].signature):
        raise InputError(
            f"{previous} was not signed with this key, so its digests are not taken over: "
            "sign without it"
        )
    old = read_claims(bundle.envelope.payload)
    if (old.algorithm, old.shard_size) != (claims.algorithm, claims.shard_size):
        return {}
    seen = recall(previous, hashlib.sha256(previous.read_bytes()).hexdigest())
    return {
        file.name: old.parts[file.name]
        for file in files
        if file.name in old.parts and seen.get(file.name) == file.identity
    }


def _signer_key(bundle: Bundle, key: PublicKey | None) -> object | str:
    """The key to verify with, or why there is none."""
    if bundle.certificates:
        try:
            return bundle.certificates[0].public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            return f"the key in the signer's certificate cannot be read: {error}"
    if key is None:
        return "signed with a bare key that it does not carry: give the signer's public key"
    if bundle.hint and bundle.hint != hint_of(key):
        return (
            f"signed with another key (SHA-256 {bundle.hint[:16]}…) than the public key that was "
            f"given (SHA-256 {hint_of(key)[:16]}…)"
        )
    return key


def _judged(
    bundle: Bundle,
    trust_anchors_pem: str,
    key: PublicKey | None,
    at: dt.datetime | None,
    accept_expired: bool,
) -> Signer:
    given = key is not None and (
        not bundle.certificates or bundle.certificates[0].public_key() == key
    )
    if given:
        return Signer(name="the holder of the given key", fingerprint=hint_of(key))
    if accept_expired:
        at = bundle.certificates[0].not_valid_before_utc
    return judge_signer(bundle.certificates, trust_anchors_pem, at=at)


def _compare(
    blank: FolderVerification, claims: FolderClaims, listing: Listing, workers: int | None
) -> FolderVerification:
    present = {file.name for file in listing.files}
    signed = [file for file in listing.files if file.name in claims.parts]
    refused = {name for name in listing.refused if _signed_at_or_below(name, claims)}
    changed, unhashed = [], {name: listing.refused[name] for name in refused}
    for file, parts in hash_files(
        signed, algorithm=claims.algorithm, shard_size=claims.shard_size, workers=workers
    ):
        if isinstance(parts, str):
            unhashed[file.name] = parts
        elif parts != list(claims.parts[file.name]):
            changed.append(file.name)
    sharded = claims.shard_size is not None
    # a file that was cut to nothing has no shard to hash
    changed += [file.name for file in signed if sharded and not file.size]
    extra = [file for file in listing.files if file.name not in claims.parts]
    return replace(
        blank,
        root=claims.root,
        files=len(claims.parts),
        changed=tuple(changed),
        missing=tuple(n for n in claims.parts if n not in present and n not in listing.refused),
        added=(
            *(file.name for file in extra if file.size or not sharded),
            *(name for name in listing.refused if name not in refused),
        ),
        unhashed=tuple(sorted(unhashed.items())),
        uncovered=listing.ignored + tuple(file.name for file in extra if sharded and not file.size),
    )


def _signed_at_or_below(name: str, claims: FolderClaims) -> bool:
    return name in claims.parts or any(one.startswith(f"{name}/") for one in claims.parts)


def _concluded(found: FolderVerification, allow_added: bool) -> FolderVerification:
    signer = found.signer
    assert signer is not None
    faults = [
        text
        for text in (
            _count(found.changed, "changed"),
            _count(found.missing, "missing"),
            "" if allow_added else _count(found.added, "added"),
            _count([f"{name}: {why}" for name, why in found.unhashed], "not to be hashed"),
        )
        if text
    ]
    who = shown(signer.name)
    if faults:
        state, said = State.INVALID, f"not as {who} signed it: {'; '.join(faults)}"
    elif signer.trusted:
        state, said = State.TRUSTED, f"all {found.files} files are as {who} signed them"
    else:
        state = State.UNTRUSTED
        said = f"all {found.files} files are as signed, but {shown(signer.reason)}"
    if allow_added and found.added:
        said += f"; {_count(found.added, 'added since')}"
    return replace(found, state=state, explanation=said)


def _count(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > _NAMED else ""
    return f"{len(names)} {what} ({', '.join(map(shown, names[:_NAMED]))}{more})"


def shown(name: str) -> str:
    r"""A name on one line: what does not print is spelled out.

    >>> shown("a\nb"), shown("weights.bin")
    ('a\\nb', 'weights.bin')
    """
    name = unicode(name)
    return name if name.isprintable() else name.encode("unicode_escape").decode()
