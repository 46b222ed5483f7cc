"""An append-only log of everything signed: nothing can be taken out, changed or put in unseen.

The lines are the leaves of a Merkle tree (RFC 9162). A checkpoint, signed and kept elsewhere, fixes
the tree up to a size; a proof shows offline that one entry is in it. Without a checkpoint only a
change inside the file is found, not a file that was cut off or written anew.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from assaymark.provenance.checkpoint import (
    Checkpoint,
    read_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from assaymark.provenance.dsse import read_json
from assaymark.provenance.keys import Credentials
from assaymark.provenance.log_file import (
    GENESIS,
    LONGEST,
    LogEntry,
    append_lines,
    decode_entry,
    decode_line,
    entry_flaw,
    plain,
    read_lines,
    set_aside,
    torn_bytes,
)
from assaymark.provenance.merkle import (
    EMPTY,
    consistency_path,
    consistent,
    includes,
    inclusion_path,
    leaf_hash,
    tree_root,
)
from assaymark.provenance.signer_chain import Signer
from assaymark.reports.errors import InputError, IntegrityError
from assaymark.reports.files import write_atomically

_PROOF = "assaymark-log-proof-1"
_MOST_FAULTS = 100


@dataclass(frozen=True, kw_only=True)
class LogFault:
    """What is wrong with a log. index: of the entry, None when it is the log as a whole."""

    index: int | None
    text: str


@dataclass(frozen=True, kw_only=True)
class LogCheck:
    """What checking a log said. torn: bytes after the last whole line, which are no entry; the next
    append moves them to a file beside the log. set_aside: files with such bytes from before.
    against: the checkpoint's size, None when there was none to hold the log against."""

    log: Path
    size: int
    root: bytes
    faults: tuple[LogFault, ...] = ()
    torn: int = 0
    set_aside: tuple[Path, ...] = ()
    against: int | None = None

    @property
    def holds(self) -> bool:
        return not self.faults


@dataclass(frozen=True, kw_only=True)
class ProvenEntry:
    """An entry that is shown to be in the log of a signed head."""

    entry: LogEntry
    index: int
    checkpoint: Checkpoint
    signer: Signer


def append(log: Path, entry: LogEntry) -> int:
    """Add one entry and wait until it is on disk; returns its index. Raises as `append_all`."""
    return append_all(log, (entry,))[0]


def append_all(log: Path, entries: Sequence[LogEntry]) -> range:
    """Add entries with one wait for the disk; returns their indices. O(1) in the log's length.

    Raises InputError when the file cannot be written or an entry is malformed, IntegrityError when
    the last line is damaged; nothing is added then.
    """
    for entry in entries:
        if flaw := entry_flaw(plain(entry)):
            raise InputError(f"an entry of the log for {entry.name!r} {flaw}")
    return append_lines(log, entries)


def root(log: Path, size: int | None = None) -> bytes:
    """The root over the first `size` entries, over all without. Raises InputError if it has fewer."""
    return tree_root(_leaves(log, size))


def inclusion_proof(log: Path, index: int, size: int | None = None) -> list[bytes]:
    """The path from entry `index` to the root of the first `size` entries (RFC 9162, 2.1.3).

    O(n): reads the log up to `size`. Raises InputError when there is no such entry.
    """
    leaves = _leaves(log, size)
    if not 0 <= index < len(leaves):
        raise InputError(f"entry {index} is not among the first {len(leaves)} of {log}")
    return inclusion_path(leaves, index)


def consistency_proof(log: Path, old: int, new: int | None = None) -> list[bytes]:
    """What shows that the log of `new` entries begins with that of `old` (RFC 9162, 2.1.4).

    Raises InputError unless 0 <= old <= new <= the entries there are.
    """
    leaves = _leaves(log, new)
    if not 0 <= old <= len(leaves):
        raise InputError(f"{log} has {len(leaves)} entries to compare, asked from {old} on")
    return consistency_path(leaves, old) if old else []


def verify_inclusion(
    line: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Raises IntegrityError unless the log of that size and root has `line` as entry `index`."""
    if not includes(leaf_hash(line), index, size, path, root):
        raise IntegrityError(f"entry {index} is not in the log of {size} entries: the proof fails")


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Raises IntegrityError unless the log of `new` entries begins with that of `old` entries."""
    if not consistent(old, new, old_root, new_root, path):
        raise IntegrityError(
            f"the log of {new} entries does not begin with that of {old}: it was rewritten"
        )


def check(log: Path, checkpoint: Checkpoint | None = None) -> LogCheck:
    """Every entry that was edited, put in, taken out or moved, and whether the log was cut off.

    checkpoint: an earlier head, verified by `verify_checkpoint`; without one an end that was cut off
    and a log that was written anew are not to be seen. Raises InputError when it cannot be read.
    """
    faults: list[LogFault] = []
    leaves: list[bytes] = []
    previous = GENESIS
    for index, line in enumerate(read_lines(log)):
        if (flaw := _line_flaw(line, index, previous)) and len(faults) < _MOST_FAULTS:
            faults.append(LogFault(index=index, text=flaw))
        previous = leaf_hash(line)
        leaves.append(previous)
    if checkpoint is not None:
        faults += _against(leaves, checkpoint)
    return LogCheck(
        log=log,
        size=len(leaves),
        root=tree_root(leaves),
        faults=tuple(faults),
        torn=torn_bytes(log),
        set_aside=set_aside(log),
        against=None if checkpoint is None else checkpoint.size,
    )


def origin_of(log: Path) -> str:
    """The name of a log in checkpoints, from its first entry. Raises InputError when it has none."""
    for line in read_lines(log):
        return f"assaymark.dev/log/{leaf_hash(line).hex()[:32]}"
    raise InputError(f"{log} has no entry, so there is nothing to sign a checkpoint of")


def write_checkpoint(log: Path, out: Path, credentials: Credentials) -> Checkpoint:
    """Sign the head of the log as it is and write the note to `out`.

    A note that is there must be of an earlier head of the same log, which is replaced. Raises
    InputError when the log is empty or a file cannot be used, IntegrityError when the log does not
    hold or no longer begins as it did at the earlier head: two heads that contradict each other are
    never signed.
    """
    earlier = None
    if out.exists():
        earlier, _ = read_checkpoint(_read_text(out))
        if earlier.origin != origin_of(log):
            raise IntegrityError(f"{out} is a checkpoint of another log, {earlier.origin}")
    found = check(log, earlier)
    if found.faults:
        raise IntegrityError(f"{log} does not hold, so its head is not signed: {_first(found)}")
    made = Checkpoint(origin=origin_of(log), size=found.size, root=found.root)
    write_atomically(out, sign_checkpoint(made, credentials))
    return made


def prove(log: Path, file: Path, out: Path, checkpoint: str | None = None) -> int:
    """Write a proof that the log has an entry for `file`, as JSON; returns the entry's index.

    checkpoint: the signed note whose tree the proof leads to, kept in it; without one the proof is
    of the log as it is and needs a checkpoint of that size to be verified. Of several entries for
    the same content the last one counts.

    Raises InputError when a file cannot be read, nothing was logged for it, or the log is shorter
    than the checkpoint.
    """
    size = None if checkpoint is None else read_checkpoint(checkpoint)[0].size
    lines = list(islice(read_lines(log), size))
    digest = _sha256(file)
    index = _last_for(digest, lines, log, file)
    leaves = [leaf_hash(line) for line in lines]
    if size is not None and len(leaves) < size:
        raise InputError(f"{log} has {len(leaves)} entries, the checkpoint {size}: check the log")
    proof = {
        "kind": _PROOF,
        "entry": lines[index].decode(),
        "index": index,
        "size": len(leaves),
        "path": [one.hex() for one in inclusion_path(leaves, index)],
        "checkpoint": checkpoint,
    }
    write_atomically(out, json.dumps(proof, indent=1) + "\n")
    return index


def verify_proof(
    proof: Path,
    file: Path,
    *,
    chain_pem: str,
    trust_anchors_pem: str = "",
    checkpoint: str | None = None,
) -> ProvenEntry:
    """The entry for `file` in the log whose head the leaf of `chain_pem` signed.

    checkpoint: the signed note to hold the proof against; the one in the proof without. Whether an
    anchor vouches for the signer stands in `signer`. Raises InputError when a file is unreadable or
    malformed, IntegrityError when the file, the entry, the path or the signature does not hold.
    """
    found = _read_proof(proof)
    note = found["checkpoint"] if checkpoint is None else checkpoint
    if note is None:
        raise InputError(f"{proof} carries no checkpoint: give the log's signed checkpoint")
    head, signer = verify_checkpoint(note, chain_pem, trust_anchors_pem)
    if head.size != found["size"]:
        raise InputError(
            f"{proof} is of the log with {found['size']} entries, the checkpoint of one with "
            f"{head.size}: make the proof for this checkpoint"
        )
    line = found["entry"].encode()
    entry, told = decode_entry(line), decode_line(line)["index"]
    if told != found["index"]:
        raise IntegrityError(f"{proof} gives entry {told} the place {found['index']}")
    verify_inclusion(line, found["index"], head.size, found["path"], head.root)
    if _sha256(file) != entry.sha256:
        raise IntegrityError(f"{file} is not the file of the entry: its SHA-256 is another")
    return ProvenEntry(entry=entry, index=found["index"], checkpoint=head, signer=signer)


def _leaves(log: Path, size: int | None) -> list[bytes]:
    if size is not None and size < 0:
        raise InputError(f"a log has 0 or more entries, asked for {size}")
    leaves = [leaf_hash(line) for line in islice(read_lines(log), size)]
    if size is not None and len(leaves) < size:
        raise InputError(f"{log} has {len(leaves)} entries, asked for {size}")
    return leaves


def _line_flaw(line: bytes, index: int, previous: bytes) -> str:
    """What is wrong with a line at its place; its own bytes are fixed by the line after it."""
    try:
        found = decode_line(line)
    except InputError as error:
        return str(error)
    if found["index"] != index:
        return f"says it is entry {found['index']}: entries were put in, taken out or moved"
    if found["previous"] != previous.hex():
        return "does not follow the entry before it: that one was changed, or this one put in"
    return ""


def _against(leaves: Sequence[bytes], checkpoint: Checkpoint) -> list[LogFault]:
    if len(leaves) < checkpoint.size:
        told = f"was cut off: {len(leaves)} entries, the checkpoint has {checkpoint.size}"
        return [LogFault(index=None, text=told)]
    known = tree_root(leaves[: checkpoint.size]) if checkpoint.size else EMPTY
    if known != checkpoint.root:
        told = f"its first {checkpoint.size} entries are not those of the checkpoint"
        return [LogFault(index=None, text=told)]
    return []


def _first(found: LogCheck) -> str:
    fault = found.faults[0]
    return fault.text if fault.index is None else f"entry {fault.index} {fault.text}"


def _last_for(digest: str, lines: Sequence[bytes], log: Path, file: Path) -> int:
    needle = f'"sha256":"{digest}"'.encode()
    for index in range(len(lines) - 1, -1, -1):
        if needle in lines[index] and decode_entry(lines[index]).sha256 == digest:
            return index
    raise InputError(
        f"{log} has no entry for {file} (SHA-256 {digest[:16]}…): it was not logged, changed since, "
        "or logged after the checkpoint"
    )


def _read_proof(path: Path) -> dict[str, Any]:
    found, _ = read_json(path, LONGEST * 4)
    if not isinstance(found, dict) or found.get("kind") != _PROOF:
        raise InputError(f'{path} is no proof of a log: expected "kind": "{_PROOF}"')
    try:
        note = found["checkpoint"]
        if not isinstance(found["entry"], str) or not isinstance(note, str | None):
            raise TypeError("entry and checkpoint are text")
        if type(found["index"]) is not int or type(found["size"]) is not int:
            raise TypeError("index and size are whole numbers")
        path_hashes = [bytes.fromhex(one) for one in found["path"]]
        if any(len(one) != 32 for one in path_hashes):
            raise ValueError("a hash of the path has 32 bytes")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is malformed: {error}") from error
    return {**found, "path": path_hashes}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
