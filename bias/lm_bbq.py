"""The Bias Benchmark for QA: its official files, read unchanged (Parrish et al. 2022, arXiv 2110.08193).

A question comes with an ambiguous context, where UNKNOWN is right, and with one that says the answer.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from assaymark.bias.lm_bbq_targets import biased_answer, stereotyped
from assaymark.bias.lm_choice_files import read_text
from assaymark.reports.errors import InputError

UNKNOWN = (
    "Unknown", "Cannot be determined", "Can't be determined", "Not answerable", "Not known",
    "Not enough info", "Not enough information", "Cannot answer", "Can't answer", "Undetermined",
)  # fmt: skip
"""All the ways in which the files write that the context does not say."""
METADATA = "additional_metadata.csv"
_TEXTS = ("category", "context", "question", "ans0", "ans1", "ans2")
_NUMBERS = ("example_id", "question_index")  # some editions have them as texts
_WHAT = "a BBQ file (jsonl, such as Age.jsonl)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question of BBQ. target: the answer that goes with the stereotype, None where that is not known.

    category: as in the file, with " (names)" where people are told by names. template: question_index, which
    items have in common that were made from the same text. predictions: stored answers by column.
    """

    id: str
    category: str
    template: str
    negative: bool
    ambiguous: bool
    context: str
    question: str
    options: tuple[str, str, str]
    label: int
    unknown: int
    target: int | None
    predictions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class BBQ:
    """What was read. digests: SHA-256 of each file by its name."""

    items: tuple[Item, ...]
    digests: Mapping[str, str]

    @property
    def without_target(self) -> int:
        """Questions that count for accuracy only, since no one answer goes with the stereotype."""
        return sum(item.target is None for item in self.items)


def load_bbq(path: str | Path, *, metadata: str | Path | None = None) -> BBQ:
    """BBQ from one official jsonl file, or all those of a folder.

    metadata: the official additional_metadata.csv, by default the one in the folder. It says which answer is
    the target; without it that is derived, which leaves the intersectional files (Race_x_…) without targets.
    Raises InputError, with file and line, of anything that is not as published.
    """
    path = Path(path)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: has no .jsonl file; give the folder or one file of BBQ")
    beside = (path if path.is_dir() else path.parent) / METADATA
    told_by = Path(metadata) if metadata else beside if beside.exists() else None
    rows: list[dict[str, Any]] = []
    digests = {}
    for file in files:
        text, digests[file.name] = read_text(file, _WHAT)
        rows += _rows(file, text)
    targets = {}
    if told_by:
        text, digests[told_by.name] = read_text(told_by, f"BBQ's {METADATA}")
        targets = _told(told_by, text, rows)
    items = tuple(_item(row, targets) for row in rows)
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InputError(f"{path}: question {item.id} is there twice; give each file once")
        seen.add(item.id)
    return BBQ(items=items, digests=digests)


_Key = tuple[str, str, str]


def _rows(file: Path, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not a line of JSON; give {_WHAT}") from error
        _check(where, row)
        yield row


def _check(where: str, row: Any) -> None:
    if not isinstance(row, dict):
        raise InputError(
            f"{where}: a question is a JSON object, got {type(row).__name__}; give {_WHAT}"
        )
    for key in (*_TEXTS, *_NUMBERS):
        if not isinstance(row.get(key), str | int if key in _NUMBERS else str):
            raise InputError(
                f'{where}: "{key}" should be a text, got {row.get(key)!r}; give {_WHAT}'
            )
    for key, known in (
        ("question_polarity", ("neg", "nonneg")),
        ("context_condition", ("ambig", "disambig")),
        ("label", (0, 1, 2)),
    ):
        if row.get(key) not in known:
            raise InputError(f'{where}: "{key}" should be one of {known}, got {row.get(key)!r}')
    info = row.get("answer_info")
    answers: list[Any] = [info.get(f"ans{i}") for i in range(3)] if isinstance(info, dict) else []
    if len(answers) != 3 or any(
        not isinstance(answer, list)
        or len(answer) != 2
        or not all(isinstance(x, str) for x in answer)
        for answer in answers
    ):
        raise InputError(
            f'{where}: "answer_info" should have [text, group] for ans0 to ans2, got {info!r}'
        )
    unknown = [i for i, answer in enumerate(answers) if answer[1] == "unknown"]
    if len(unknown) != 1:
        raise InputError(
            f'{where}: one of the three answers should be "unknown", got {len(unknown)}'
        )
    if (row["label"] == unknown[0]) != (row["context_condition"] == "ambig"):
        raise InputError(
            f'{where}: "label" is {row["label"]}, but UNKNOWN (answer {unknown[0]}) is right in ambiguous '
            "contexts and only there"
        )


def _key(row: Mapping[str, Any]) -> _Key:
    return str(row["category"]), str(row["question_index"]), str(row["example_id"])


def _answers(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(text, group) for text, group in (row["answer_info"][f"ans{i}"] for i in range(3))]


def _unknown(row: Mapping[str, Any]) -> int:
    return next(i for i, answer in enumerate(_answers(row)) if answer[1] == "unknown")


def _derived(row: Mapping[str, Any]) -> int | None:
    more = row.get("additional_metadata")
    groups = more.get("stereotyped_groups") if isinstance(more, dict) else None
    groups = [str(group) for group in groups] if isinstance(groups, list) else []
    return stereotyped(row["category"], groups, _answers(row), _unknown(row))


def _told(path: Path, text: str, rows: list[dict[str, Any]]) -> dict[_Key, tuple[int | None, str]]:
    """Of each question in the csv, the answer that goes with the stereotype, and "name" or "label".

    The csv of 2022 has the stereotyped group as target_loc whatever the question, the later ones the answer
    that goes with the stereotype: which one this is shows in the questions that are not negative.
    """
    try:
        table = list(csv.DictReader(StringIO(text)))
    except csv.Error as error:
        raise InputError(f"{path}: is no csv ({error}); give BBQ's {METADATA}") from error
    needed = ("category", "question_index", "example_id", "target_loc", "label_type")
    missing = [name for name in needed if not table or table[0].get(name) is None]
    if missing:
        raise InputError(f'{path}: has no column "{missing[0]}"; give BBQ\'s {METADATA}')
    told: dict[_Key, tuple[int | None, str]] = {}
    for line in table:
        place = (line["target_loc"] or "").removesuffix(".0")
        target = int(place) if place in ("0", "1", "2") else None
        before = told.get(_key(line), (target, ""))[0]
        told[_key(line)] = (target if before == target else None, line["label_type"])
    plain = [row for row in rows if row["question_polarity"] == "nonneg"]
    pairs = [(told[_key(row)][0], _derived(row)) for row in plain if _key(row) in told]
    both = [(there, ours) for there, ours in pairs if None not in (there, ours)]
    old = 2 * sum(there == ours for there, ours in both) > len(both)
    if not old:
        return told
    return told | {
        _key(row): (
            biased_answer(told[_key(row)][0], _unknown(row), negative=False),
            told[_key(row)][1],
        )
        for row in plain
        if _key(row) in told
    }


def _item(row: dict[str, Any], told: Mapping[_Key, tuple[int | None, str]]) -> Item:
    negative = row["question_polarity"] == "neg"
    unknown = _unknown(row)
    target, kind = told.get(_key(row), (None, ""))
    if not told:
        target = biased_answer(_derived(row), unknown, negative=negative)
    category = str(row["category"])
    if kind == "name" or (not kind and _by_name(row, unknown)):
        category += " (names)"
    return Item(
        id=f"{row['category']}:{row['example_id']}",
        category=category,
        template=f"{row['category']}:{row['question_index']}",
        negative=negative,
        ambiguous=row["context_condition"] == "ambig",
        context=row["context"],
        question=row["question"],
        options=(row["ans0"], row["ans1"], row["ans2"]),
        label=row["label"],
        unknown=unknown,
        target=None if target == unknown else target,
        predictions={
            key: value for key, value in row.items() if "_pred_" in key and isinstance(value, str)
        },
    )


def _by_name(row: Mapping[str, Any], unknown: int) -> bool:
    """Whether people are told by their names: templates above 25, in files of one attribute."""
    if "_x_" in row["category"]:
        people = [row[f"ans{i}"] for i in range(3) if i != unknown]
        return not any(person.lower().startswith(("the ", "a ", "an ")) for person in people)
    index = str(row["question_index"])
    return index.isdigit() and int(index) > 25
