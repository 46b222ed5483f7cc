"""One range of bytes that no hash and no signature covers."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class FreeRange:
    """Bytes start to end of the file, or of the manifest store where its place is not known.

    zero: all of them are zero, as padding must be. known: the standard leaves them out and they have
    a meaning of their own, such as a time stamp, which is signed itself.
    """

    start: int
    end: int
    what: str
    zero: bool
    known: bool = False
    place: Literal["store", "file"] = "store"

    @property
    def explained(self) -> bool:
        return self.zero or self.known
