"""Columns of a table as a model is asked with them."""

from pathlib import Path

import pandas
import pyarrow
import pytest

from assaymark.bias.features import frame
from assaymark.bias.tables import Table, read
from assaymark.reports.errors import InputError

CSV = """age,zip,wage,member,ward,code,note,empty,label
39,01234,1.5,True,north,NA,x,,1
41,99999, 2e3 ,false,"",7,,,0
18,5,NA,TRUE,south,8.5,nan,,1
"""


def test_a_csv_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV, encoding="utf-8")
    found = frame(read("t.csv", folder=tmp_path), leave_out=("label",))
    pandas.testing.assert_series_equal(found["age"], pandas.Series([39, 41, 18], name="age"))
    assert found["zip"].tolist() == [1234, 99999, 5]
    assert found["wage"].tolist() == [1.5, 2000, pytest.approx(float("nan"), nan_ok=True)]
    assert found["member"].tolist() == [True, False, True]
    assert found["ward"].isna().tolist() == [False, True, False]
    assert found["code"].isna().tolist() == [True, False, False]
    assert found["code"].dtype == "float64"
    # among texts only an empty field is missing
    assert found["note"].isna().tolist() == [False, True, False]
    assert found["note"].tolist()[2] == "nan"
    assert found["empty"].isna().all()
    assert list(found) == ["age", "zip", "wage", "member", "ward", "code", "note", "empty"]


def test_a_typed_table_keeps_its_types() -> None:
    arrow = pyarrow.table({"x": [1, None, 3], "code": ["01", "1", None], "y": [True, False, True]})
    found = frame(Table(name="t", arrow=arrow))
    assert found["code"].tolist()[:2] == ["01", "1"]
    assert found["code"].isna().tolist() == [False, False, True]
    assert found["x"].dtype == "float64"
    assert found["y"].dtype == "bool"


def test_columns_are_taken_in_their_order() -> None:
    table = Table(name="t", arrow=pyarrow.table({"a": ["1"], "b": ["x"], "c": ["2"]}))
    assert list(frame(table, ["c", "a"])) == ["c", "a"]
    with pytest.raises(InputError, match='t has no column "bb": did you mean "b"'):
        frame(table, ["bb"])
    with pytest.raises(InputError, match="t has no columns for the model to read beside a, b, c"):
        frame(table, leave_out=("a", "b", "c"))
    with pytest.raises(InputError, match="no columns"):
        frame(table, [])


def test_adult_has_the_types_of_pandas(shared: Path, tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(15)]
    source = shared / "data" / "bias" / "adult" / "adult.data"
    whole = source.read_text(encoding="utf-8").strip()
    (tmp_path / "adult.csv").write_text(",".join(names) + "\n" + whole + "\n", encoding="utf-8")
    found = frame(read("adult.csv", folder=tmp_path))
    expected = pandas.read_csv(tmp_path / "adult.csv", keep_default_na=False)
    pandas.testing.assert_frame_equal(found, expected)
