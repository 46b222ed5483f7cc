"""Every way a table can be wrong, from the shell and from Python: none of them may look like good news.

The commands run one after the other in one process, each as `assaymark` would run by itself.
"""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy
import pandas
import pyarrow
import pytest
from conftest import RunCli
from pyarrow import parquet

from assaymark.bias import check, predictions
from assaymark.bias.codes import column_of, crossed
from assaymark.bias.frames import rates_table, write_rates
from assaymark.bias.groups import by_group
from assaymark.reports.errors import InputError
from assaymark.reports.model import Gate, Limit

Row = tuple[object, ...]
FAIR: Sequence[Row] = [(y, p, g) for g in "ab" for y in (1, 0) for p in (1, 0)] * 25
"""Label, decision, group: 200 rows without any gap."""
GATE = ["--max", "demographic_parity_difference=0.5"]
COLUMNS = ["--label", "y", "--prediction", "p", "--sensitive", "g"]


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


DRIVER = """
import contextlib, io, json, os, sys
from assaymark.cli.main import main
done = []
for folder, words in json.load(sys.stdin):
    os.chdir(folder)
    sys.argv = ["assaymark", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code)
    done.append((code, out.getvalue(), err.getvalue()))
json.dump(done, sys.stdout)
"""


def shell(home: Path, commands: Sequence[tuple[Path, Sequence[str]]]) -> list[Done]:
    """Exit code, stdout and stderr of each command in its folder."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        env=os.environ | {"XDG_STATE_HOME": str(home / ".state"), "OMP_NUM_THREADS": "1"},
        input=json.dumps([(str(folder), words) for folder, words in commands]),
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    return [Done(*one) for one in json.loads(done.stdout)]


def text(rows: Sequence[Row], head: str = "y,p,g", sep: str = ",", end: str = "\n") -> bytes:
    lines = [head, *(sep.join(map(str, row)) for row in rows), ""]
    return end.join(lines).encode()


def named(a: str, b: str = "b", every: int = 1) -> list[Row]:
    """The rows with group a called so, or each `every`-th of them."""
    return [
        (y, p, (a if i % every == 0 else g) if g == "a" else b) for i, (y, p, g) in enumerate(FAIR)
    ]


def stored(table: pyarrow.Table | None = None) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"y": [1, 0] * 50}) if table is None else table, sink)
    return bytes(sink.getvalue().to_pybytes())


def heavy(weight: str) -> bytes:
    """The rows, the first of which has this weight, the others 1."""
    return text([(*row, 1 if i else weight) for i, row in enumerate(FAIR)], "y,p,g,w")


class Fault(NamedTuple):
    """A file, options beside or in the place of COLUMNS, and what is said of it."""

    content: bytes
    said: str
    name: str = "t.csv"
    options: Sequence[str] = ()
    columns: Sequence[str] = COLUMNS
    code: int = 3


SCORE = ["--label", "y", "--score", "p", "--sensitive", "g"]
WEIGHT = ["--weight", "w"]
LONG = "x" * 1_000_000
FAULTS = {
    "NaN prediction": Fault(text([*FAIR, (1, "nan", "a")]), '"p" of t.csv has 1 missing values'),
    "empty prediction": Fault(text([*FAIR, (1, "", "a")]), '"p" of t.csv has 1 missing values'),
    "NaN score": Fault(
        text([*FAIR, (1, "nan", "a")]), '"p" of t.csv has 1 missing values', columns=SCORE
    ),
    "infinite score": Fault(text([*FAIR, (1, "-inf", "a")]), "has infinite values", columns=SCORE),
    "text as a score": Fault(text([*FAIR, (1, "high", "a")]), "is not numbers", columns=SCORE),
    "threshold beyond the scores": Fault(
        text(FAIR), "does not divide", columns=SCORE, options=["--threshold", "2"]
    ),
    "NaN threshold": Fault(
        text(FAIR), "finite number", columns=SCORE, options=["--threshold", "nan"], code=2
    ),
    "no positives": Fault(
        text([(0, p, g) for _, p, g in FAIR]), "no row of t.csv has the positive"
    ),
    "no negatives": Fault(
        text([(1, p, g) for _, p, g in FAIR]),
        "not measured",
        options=["--max", "equalized_odds_difference=0.9"],
    ),
    "a group without positives": Fault(
        text([(0 if g == "a" else y, p, g) for y, p, g in FAIR]),
        "not measured",
        options=["--max", "equal_opportunity_difference=0.9"],
    ),
    "nobody selected": Fault(
        text([(y, 0, g) for y, _, g in FAIR]),
        "not measured",
        options=["--min", "disparate_impact_ratio=0.8"],
    ),
    "one group": Fault(text([(y, p, "a") for y, p, _ in FAIR]), "not measured"),
    "no sensitive value at all": Fault(text([(y, p, "") for y, p, _ in FAIR]), "not measured"),
    "every group too small": Fault(
        text(FAIR), "not measured", options=["--min-group-size", "1000000"]
    ),
    "100,000 groups": Fault(
        text([(i % 2, i % 3 % 2, f"g{i}") for i in range(100_000)]),
        "has 100000 different values: expected at most 50 groups",
    ),
    "too many intersections": Fault(
        text([(i % 2, i % 3 % 2, f"{i % 49}", i % 47) for i in range(3000)], "y,p,g,h"),
        "more than 500 intersections",
        options=["--sensitive", "h", "--intersections"],
    ),
    "two columns of one name": Fault(
        text([(*row, "z") for row in FAIR], "y,p,g,g"), 'different columns called "g"'
    ),
    "no such positive": Fault(
        text(FAIR), "has the positive value 'yes'", options=["--positive", "yes"]
    ),
    "predictions in other words": Fault(
        text([(y, "yes" if p else "no", g) for y, p, g in FAIR]), "expected the same values in both"
    ),
    "probabilities as decisions": Fault(
        text([(y, 0.9 if p else 0.2, g) for y, p, g in FAIR]), "name the column as score"
    ),
    "label in two spellings": Fault(
        text([*FAIR, ("yes", 1, "a")]), "has 3 different labels: expected two"
    ),
    "formula among labels": Fault(text([*FAIR, ("=1+2", 1, "a")]), "has 3 different labels"),
    "no file": Fault(b"", "no such data", name="", code=2),
    "a folder": Fault(b"", "no table at", name="."),
    "empty file": Fault(b"", "Empty CSV file"),
    "an empty line": Fault(b"\n", "cannot read t.csv"),
    "header only": Fault(b"y,p,g\n", "t.csv has no rows"),
    "header without an end": Fault(b"y,p,g", "cannot read t.csv"),
    "one column": Fault(b"y\n1\n0\n", 'has no column "p"'),
    "semicolons": Fault(text(FAIR, "y;p;g", ";"), 'has no column "y"'),
    "a short row": Fault(text(FAIR) + b"1,1\n", "Expected 3 columns, got 2"),
    "a long row": Fault(text(FAIR) + b"1,1,a,b\n", "Expected 3 columns, got 4"),
    "UTF-16": Fault(text(FAIR).decode().encode("utf-16"), "line 1 is not UTF-8"),
    "Latin-1 rows in UTF-8": Fault(
        text(FAIR) + "1,1,España\n".encode("latin-1"), "line 202 is not UTF-8 (byte 0xf1)"
    ),
    "Latin-1 header": Fault(
        text(FAIR, "y,p,g,é").decode().encode("latin-1"), "line 1 is not UTF-8"
    ),
    "gzip": Fault(b"\x1f\x8b\x08\x00" + bytes(range(256)), "line 1 is not UTF-8"),
    "other suffix": Fault(text(FAIR), "is not a table that is read here", name="t.xlsx"),
    "quote that does not end": Fault(text([(1, 1, '"a'), *FAIR]), "a quote missing?"),
    "NUL in a group": Fault(text(named("a\0")), "without NUL"),
    "NUL in a label": Fault(text([("1\0", p, g) for _, p, g in FAIR]), "seen: '1\\x00'"),
    "NUL in the header": Fault(text(FAIR, "y,p,g\0"), 'has no column "g"'),
    "a cell of 1,000,000 letters": Fault(text([*FAIR, (1, 1, LONG)]), "has a value of 1,000,000"),
    "a label of 1,000,000 letters": Fault(
        text([(LONG if y else 0, p, g) for y, p, g in FAIR]), "has the positive value '1'"
    ),
    "a score of 1,000,000 letters": Fault(
        text([*FAIR, (1, LONG, "a")]), "is not numbers", columns=SCORE
    ),
    "letters composed and not": Fault(text(named("\xe9", "e\u0301")), "look alike"),
    "a blank at the end": Fault(text(named("a ", every=3)), "has 'a' and 'a ', which look alike"),
    "a name of an unseen sign": Fault(text(named("\u200b")), "to be seen"),
    "an unseen sign": Fault(text(named("a\u200b", every=3)), "look alike"),
    "intersections of one name": Fault(
        text([(*row, "c") for row in named("a × b")] + [(1, 1, "a", "b × c")], "y,p,g,h"),
        "two intersections of g × h",
        options=["--sensitive", "h", "--intersections"],
    ),
    "a negative weight": Fault(heavy("-1"), "run from -1 to 1: expected", options=WEIGHT),
    "an infinite weight": Fault(heavy("inf"), "has infinite values", options=WEIGHT),
    "a NaN weight": Fault(heavy("nan"), "has 1 missing values", options=WEIGHT),
    "a weight whose square is too large": Fault(heavy("1e200"), "to 1e+200", options=WEIGHT),
    "a group that weighs nothing": Fault(
        text([(*row, int(row[2] == "a")) for row in FAIR], "y,p,g,w"),
        "not measured",
        options=WEIGHT,
    ),
    "nobody weighs anything": Fault(
        text([(*row, 0) for row in FAIR], "y,p,g,w"), "run from 0 to 0", options=WEIGHT
    ),
    "half a Parquet file": Fault(stored()[:200], "cannot read t.parquet", name="t.parquet"),
    "Parquet without its end": Fault(stored()[:-8], "cannot read t.parquet", name="t.parquet"),
    "an empty Parquet file": Fault(b"", "cannot read t.parquet", name="t.parquet"),
    "damaged Parquet": Fault(
        stored()[:-60] + bytes(52) + stored()[-8:], "cannot read t.parquet", name="t.parquet"
    ),
    "Parquet without rows": Fault(
        stored(pyarrow.table({name: pyarrow.array([], "int64") for name in "ypg"})),
        "has no rows",
        name="t.parquet",
    ),
    "half an Arrow file": Fault(b"ARROW1\0\0", "cannot read t.arrow", name="t.arrow"),
    "a limit that is no number": Fault(
        text(FAIR), "finite number", options=["--max", "accuracy=nan"], code=2
    ),
    "a limit on nothing": Fault(text(FAIR), "acuracy", options=["--min", "acuracy=0.5"], code=2),
    "a reference that is no group": Fault(
        text(FAIR),
        'the reference "c" is no group',
        options=["--reference-group", "g=c"],
    ),
}


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    folder = tmp_path_factory.mktemp("faults")
    commands = []
    for place, fault in enumerate(FAULTS.values()):
        where = folder / str(place)
        where.mkdir()
        if fault.name not in ("", "."):
            (where / fault.name).write_bytes(fault.content)
        file = fault.name or "none.csv"
        commands.append((where, ["bias", "table", file, *fault.columns, *GATE, *fault.options]))
    return dict(zip(FAULTS, shell(folder, commands), strict=True))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_never_passes_a_gate(faults: dict[str, Done], name: str) -> None:
    fault, done = FAULTS[name], faults[name]
    assert done.code == fault.code, done
    assert fault.said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert max(map(len, (done.stdout + done.stderr).splitlines())) < 700


SOUND = {
    "a byte order mark": (b"\xef\xbb\xbf" + text(FAIR), []),
    "CRLF": (text(FAIR, end="\r\n"), []),
    "CR": (text(FAIR, end="\r"), []),
    "the same column twice": (text([(*row, row[2]) for row in FAIR], "y,p,g,g"), []),
    "quoted newlines": (text([(*row, '"one\nother, line"') for row in FAIR], "y,p,g,z"), []),
    "no newline at the end": (text(FAIR)[:-1], []),
    "text in quotes": (text([(y, p, f'"{g}"') for y, p, g in FAIR]), []),
    "blanks around labels": (text([(f" {y}", f"{p} ", g) for y, p, g in FAIR]), []),
    "formulas as labels": (
        text([("=1+2" if y else "@SUM", "=1+2" if p else "@SUM", g) for y, p, g in FAIR]),
        ["--positive", "=1+2"],
    ),
    "true and 1": (text([(bool(y), p, g) for y, p, g in FAIR]), []),
    "1.0 and 1": (text([(float(str(y)), p, g) for y, p, g in FAIR]), []),
}


def test_what_is_only_written_otherwise_has_the_same_numbers(tmp_path: Path) -> None:
    commands = []
    for place, (content, options) in enumerate([(text(FAIR), []), *SOUND.values()]):
        where = tmp_path / str(place)
        where.mkdir()
        (where / "t.csv").write_bytes(content)
        commands.append((where, ["bias", "table", "t.csv", *COLUMNS, *GATE, *options]))
    plain, *others = shell(tmp_path, commands)
    assert plain.code == 0
    assert "Every limit holds" in plain.stdout
    for name, done in zip(SOUND, others, strict=True):
        assert done[:2] == plain[:2], name


WICKED = [
    "=1+2",
    "+cmd|' /C calc'!A0",
    "@SUM(A1:A9)",
    "-2+3",
    "\t=1",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[x](javascript:alert(1))",
    "|a|b|",
    "a\n| ✔ pass | all | is | well |",
    "\x1b[31mred\x1b[0m",
    "a\u202eb",
    "]]>&amp;",
]
"""Group names that a spreadsheet would run, a page would load, or a terminal would obey."""
KINDS = ("html", "md", "json", "junit.xml", "sarif")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.wicked: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script"
        if tag in ("img", "iframe") or any(name.startswith("on") for name, _ in attrs):
            self.wicked.append(tag)
        self.wicked += [tag for _, value in attrs if (value or "").startswith("javascript:")]

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts.append(data)
        self._inside = False


def test_names_of_groups_are_text_in_every_output(tmp_path: Path) -> None:
    commands = []
    for place, name in enumerate(WICKED):
        quoted = '"' + name.replace('"', '""') + '"'
        (tmp_path / f"{place}.csv").write_bytes(text(named(quoted)))
        outputs = [word for kind in KINDS for word in ("-o", f"{place}.{kind}")]
        limits = ["--min", "accuracy=0.1", "--max", "selection_rate=0.2"]
        words = ["bias", "table", f"{place}.csv", *COLUMNS, *limits, *outputs]
        commands.append((tmp_path, words))
    for place, (name, done) in enumerate(zip(WICKED, shell(tmp_path, commands), strict=True)):
        assert done.code == 1, done.stderr
        assert not {"\x1b", "\u202e", "\t"} & set(done.stdout + done.stderr), name
        assert not any(line.startswith("| ✔ pass") for line in done.stdout.splitlines())
        files = {kind: (tmp_path / f"{place}.{kind}").read_text(encoding="utf-8") for kind in KINDS}
        page = Tags()
        page.feed(files["html"])
        assert not page.wicked, name
        assert not any("alert(1)" in script for script in page.scripts), name
        lines = files["md"].splitlines()
        assert not any("is | well" in line for line in lines)
        assert "<script>" not in files["md"]
        assert "](javascript" not in files["md"].replace("\\]", "")
        ET.fromstring(files["junit.xml"])
        targets = {one["target"] for one in json.loads(files["json"])["report"]["findings"]}
        assert f"g = {name}" in targets
        json.loads(files["sarif"])


def test_a_spreadsheet_runs_no_name(tmp_path: Path) -> None:
    for name in WICKED:
        frame = pandas.DataFrame(named(name), columns=["y", "p", "g"])
        found = rates_table([by_group(load(frame), "g")])
        write_rates(found, tmp_path / "rates.csv")
        written = (tmp_path / "rates.csv").read_text(encoding="utf-8")
        cells = [cell for row in csv.reader(io.StringIO(written)) for cell in row]
        assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in cells), name
        assert any(cell.removeprefix("'") == name for cell in cells)


def load(frame: Any, **options: Any) -> Any:
    chosen = {"label": "y", "prediction": "p", "score": None, "sensitive": ("g",)} | options
    return predictions.load(frame, **chosen)


FRAME = pandas.DataFrame(FAIR, columns=["y", "p", "g"])
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "NaN": (FRAME.assign(p=numpy.nan), {}, "has 200 missing values"),
    "None": (FRAME.assign(y=FRAME["y"].mask(FRAME.index == 3)), {}, "has 1 missing values"),
    "NaT": (FRAME.assign(y=pandas.to_datetime(["NaT"] * 200)), {}, "has 200 missing values"),
    "NaN score": (
        FRAME.assign(s=numpy.nan),
        {"score": "s", "prediction": None},
        "has 200 missing values",
    ),
    "constant score": (
        FRAME.assign(s=0.2),
        {"score": "s", "prediction": None},
        "everybody would get the same decision",
    ),
    "a list of rows": ([(1, 1, "a")], {}, "a list is not a table"),
    "NumPy": (numpy.zeros((3, 3)), {}, "a ndarray is not a table"),
    "no rows": (FRAME[:0], {}, "has no rows"),
    "two columns of one name": (
        pandas.concat([FRAME, FRAME[["g"]][::-1].reset_index(drop=True)], axis=1),
        {},
        "g",
    ),
    "nested cells": (FRAME.assign(y=FRAME["y"].map(lambda y: [y])), {}, '"y" of the table'),
    "nested groups": (FRAME.assign(g=FRAME["g"].map(lambda g: [g])), {}, '"g" of the table'),
    "negative weight": (FRAME.assign(w=-1.0), {"weight": "w"}, "of at least 0"),
    "infinite weight": (FRAME.assign(w=numpy.inf), {"weight": "w"}, "has infinite values"),
    "no weight": (FRAME.assign(w=numpy.nan), {"weight": "w"}, "has 200 missing values"),
    "nothing weighs": (FRAME.assign(w=0.0), {"weight": "w"}, "run from 0 to 0"),
    "too heavy": (FRAME.assign(w=1e200), {"weight": "w"}, "run from 1e+200"),
    "too light": (FRAME.assign(w=1e-200), {"weight": "w"}, "run from 1e-200"),
    "text as weight": (FRAME.assign(w="heavy"), {"weight": "w"}, "is not numbers"),
}


@pytest.mark.parametrize(("frame", "options", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_frame_is_one_clear_sentence(frame: Any, options: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load(frame, **options)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert len(message) < 500


def test_a_group_that_weighs_nothing_is_not_measured() -> None:
    data = load(FRAME.assign(w=(FRAME["g"] == "a").astype(float)), weight="w")
    gate = Gate(metric="demographic_parity_difference", limit=Limit(maximum=0.9, on="upper"))
    result = check.check_bias_table("c", data, gates=(gate,))
    (found,) = [one for one in result.findings if one.limit is not None]
    assert found.verdict == "not-measured"
    assert by_group(data, "g").groups[1].rates["selection_rate"].value is None


def test_a_value_that_no_row_has_is_no_label() -> None:
    kinds = pandas.CategoricalDtype(["0", "1", "?", "unused"])
    frame = FRAME.assign(y=FRAME["y"].astype(str).astype(kinds), g=FRAME["g"].astype("category"))
    data = load(frame, positive="1")
    assert data.label.tolist() == (FRAME["y"] == 1).tolist()
    assert data.groups["g"].names == ("a", "b")


def test_codes_of_several_parts_of_a_table_may_need_more_bits() -> None:
    parts = [
        pyarrow.DictionaryArray.from_arrays(
            pyarrow.array(range(100), pyarrow.int8()), [f"{part}{place}" for place in range(100)]
        )
        for part in "xy"
    ]
    column = column_of("g", pyarrow.chunked_array(parts), most=200)
    expected = [f"{part}{place}" for part in "xy" for place in range(100)]
    assert [column.names[code] for code in column.codes] == expected


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "uint64", "float64", "bool", "string"])
def test_every_type_of_column_has_its_values(kind: str) -> None:
    kinds: dict[str, list[Any]] = {"bool": [True, False, True], "string": ["b", "a", "b"]}
    values = kinds.get(kind, [3, 1, 3])
    array = pyarrow.array([None, *values], kind)[1:]
    column = column_of("g", array, most=5)
    assert [column.names[code] for code in column.codes] == [
        str(value) for value in array.to_pylist()
    ]


def test_blank_cells_are_missing_whatever_they_hold() -> None:
    cells = pyarrow.array(["", " ", "\u00a0", None, "a"])
    assert column_of("g", cells, most=5).names == ("(missing)", "a")


def test_crossing_keeps_people_without_a_value_apart() -> None:
    g, h = (column_of(name, pyarrow.array(["a", None]), most=5) for name in "gh")
    assert crossed([g, h], most=5).names == ("(missing) × (missing)", "a × a")


def test_one_fault_as_a_user_meets_it(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(FAULTS["NaN prediction"].content)
    done = cli("bias", "table", "t.csv", *COLUMNS, *GATE)
    assert done.returncode == 3
    assert FAULTS["NaN prediction"].said in done.stdout
