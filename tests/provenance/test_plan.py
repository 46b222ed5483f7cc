"""Which file is signed to where."""

import os
from pathlib import Path

import pytest

from assaymark.provenance.plan import plan
from assaymark.reports.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "a.jpg", "b.png", "b.png.c2pa", "lone.c2pa", "model.gguf", "model.c2pa",
        "media/x.wav", "media/deep/y.mp3", "media/.hidden", "media/.git/config", "other/x.wav",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "output", "expected"),
    [
        (["a.jpg"], None, {"a.jpg": "a.signed.jpg"}),
        (["a.jpg"], "b.jpg", {"a.jpg": "b.jpg"}),
        (["a.jpg"], "out", {"a.jpg": "out/a.jpg"}),
        (["a.jpg"], "new", {"a.jpg": "new/a.jpg"}),
        (["a.jpg", "b.png"], "new", {"a.jpg": "new/a.jpg", "b.png": "new/b.png"}),
        (["a.jpg", "b.png"], None, {"a.jpg": "a.signed.jpg", "b.png": "b.signed.png"}),
        (["media"], None, {"media/x.wav": "media.signed/x.wav",
                           "media/deep/y.mp3": "media.signed/deep/y.mp3"}),
        (["media"], "new", {"media/x.wav": "new/x.wav", "media/deep/y.mp3": "new/deep/y.mp3"}),
        (["media", "other"], "new", {"media/x.wav": "new/media/x.wav", "other/x.wav": "new/other/x.wav",
                                     "media/deep/y.mp3": "new/media/deep/y.mp3"}),
        (["media/deep/.."], "new", {"media/deep/../x.wav": "new/x.wav",
                                    "media/deep/../deep/y.mp3": "new/deep/y.mp3"}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_where_files_go(paths: list[str], output: str | None, expected: dict[str, str]) -> None:
    found = plan([Path(path) for path in paths], Path(output) if output else None)
    assert {str(t.source): str(t.destination) for t in found.tasks} == expected


def test_what_belongs_to_a_file_or_to_an_earlier_run_is_no_work_of_its_own() -> None:
    Path("media/signed").mkdir()
    Path("media/signed/x.wav").write_bytes(b"x")
    found = plan([Path()], Path("media/signed"))
    names = {str(task.source) for task in found.tasks}
    assert names == {"a.jpg", "b.png", "lone.c2pa", "model.gguf", "media/x.wav",
                     "media/deep/y.mp3", "other/x.wav"}  # fmt: skip
    assert found.hidden == 2
    assert found.folder == Path("media/signed")


@pytest.mark.parametrize(
    ("paths", "output", "message"),
    [
        (["gone.jpg"], None, "gone.jpg does not exist"),
        (["empty"], "new", "no file is in it"),
        (["media"], "a.jpg", "a.jpg is a file and several are signed"),
        (["media/x.wav", "other/x.wav"], "new", "would both become new/x.wav"),
        (["a.jpg", "a.jpg"], "new", "named twice"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_planned(paths: list[str], output: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan([Path(path) for path in paths], Path(output) if output else None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_told(folder: Path) -> None:
    (folder / "media/deep").chmod(0)
    try:
        with pytest.raises(InputError, match="cannot search"):
            plan([Path("media")], Path("new"))
    finally:
        (folder / "media/deep").chmod(0o755)
