"""The tree against the published vectors of Certificate Transparency, and every mutated proof."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assaymark.provenance.merkle import (
    consistency_path,
    consistent,
    includes,
    inclusion_path,
    leaf_hash,
    node_hash,
    tree_root,
)

# Certificate Transparency's reference tree: eight inputs, the root at every size, some proofs
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
INPUTS += ["606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
PATHS = [(0, 1, []), (0, 8, [A, B, C]), (5, 8, [D, E, ROOTS[4]]), (2, 3, [ROOTS[2]])]
PATHS += [(1, 5, [ROOTS[1], B, D])]
CONSISTENCY = [(1, 1, []), (1, 8, [A, B, C]), (6, 8, [F, E, ROOTS[4]]), (2, 5, [B, D])]
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert tree_root(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_published_inclusion_paths(index: int, size: int, path: list[str]) -> None:
    assert [one.hex() for one in inclusion_path(LEAVES[:size], index)] == path


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_published_consistency_paths(old: int, new: int, path: list[str]) -> None:
    assert [one.hex() for one in consistency_path(LEAVES[:new], old)] == path


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word by word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(by_definition(leaves[:k]), by_definition(leaves[k:]))


def numbered(size: int) -> list[bytes]:
    return [leaf_hash(str(index).encode()) for index in range(size)]


def test_every_proof_of_every_index_and_size_verifies() -> None:
    for size in range(1, 34):
        leaves = numbered(size)
        root = tree_root(leaves)
        assert root == by_definition(leaves)
        for index in range(size):
            path = inclusion_path(leaves, index)
            assert includes(leaves[index], index, size, path, root)
            for other in range(size + 2):
                assert includes(leaves[index], other, size, path, root) == (other == index)
        for old in range(1, size + 1):
            old_root = tree_root(leaves[:old])
            path = consistency_path(leaves, old)
            assert consistent(old, size, old_root, root, path)
            assert old == size or not consistent(old, size, root, root, path)


Mutated = tuple[list[bytes], bool]


@st.composite
def mutated(draw: st.DrawFn, path: list[bytes]) -> list[bytes]:
    """The path with one hash changed, put in, taken out or moved."""
    changed = list(path)
    at = draw(st.integers(0, len(path)))
    if at == len(path) or draw(st.booleans()):
        changed.insert(at, draw(st.binary(min_size=32, max_size=32)))
    elif draw(st.booleans()):
        del changed[at]
    else:
        flipped = bytearray(changed[at])
        flipped[draw(st.integers(0, 31))] ^= draw(st.integers(1, 255))
        changed[at] = bytes(flipped)
    return changed


@given(data=st.data(), size=st.integers(1, 200))
def test_every_mutated_inclusion_proof_fails(data: st.DataObject, size: int) -> None:
    leaves = numbered(size)
    index = data.draw(st.integers(0, size - 1))
    path, root = inclusion_path(leaves, index), tree_root(leaves)
    changed = data.draw(mutated(path))
    assert includes(leaves[index], index, size, path, root)
    assert not includes(leaves[index], index, size, changed, root)
    assert not includes(leaf_hash(b"other"), index, size, path, root)
    # the size stands in the signed head beside the root: the shape alone does not fix it
    assert not includes(leaves[index], index + size, size, path, root)
    assert not includes(leaves[index], -1, size, path, root)


@given(data=st.data(), new=st.integers(2, 200))
def test_every_mutated_consistency_proof_fails(data: st.DataObject, new: int) -> None:
    leaves = numbered(new)
    old = data.draw(st.integers(1, new - 1))
    roots = tree_root(leaves[:old]), tree_root(leaves)
    path = consistency_path(leaves, old)
    assert consistent(old, new, *roots, path)
    assert not consistent(old, new, *roots, data.draw(mutated(path)))
    assert not consistent(old, new, roots[1], roots[0], path)
    rewritten = [leaf_hash(b"other"), *leaves[1:]]
    assert not consistent(
        old, new, roots[0], tree_root(rewritten), consistency_path(rewritten, old)
    )


def test_the_empty_tree_is_the_beginning_of_every_tree_and_of_nothing_else() -> None:
    leaves = numbered(3)
    root, empty = tree_root(leaves), tree_root([])
    assert consistent(0, 3, empty, root, [])
    assert not consistent(0, 3, root, root, [])
    assert not consistent(0, 3, empty, root, [root])
    assert not consistent(0, 0, empty, root, [])
    assert not consistent(3, 2, root, root, [])
    assert not includes(leaves[0], 0, 0, [], empty)
