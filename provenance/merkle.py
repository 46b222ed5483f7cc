"""The Merkle tree of RFC 9162, section 2.1 (that of RFC 6962): roots, proofs, and checking them."""

import hashlib
from collections.abc import Sequence

EMPTY = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in order (section 2.1.1)."""
    level = list(leaves)
    if not level:
        return EMPTY
    while len(level) > 1:
        level = _above(level)
    return level[0]


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from leaf `index`, in 0..len(leaves) - 1, to the root (section 2.1.3.1)."""
    path, level = [], list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):  # the last of an odd level has none and rises by itself
            path.append(level[sibling])
        level, index = _above(level), index >> 1
    return path


def consistency_path(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """What shows that the first `old` of the leaves (1 or more) were the old tree (section 2.1.4.1)."""
    path: list[bytes] = []
    whole, part = True, list(leaves)
    rest: list[list[bytes]] = []
    while old != len(part):
        split = 1 << ((len(part) - 1).bit_length() - 1)  # the largest power of two below
        if old <= split:
            rest.append(part[split:])
            part = part[:split]
        else:
            rest.append(part[:split])
            part, old, whole = part[split:], old - split, False
    if not whole:
        path.append(tree_root(part))
    return path + [tree_root(other) for other in reversed(rest)]


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `leaf` is the hash at `index` of the tree of `size` and `root` (section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def consistent(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the tree of `new` leaves begins with that of `old` leaves (section 2.1.4.2).

    Every tree begins with the empty one and with itself, of which the path is empty.
    """
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not path and old_root == (new_root if old == new else EMPTY)
    nodes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not nodes:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = nodes[0]
    for c in nodes[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return fr == old_root and sr == new_root and sn == 0


def _above(level: list[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256
    pairs = zip(level[::2], level[1::2], strict=False)
    made = [sha256(b"\1" + left + right).digest() for left, right in pairs]
    if len(level) & 1:
        made.append(level[-1])
    return made
