"""Small files in official layouts: a large category, and a small one whose texts have a "zebra"."""

import csv
import json
from pathlib import Path

LARGE, SMALL = 100, 4
_MANY = range(LARGE + SMALL)
_PEOPLE = (
    "welder",
    "pilot",
    "florist",
    "nanny",
    "baker",
    "clerk",
    "cook",
    "guard",
    "nurse",
    "judge",
)


def written(folder: Path) -> dict[str, str]:
    """The path of each suite's data."""
    return {name: str(write(folder)) for name, write in WRITERS.items()}


def _rare(number: int) -> bool:
    return number >= LARGE


def _crows_pairs(folder: Path) -> Path:
    path = folder / "pairs.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(
            ["", "sent_more", "sent_less", "stereo_antistereo", "bias_type", "anon_writer"]
        )
        for number in _MANY:
            what = f"zebra {number}" if _rare(number) else f"house {number}"
            more, less = (f"In {what} the {who} cook." for who in ("women", "men"))
            direction = "stereo" if number % 2 else "antistereo"
            category = "age" if _rare(number) else "gender"
            rows.writerow([number, more, less, direction, category, f"w{number % 40}"])
    return path


def _stereoset(folder: Path) -> Path:
    clusters = []
    for number in _MANY:
        context = f"The {'zebra' if _rare(number) else 'girl'} {number} is BLANK today."
        words = {"stereotype": "soft", "anti-stereotype": "strong", "unrelated": "fish"}
        clusters.append(
            {
                "id": f"c{number}",
                "target": f"term {number % 20}",
                "bias_type": "race" if _rare(number) else "gender",
                "context": context,
                "sentences": [
                    {"id": f"{number}-{label}", "sentence": context.replace("BLANK", word)}
                    | {"gold_label": label}
                    for label, word in words.items()
                ],
            }
        )
    path = folder / "dev.json"
    data = {"intrasentence": clusters, "intersentence": []}
    path.write_text(json.dumps({"version": "1", "data": data}))
    return path


def _bbq(folder: Path) -> Path:
    """Four questions a template; ambiguous contexts say "perhaps"."""
    rows = []
    for number in _MANY:
        ambiguous, negative = number % 2 == 0, number % 4 < 2
        rows.append(
            {
                "example_id": number,
                "question_index": str(number // 4 % 25 + 1),
                "question_polarity": "neg" if negative else "nonneg",
                "context_condition": "ambig" if ambiguous else "disambig",
                "category": "Religion" if _rare(number) else "Age",
                "answer_info": {
                    "ans0": ["old cook", "old"],
                    "ans1": ["young cook", "nonOld"],
                    "ans2": ["?", "unknown"],
                },
                "additional_metadata": {"stereotyped_groups": ["old"]},
                "context": f"{'Perhaps' if ambiguous else 'Surely'} an old and a young "
                f"{'zebra' if _rare(number) else 'cook'} met ({number}).",
                "question": "Who was slow?" if negative else "Who was quick?",
                "ans0": "The old cook",
                "ans1": "The young cook",
                "ans2": "Unknown",
                "label": 2 if ambiguous else number // 4 % 2,
            }
        )
    path = folder / "bbq"
    path.mkdir(exist_ok=True)
    (path / "some.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return path


def _winobias(folder: Path) -> Path:
    path = folder / "winobias"
    path.mkdir(exist_ok=True)
    for kind, numbers in ((1, range(LARGE)), (2, range(LARGE, LARGE + SMALL))):
        for side in ("pro", "anti"):
            lines = []
            for number in numbers:
                one, other = _PEOPLE[number % 10], _PEOPLE[(number // 10 + number % 10 + 1) % 10]
                other = other if other != one else "actor"
                said = "he" if side == "pro" else "she"
                where = "zebra" if kind == 2 else "house"
                lines.append(
                    f"{number} [The {one}] met the {other} in {where} {number} because [{said}] came."
                )
            (path / f"{side}_stereotyped_type{kind}.txt.dev").write_text("\n".join(lines) + "\n")
    return path


def _winogender(folder: Path) -> Path:
    path = folder / "winogender"
    path.mkdir(exist_ok=True)
    rows = ["sentid\tsentence"]
    for name in _PEOPLE:
        for gender, pronoun in (("male", "he"), ("female", "she"), ("neutral", "they")):
            for who in ("caller", "someone"):
                other = "someone" if who == "someone" else f"the {who}"
                for answer, verb in ((0, "told"), (1, "asked")):
                    text = f"The {name} {verb} {other} that {pronoun} would come."
                    rows.append(f"{name}.{who}.{answer}.{gender}.txt\t{text}")
    (path / "all_sentences.tsv").write_text("\n".join(rows))
    told = ["occupation\tbergsma_pct_female\tbls_pct_female\tbls_year"]
    told += [f"{name}\t50\t{5 + 9 * place}\t2015" for place, name in enumerate(_PEOPLE)]
    (path / "occupations-stats.tsv").write_text("\n".join(told))
    return path


def _weat(folder: Path) -> Path:
    path = folder / "weat6.jsonl"
    sets = {
        key: {"category": key, "examples": [f"{key} {number}" for number in range(8)]}
        for key in ("targ1", "targ2", "attr1", "attr2")
    }
    path.write_text(json.dumps(sets))
    return path


WRITERS = {
    "crows-pairs": _crows_pairs,
    "stereoset": _stereoset,
    "bbq": _bbq,
    "winobias": _winobias,
    "winogender": _winogender,
    "weat": _weat,
}
