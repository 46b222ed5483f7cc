"""What lies in a folder besides files: pipes, empty files, links that lead out of it again."""

import os
from pathlib import Path

import pytest
from media import media

from assaymark.provenance.check import check_provenance
from assaymark.provenance.checked import Demands
from assaymark.provenance.files import walk
from assaymark.provenance.keys import Chain, new_chain
from assaymark.provenance.plan import plan
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import NOBODY
from assaymark.provenance.verify import State, examine
from assaymark.reports.errors import InputError


@pytest.fixture(scope="module")
def chain() -> Chain:
    return new_chain("Example Press", algorithm="ed25519")


def test_a_pipe_is_not_waited_for(tmp_path: Path, chain: Chain) -> None:
    os.mkfifo(pipe := tmp_path / "pipe.jpg")
    assert examine(pipe).state is State.UNREADABLE
    assert "a pipe" in examine(pipe).explanation
    with pytest.raises(InputError, match=r"pipe\.jpg is no regular file"):
        sign(pipe, tmp_path / "signed.jpg", chain.credentials)
    found = check_provenance("c", (str(tmp_path),), Demands(trust=NOBODY, rules={}))
    assert any(finding.error for finding in found.findings)
    assert os.listdir(tmp_path) == ["pipe.jpg"]


def test_an_empty_file_is_called_empty(tmp_path: Path, chain: Chain) -> None:
    (empty := tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match=r"a\.jpg is empty"):
        sign(empty, tmp_path / "b.jpg", chain.credentials)


def test_a_link_to_a_folder_above_does_not_lead_to_what_lies_beside(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    (other := tmp_path / "other").mkdir()
    for path in (tmp_path / "key.pem", folder / "a.jpg", other / "b.jpg"):
        path.write_bytes(media("JPEG"))
    for name, target in {"up": "..", "self": ".", "root": "/", "elsewhere": "../other"}.items():
        (folder / name).symlink_to(target)
    files = [folder / "a.jpg", folder / "elsewhere" / "b.jpg"]
    assert walk(folder)[0] == files
    assert [task.source for task in plan([folder]).tasks] == files
