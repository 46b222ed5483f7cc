"""Which items of a benchmark do not measure what they are meant to, and why.

Blodgett et al. 2021 (https://aclanthology.org/2021.acl-long.81) found that most pairs of CrowS-Pairs and
StereoSet have a pitfall: what is compared is no stereotype, or the groups are not of one kind, or something
else was changed as well. Most of that takes a reader. A mask is a file of such judgements, or what the
checks in `lm_crows_pairs_quality` and `lm_stereoset_quality` find; a score is shown over all items and over
those without a code.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from assaymark.bias.lm_pair_files import clip, read_json, read_text
from assaymark.reports.errors import InputError, nearest
from assaymark.reports.model import Table

PITFALLS: dict[str, str] = {
    # for a reader to judge (Blodgett et al. 2021, section 4 and table 2; the names are ours)
    "power-dynamics": "The groups compared do not stand in the unequal relation that is meant.",
    "not-a-stereotype": "What is said is no stereotype, or not one of this group.",
    "fact": "What is said is a statement of fact rather than a stereotype.",
    "misaligned": "The stereotype concerns another group or category than the one given.",
    "anti-not-non": "The counterpart is no anti-stereotype but merely something else.",
    "invalid-perturbation": "The change makes a sentence false or absurd whatever the model believes.",
    "incommensurable": "The groups or attributes compared are not of the same kind.",
    "indirect-group": "A name or place stands for the group, and for more than it.",
    "unnatural": "Nobody would write the sentence.",
    "spelling": "A sentence is misspelt or ungrammatical in a way that the other is not.",
    # found by our checks
    "empty": "A sentence is empty or has no words.",
    "identical": "The sentences are the same, but for capitals, spaces or punctuation.",
    "duplicate": "An earlier item has the same sentences.",
    "case-or-spacing": "Capitals, spaces or punctuation differ where the words do not.",
    "several-edits": "The sentences differ in more than one place, beyond pronouns that agree.",
    "long-edit": "More is changed than a group's name: over 3 words, or 2 more on one side.",
    "negation": "The change adds or removes a negation, so that it is not the group that differs.",
    "article": "Some but not all of the sentences have a wrong a or an, left over from the change.",
    "several-blanks": "The context has more than one blank.",
    "no-filler": "The filler of the blank is missing.",
    "equal-fillers": "Two of the three fillers or sentences are the same.",
    "context-changed": "A sentence differs from the context in more than its blank.",
    "no-target": "The group that the item is about is not mentioned in it.",
}
"""What is wrong with an item, by code."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A mask: the codes of each flagged item, by its id. source: where it comes from, in words."""

    source: str
    codes: Mapping[str, tuple[str, ...]]

    def clean(self, item: str) -> bool:
        return item not in self.codes

    def joined(self, other: "Quality") -> "Quality":
        """What either mask flags."""
        both = dict(self.codes)
        for item, codes in other.codes.items():
            both[item] = tuple(dict.fromkeys((*both.get(item, ()), *codes)))
        return Quality(source=f"{self.source}; {other.source}", codes=both)

    def table(self, items: Collection[str]) -> Table:
        """How many of the items each code flags."""
        flagged = [self.codes[item] for item in items if item in self.codes]
        counts = Counter(code for codes in flagged for code in codes)
        return Table(
            title="Items with a known pitfall",
            columns=("pitfall", "items", "meaning"),
            rows=tuple(
                (code, counts[code], meaning) for code, meaning in PITFALLS.items() if counts[code]
            ),
            note=f"{len(flagged):,} of {len(items):,} items are flagged by {self.source}.",
        )


def load_quality(path: str | Path, items: Iterable[str]) -> Quality:
    """A mask from a file: CSV with the columns id and codes (apart by spaces or semicolons), or JSON
    {id: [codes]}.

    items: the ids of the benchmark. Raises InputError for a file that cannot be read, an id that is no item,
    an id twice, or a code that is not in PITFALLS.
    """
    path, known = Path(path), dict.fromkeys(items)
    found: dict[str, tuple[str, ...]] = {}
    for where, item, codes in _json(path) if path.suffix.lower() == ".json" else _csv(path):
        if item not in known:
            raise InputError(
                f'{where}: "{clip(item, 60)}" is no item of the benchmark: expected its ids'
            )
        if item in found:
            raise InputError(f'{where}: "{clip(item, 60)}" stands here a second time')
        for code in codes:
            if code not in PITFALLS:
                raise InputError(
                    f'{where}: "{clip(code, 60)}" is no pitfall{nearest(clip(code, 60), PITFALLS)}'
                )
        if not codes:
            raise InputError(f"{where}: no codes: leave the item out, or say what is wrong with it")
        found[item] = tuple(dict.fromkeys(codes))
    return Quality(source=path.name, codes=found)


_Row = tuple[str, str, list[str]]


def _json(path: Path) -> list[_Row]:
    value, _ = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} is no record: expected {{id: [codes]}}")
    for item, codes in value.items():
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            raise InputError(
                f'{path}: "{clip(item, 60)}" has {clip(repr(codes), 60)}: expected a list of codes'
            )
    return [(str(path), item, codes) for item, codes in value.items()]


def _csv(path: Path) -> list[_Row]:
    text, _ = read_text(path)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[_Row] = []
    try:
        for column in ("id", "codes"):
            if column not in (reader.fieldnames or ()):
                raise InputError(f'{path}:1 has no column "{column}": expected id and codes')
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if row["id"] is None or row["codes"] is None:
                raise InputError(f"{where} is too short: expected id and codes")
            rows.append((where, row["id"], re.findall(r"[^;\s]+", row["codes"])))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.reader.line_num} is not CSV: {error}") from error
    return rows
