"""Token sequences with common beginnings, laid out so that one forward pass reads each beginning once.

The sequences are sorted, which puts those that share most side by side, and cut into packs of a bounded
number of tokens where neighbours share least. A pack is a trie in preorder: a token attends to itself and
to its ancestors, which is a 4-D attention mask, and its position is its depth. (Tree attention, SpecInfer,
https://arxiv.org/abs/2305.09781, section 4.2.)
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy

Ids = Sequence[int]
Ints = numpy.ndarray[tuple[int], numpy.dtype[numpy.int64]]
_PER_PACK = 2
"""A pack costs about as much as this many tokens: of two ways to cut that share alike, the one with fewer."""


@dataclass(frozen=True, eq=False)
class Pack:
    """A trie of tokens in preorder.

    ids, depths, parents, ends: of each token its id, its position in a text, the place of the token before
    it (-1 for none) and the place after its last descendant. last: of each sequence (by its number in
    what was packed) the place of its last token.
    """

    ids: Ints
    depths: Ints
    parents: Ints
    ends: Ints
    last: dict[int, int]

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, sequence: int, count: int) -> list[int]:
        """The places of the last `count` tokens of a sequence, in the order of the text."""
        place, places = self.last[sequence], []
        for _ in range(count):
            places.append(place)
            place = int(self.parents[place])
        return places[::-1]


def packs(sequences: Sequence[Ids], budget: int) -> list[Pack]:
    """All sequences in packs of at most `budget` tokens, or of a single longer sequence.

    Budget 0 gives texts as they are: only a sequence that another one begins with is not repeated.
    Which sequences are asked for decides, not their order.
    """
    order = sorted(range(len(sequences)), key=lambda at: _sortable(sequences[at]))
    ordered = [sequences[at] for at in order]
    shared = [_common(*pair) for pair in zip([(), *ordered], ordered, strict=False)]
    cuts = [*_cuts([len(one) for one in ordered], shared, budget), len(ordered)]
    return [
        _pack(ordered[start:end], shared[start:end], order[start:end])
        for start, end in pairwise(cuts)
    ]


def _sortable(ids: Ids) -> bytes:
    """Bytes that compare as the ids do."""
    return numpy.asarray(ids, dtype=">u4").tobytes()


def _common(left: Ids, right: Ids) -> int:
    """How many tokens two sequences have in common from the beginning."""
    count = min(len(left), len(right))
    if left[:count] == right[:count]:
        return count
    low = 0  # they agree on low tokens and differ within count
    while count - low > 1:
        middle = (low + count) // 2
        low, count = (middle, count) if left[low:middle] == right[low:middle] else (low, middle)
    return low


def _cuts(lengths: Sequence[int], shared: Sequence[int], budget: int) -> list[int]:
    """Where packs begin, so that the fewest tokens are computed: the shared ones at cuts are repeated.

    A pack from `start` to `end` has shared[start] tokens more than the tokens that are new between them, so
    the least cost up to an end is a sliding minimum over the starts that the budget allows.
    """
    cost, before = [0], [0]  # the least repeated up to here; new tokens up to here
    chosen: list[int] = []
    starts: deque[int] = deque()  # those that may still be best, by increasing cost
    lowest = 0

    def repeated(start: int) -> int:
        return cost[start] + shared[start] + _PER_PACK

    for end, length in enumerate(lengths):
        while starts and repeated(starts[-1]) >= repeated(end):
            starts.pop()
        starts.append(end)
        before.append(before[-1] + length - shared[end])
        room = max(budget, length)  # a longer one stands alone, or with what it begins with
        while before[-1] - before[lowest] + shared[lowest] > room:
            lowest += 1
        while starts[0] < lowest:
            starts.popleft()
        chosen.append(starts[0])
        cost.append(repeated(starts[0]))
    cuts, end = [], len(lengths)
    while end:
        end = chosen[end - 1]
        cuts.append(end)
    return cuts[::-1]


def _pack(sequences: Sequence[Ids], shared: Sequence[int], numbers: Sequence[int]) -> Pack:
    ids: list[int] = []
    depths: list[int] = []
    parents: list[int] = []
    ends: list[int] = []
    last: dict[int, int] = {}
    path: list[int] = []
    for place, (sequence, number) in enumerate(zip(sequences, numbers, strict=True)):
        common = shared[place] if place else 0
        for done in path[common:]:
            ends[done] = len(ids)
        del path[common:]
        for depth in range(common, len(sequence)):
            parents.append(path[-1] if path else -1)
            path.append(len(ids))
            ids.append(sequence[depth])
            depths.append(depth)
            ends.append(0)
        last[number] = path[-1]
    for done in path:
        ends[done] = len(ids)
    return Pack(_ints(ids), _ints(depths), _ints(parents), _ints(ends), last)


def _ints(values: list[int]) -> Ints:
    return numpy.array(values, dtype=numpy.int64)
