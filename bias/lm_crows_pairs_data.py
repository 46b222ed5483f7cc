"""CrowS-Pairs as published: pairs of sentences, one of which fits a stereotype better (Nangia et al. 2020).

Any file of the same columns is read: the official CSV, its revised edition, and those of other languages
(Névéol et al. 2022), comma or tab separated. Text of CrowS-Pairs is CC BY-SA 4.0; none is shipped here.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assaymark.bias.lm_pair_files import LONGEST_TEXT, clip, read_text
from assaymark.reports.errors import InputError, nearest

COLUMNS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
EDITIONS = {
    "dfb36986ce0502abbaf7055b9176da3d08d48e07df1251991b5dfbcbceab9d0c": "official 1,508 rows, commit 8aaac11",
}
"""By SHA-256 of the file."""
_IDS = ("", "id", "index", "idx", "pair_id")
Direction = Literal["stereo", "antistereo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """more: the sentence that fits the stereotype better. less: the other, about another group.

    direction: whether the pair states a stereotype about a disadvantaged group, or violates it.
    writer: who wrote it, "" where the file does not say.
    """

    id: str
    more: str
    less: str
    direction: Direction
    category: str
    writer: str = ""

    @property
    def cluster(self) -> str:
        """Pairs by one writer belong together; one whose writer is not known stands alone."""
        return f"writer {self.writer}" if self.writer else f"row {self.id}"


@dataclass(frozen=True, kw_only=True)
class CrowsPairs:
    """The pairs of a file. revision: which edition it is, in words."""

    name: str
    sha256: str
    revision: str
    pairs: tuple[Pair, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(sorted({pair.category for pair in self.pairs}))


def load_crows_pairs(path: str | Path) -> CrowsPairs:
    """The pairs of a CSV or TSV file, unchanged.

    Raises InputError, with the line, for a file that cannot be read, lacks a column, has no rows, has a row
    without a field or of an unknown direction, or the same row id twice.
    """
    path = Path(path)
    text, digest = read_text(path)
    pairs = tuple(_pairs(text, path))
    if not pairs:
        raise InputError(f"{path} has a header but no rows: expected pairs of sentences")
    twice = [one for one, count in Counter(pair.id for pair in pairs).items() if count > 1]
    if twice:
        raise InputError(
            f'{path} has {len(twice)} row ids more than once, such as "{clip(twice[0], 60)}": expected '
            "each row to have its own"
        )
    unknown = f"edition unknown to us, {len(pairs):,} rows"
    return CrowsPairs(
        name=path.name, sha256=digest, revision=EDITIONS.get(digest, unknown), pairs=pairs
    )


def _pairs(text: str, path: Path) -> Iterator[Pair]:
    header = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter="\t" if "\t" in header else ",", strict=True
    )
    try:
        names = reader.fieldnames or []
        for column in COLUMNS:
            if column not in names:
                raise InputError(
                    f'{path}:1 has no column "{column}"{nearest(column, map(clip, names))}: expected a '
                    "file of CrowS-Pairs"
                )
        key = next((name for name in _IDS if name in names), None)
        for number, row in enumerate(reader):
            yield _pair(row, str(number) if key is None else row[key], f"{path}:{reader.line_num}")
    except csv.Error as error:
        raise InputError(f"{path}:{reader.reader.line_num} is not CSV: {error}") from error


def _pair(row: dict[str, str | None], name: str | None, where: str) -> Pair:
    for column in COLUMNS:
        value = row[column]
        if value is None:
            raise InputError(f'{where} ends before "{column}": expected a field for every column')
        if len(value) > LONGEST_TEXT:
            raise InputError(
                f'"{column}" has {len(value):,} characters at {where}: expected a sentence'
            )
    more, less, direction, category = (row[column] or "" for column in COLUMNS)
    if direction not in ("stereo", "antistereo"):
        raise InputError(
            f'"stereo_antistereo" is "{clip(direction, 60)}" at {where}: expected stereo or antistereo'
        )
    if not category or not name:
        raise InputError(f'"bias_type" or the row id is empty at {where}: expected both')
    return Pair(
        id=name,
        more=more,
        less=less,
        direction="stereo" if direction == "stereo" else "antistereo",
        category=clip(category, 100),
        writer=row.get("anon_writer") or "",
    )
