"""Images in tables and arrays: what is read is what was written, and nothing hostile gets further."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from assaymark.reports.errors import InputError
from assaymark.robustness import decode, images, tables
from assaymark.robustness.tables import Columns

RANDOM = numpy.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (6, 8, 8, 3), dtype=numpy.uint8)
LABELS = [0, 1, 2, 0, 1, 2]
NAMES = ["cat", "dog", "eel", "cat", "dog", "eel"]
TRUTH = torch.from_numpy(BYTES.transpose(0, 3, 1, 2).copy()) / 255


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def files(folder: Path) -> list[str]:
    (folder / "pictures").mkdir(exist_ok=True)
    paths = [f"pictures/{i}.png" for i in range(6)]
    for path, array in zip(paths, BYTES, strict=True):
        (folder / path).write_bytes(png(array))
    return paths


def parquet(path: Path, image: Any, label: Any = LABELS, **more: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"image": image, "label": label, **more})
    pyarrow.parquet.write_table(table, path, row_group_size=4)
    return path.name


def comma(path: Path, image: Any, label: Any = LABELS, header: Any = ("image", "label")) -> str:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(zip(image, label, strict=True))
    return path.name


def as_is(folder: Path) -> Any:
    return [png(array) for array in BYTES]


def structs(folder: Path) -> Any:
    return [{"bytes": png(array), "path": "/etc/passwd"} for array in BYTES]


def struct_paths(folder: Path) -> Any:
    return [{"bytes": None, "path": path} for path in files(folder)]


def lists(folder: Path) -> Any:
    kind = pyarrow.list_(pyarrow.list_(pyarrow.list_(pyarrow.uint8())))
    return pyarrow.array(BYTES.tolist(), kind)


def floats(folder: Path) -> Any:
    return (BYTES / 255).tolist()


@pytest.mark.parametrize("column", [as_is, structs, struct_paths, files, lists, floats])
def test_every_kind_of_parquet_column(column: Any, tmp_path: Path) -> None:
    spec = parquet(tmp_path / "d.parquet", column(tmp_path))
    data = images.load(spec, folder=tmp_path)
    assert torch.allclose(data.images, TRUTH, atol=1e-6)
    assert data.labels.tolist() == LABELS
    assert data.classes is None


def test_every_kind_of_csv_column(tmp_path: Path) -> None:
    by_path = images.load(comma(tmp_path / "a.csv", files(tmp_path)), folder=tmp_path)
    text = [json.dumps(array) for array in BYTES.tolist()]
    spec = comma(tmp_path / "b.csv", text)
    by_list = images.load(spec, folder=tmp_path, data_range=(0.0, 255.0))
    grey = [json.dumps(array) for array in (BYTES[..., 0] / 255).reshape(6, 64).tolist()]
    flat = images.load(comma(tmp_path / "c.csv", grey), folder=tmp_path, image_size=(8, 8))
    assert torch.equal(by_path.images, TRUTH)
    assert torch.allclose(by_list.images, TRUTH, atol=1e-6)
    assert torch.allclose(flat.images, TRUTH[:, :1], atol=1e-6)
    for data in (by_path, by_list, flat):
        assert data.labels.tolist() == LABELS


def test_labels_may_be_names(tmp_path: Path) -> None:
    spec = comma(tmp_path / "d.csv", files(tmp_path), NAMES, ("file", "animal"))
    columns = Columns(label="animal")
    data = images.load(spec, folder=tmp_path, columns=columns)
    assert data.classes == ("cat", "dog", "eel")
    assert data.labels.tolist() == LABELS
    order = ("eel", "cow", "dog", "cat")
    data = images.load(spec, folder=tmp_path, columns=columns, classes=order)
    assert [order[i] for i in data.labels.tolist()] == NAMES
    with pytest.raises(InputError, match="row 3 has the label 'eel', which is not among"):
        images.load(spec, folder=tmp_path, columns=columns, classes=("cat", "dog"))


def hub_dataset(root: Path) -> None:
    """As datasets.save and the hub lay a data set out."""
    names = {"info": {"features": {"image": {"_type": "Image"},
             "label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}}}  # fmt: skip
    rows = structs(root)
    for split, part, count, chosen in (
        ("train", 0, 1, slice(0, 1)), ("test", 0, 2, slice(0, 4)), ("test", 1, 2, slice(4, 6)),
    ):  # fmt: skip
        table = pyarrow.table({"image": rows[chosen], "label": LABELS[chosen]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
        path = root / "data" / f"{split}-{part:05d}-of-{count:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, path)


def test_a_hugging_face_dataset_folder(tmp_path: Path) -> None:
    hub_dataset(tmp_path / "animals")
    data = images.load("animals", folder=tmp_path)
    assert torch.equal(data.images, TRUTH)
    assert data.labels.tolist() == LABELS
    assert data.classes == ("cat", "dog", "eel")
    assert data.name == "animals, split test"
    assert len(images.load("animals", folder=tmp_path, split="train").images) == 1
    with pytest.raises(InputError, match='no split "tset": did you mean "test"'):
        images.load("animals", folder=tmp_path, split="tset")
    (tmp_path / "animals" / "data" / "test-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match="1 of the 2 files of the split test: copy the rest"):
        images.load("animals", folder=tmp_path)
    parquet(tmp_path / "two" / "a.parquet", structs(tmp_path))
    parquet(tmp_path / "two" / "b" / "0000.parquet", structs(tmp_path))
    with pytest.raises(InputError, match="has the splits a, b: choose one"):
        images.load("two", folder=tmp_path)
    assert len(images.load("two", folder=tmp_path, split="b").images) == 6


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("images", "labels"), ("my_data", "my_labels")])
def test_npy_files_in_pairs(x: str, y: str, tmp_path: Path) -> None:
    numpy.save(tmp_path / f"{x}.npy", BYTES)
    numpy.save(tmp_path / f"{y}.npy", numpy.array(LABELS))
    data = images.load(f"{x}.npy", folder=tmp_path)
    assert torch.equal(data.images, TRUTH)
    assert data.labels.tolist() == LABELS
    (tmp_path / f"{y}.npy").rename(tmp_path / "other.npy")
    with pytest.raises(InputError, match=r"name an .npy file of class numbers with labels"):
        images.load(f"{x}.npy", folder=tmp_path)
    assert images.load(f"{x}.npy", folder=tmp_path, labels="other.npy").labels.tolist() == LABELS


def leaves(folder: Path, path: str) -> str:
    (folder.parent / "secret.png").write_bytes(png(BYTES[0]))
    (folder / "pictures").mkdir(exist_ok=True)
    if not (folder / "pictures" / "link.png").exists():
        os.symlink(folder.parent / "secret.png", folder / "pictures" / "link.png")
    return comma(folder / "d.csv", [path.replace("ROOT", str(folder.parent))], [0])


def promises(folder: Path) -> str:
    """A header of 8 TB, and nothing behind it."""
    numpy.save(folder / "y.npy", numpy.array(LABELS))
    with (folder / "x.npy").open("wb") as stream:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 1, 1000, 1000)}
        numpy.lib.format.write_array_header_1_0(stream, header)
    return "x.npy"


def pickled(folder: Path) -> str:
    numpy.save(folder / "x.npy", numpy.array([{}]), allow_pickle=True)
    numpy.save(folder / "y.npy", numpy.array(LABELS))
    return "x.npy"


def bomb(folder: Path) -> str:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return parquet(folder / "d.parquet", [buffer.getvalue()], [0])


def written(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name


HUGE = pyarrow.array([2**64 - 1], pyarrow.uint64())
WRONG: list[tuple[str, Any, str]] = [
    ("up", lambda f: leaves(f, "../secret.png"), "row 1 has the path '../secret.png', which leaves"),
    ("absolute", lambda f: leaves(f, "ROOT/secret.png"), "which leaves the folder"),
    ("link", lambda f: leaves(f, "pictures/link.png"), "which leaves the folder"),
    ("zero", lambda f: leaves(f, "a\0b.png"), "leaves the folder|no readable CSV"),
    ("long", lambda f: leaves(f, "a" * 9999), "leaves the folder|no such file"),
    ("missing", lambda f: leaves(f, "pictures/none.png"), "no such file beside the table"),
    ("bomb", bomb, "cannot read the image d.parquet, row 1"),
    ("no picture", lambda f: parquet(f / "d.parquet", [b"x"], [0]), "row 1: its bytes are no picture"),
    ("no image", lambda f: parquet(f / "d.parquet", [None, "a"], [0, 1]), "row 1 has no image"),
    ("numbers", lambda f: parquet(f / "d.parquet", [1, 2], [0, 1]), "row 1 has no image"),
    ("uneven", lambda f: parquet(f / "d.parquet", [[[1.0], [1.0, 0.0]]], [0]), "no even list"),
    ("flat", lambda f: parquet(f / "d.parquet", [[0.5] * 9], [0]), "a flat list of 9 numbers: give image_"),
    ("deep", lambda f: comma(f / "d.csv", ["[" * 9999], [0]), "is no list of numbers|no even list"),
    ("range", lambda f: comma(f / "d.csv", ["[[255]]"], [0]), "pixels must lie in [0, 1]"),
    ("text", lambda f: comma(f / "d.csv", ['[["a"]]'], [0]), "holds <U1: expected numbers"),
    ("shapes", lambda f: comma(f / "d.csv", ["[[1]]", "[[1, 1]]"], [0, 1]), "of the shapes 1×1, 1×2"),
    ("kinds", lambda f: comma(f / "d.csv", [files(f)[0], "[[1]]"], [0, 1]), "row 2 is of another kind"),
    ("no label", lambda f: comma(f / "d.csv", ["[[1]]"], [""]), "row 1 has no label"),
    ("floats", lambda f: parquet(f / "d.parquet", ["[[1]]"], [0.5]), "has labels such as '0.5' (float)"),
    ("minus", lambda f: parquet(f / "d.parquet", ["[[1]]"], [-1]), "has the label -1"),
    ("huge", lambda f: parquet(f / "d.parquet", ["[[1]]"], HUGE), "beyond 64 bits"),
    ("cells", lambda f: written(f, "d.csv", b"image,label\na,0,1\n"), "line 2 has 3 cells, the header has 2"),
    ("empty", lambda f: written(f, "d.csv", b""), "has no column image; it has none"),
    ("rows", lambda f: written(f, "d.csv", b"image,label\n"), "holds no images"),
    ("columns", lambda f: written(f, "d.csv", b"a,label\n"), "no column image; it has a, label"),
    ("twice", lambda f: written(f, "d.csv", b"image,image,label\n"), "two columns called image"),
    ("latin", lambda f: written(f, "d.csv", b"image,\xff\n"), "no readable CSV"),
    ("garbage", lambda f: written(f, "d.parquet", b"PAR1 no PAR1"), "no readable parquet"),
    ("promises", promises, "cannot read x.npy"),
    ("pickle", pickled, "cannot read x.npy"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("make", "expected"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_table_is_one_clear_sentence(tmp_path: Path, make: Any, expected: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(InputError) as caught:
        images.load(make(folder), folder=folder)
    assert any(part in str(caught.value) for part in expected.split("|"))
    assert "\n" not in str(caught.value)


def test_more_pixels_than_memory_are_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = parquet(tmp_path / "d.parquet", as_is(tmp_path))
    monkeypatch.setattr(decode, "MOST_BYTES", 4 * 192 * 3)
    with pytest.raises(InputError, match="of pixels up to row 4"):
        images.load(spec, folder=tmp_path)
    monkeypatch.setattr(tables, "MOST_BYTES", 100)
    with pytest.raises(InputError, match="more than the 0 GiB that are read"):
        images.load(spec, folder=tmp_path)
    limit = csv.field_size_limit()
    with pytest.raises(InputError):
        images.load(comma(tmp_path / "d.csv", ["a"], [0]), folder=tmp_path)
    assert csv.field_size_limit() == limit  # put back
