"""The shards of an evaluation in order, whoever attacks them; finished ones can be kept."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from assaymark.robustness.shard import Shard
from assaymark.robustness.shard_bytes import pack, unpack
from assaymark.robustness.workers import as_finished


@runtime_checkable  # tests check argument types
class Keep(Protocol):
    """Where finished shards are kept, so that the same run goes on where it stopped."""

    def load(self, number: int) -> bytes | None: ...

    def save(self, number: int, content: bytes) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Shards:
    """How many processes attack side by side, and where finished shards are kept.

    The verdict depends on neither.
    """

    workers: int = 1
    keep: Keep | None = None

    def in_order(
        self, attack: Callable[[int], Shard], sizes: list[int]
    ) -> Generator[Shard, None, None]:
        """What becomes of each shard; close it to leave out the rest. sizes: their points.

        Raises InputError as `as_finished` does.
        """
        finished = {
            number: shard
            for number, size in enumerate(sizes)
            if (shard := self._kept(number)) is not None and len(shard.correct) == size
        }
        missing = [number for number in range(len(sizes)) if number not in finished]
        with closing(
            as_finished(lambda number: pack(attack(number)), missing, workers=self.workers)
        ) as fresh:
            for number in range(len(sizes)):
                while number not in finished:
                    done, content = next(fresh)
                    if self.keep is not None:
                        self.keep.save(done, content)
                    shard = unpack(content)
                    assert shard is not None
                    finished[done] = shard
                yield finished.pop(number)

    def _kept(self, number: int) -> Shard | None:
        content = self.keep.load(number) if self.keep is not None else None
        return None if content is None else unpack(content)
