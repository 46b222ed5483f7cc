"""Many files signed: resumed, incremental, whole after kill -9 and on a full disk."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy
import pytest
from PIL import Image

from assaymark.provenance.batch import Outcome, sign_all
from assaymark.provenance.journal import Journal
from assaymark.provenance.keys import Chain, Credentials
from assaymark.provenance.plan import Plan, Task, plan
from assaymark.provenance.sign import Signed, sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine


def sign_one(credentials: Credentials, task: Task, overwrite: bool) -> Signed:
    return sign(task.source, task.destination, credentials, overwrite=overwrite)


def holds(path: Path) -> bool:
    return examine(path).state is State.UNTRUSTED


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "deep").mkdir(parents=True)
    draw = numpy.random.default_rng(0)
    for i in range(24):
        pixels = draw.integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
        name = f"deep/{i}.png" if i % 3 else f"{i}.jpg"
        Image.fromarray(pixels).save(folder / name)
    return folder


def run(
    planned: Plan,
    credentials: Credentials,
    journal: Path | None,
    *,
    settings: str = "s",
    workers: int = 1,
    overwrite: bool = False,
) -> list[Outcome]:
    with Journal(path=journal, settings=settings) as kept:
        return list(
            sign_all(
                planned.tasks,
                partial(sign_one, credentials),
                kept,
                workers=workers,
                overwrite=overwrite,
                ours=holds,
            )
        )


def states(outcomes: list[Outcome]) -> dict[str, int]:
    found = [outcome.state for outcome in outcomes]
    return {state: found.count(state) for state in dict.fromkeys(found)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_run_signs_only_what_is_new_or_changed(
    media: Path, tmp_path: Path, chain: Chain, workers: int
) -> None:
    out, journal = tmp_path / "out", tmp_path / "journal"
    go = partial(run, credentials=chain.credentials, journal=journal, workers=workers)
    assert states(go(plan([media], out))) == {"signed": 24}
    trust = Trust(signers=chain.trust_anchor_pem)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == 24
    assert all(examine(path, trust).state is State.TRUSTED for path in files)
    assert states(go(plan([media], out))) == {"kept": 24}
    Image.new("RGB", (8, 8)).save(media / "0.jpg")
    Image.new("RGB", (8, 8)).save(media / "new.png")
    (out / "deep/1.png").unlink()
    assert states(go(plan([media], out))) == {"signed": 3, "kept": 22}
    assert states(go(plan([media], out), settings="other")) == {"signed": 25}


def test_what_somebody_else_put_there_is_not_overwritten(
    media: Path, tmp_path: Path, chain: Chain
) -> None:
    out, journal = tmp_path / "out", tmp_path / "journal"
    out.mkdir()
    (out / "0.jpg").write_bytes(b"precious")
    found = run(plan([media], out), chain.credentials, journal)
    assert states(found) == {"failed": 1, "signed": 23}
    assert "exists already" in found[0].why
    assert (out / "0.jpg").read_bytes() == b"precious"
    (out / "3.jpg").write_bytes(b"edited since")
    assert states(run(plan([media], out), chain.credentials, journal)) == {"failed": 2, "kept": 22}
    assert (out / "3.jpg").read_bytes() == b"edited since"
    forced = run(plan([media], out), chain.credentials, journal, overwrite=True)
    assert states(forced) == {"signed": 2, "kept": 22}


def test_a_file_that_fails_does_not_stop_the_others(
    media: Path, tmp_path: Path, chain: Chain
) -> None:
    (media / "1.jpg").write_bytes(b"\xff\xd8\xff broken")
    found = run(plan([media], tmp_path / "out"), chain.credentials, None)
    assert states(found) == {"signed": 24, "failed": 1} or states(found) == {
        "failed": 1,
        "signed": 24,
    }
    assert not (tmp_path / "out/1.jpg").exists()


@pytest.mark.parametrize("torn", ['["x", "s', "null", "[1,2]", "\xff\xfe"])
def test_a_torn_journal_costs_work_never_a_file(
    media: Path, tmp_path: Path, chain: Chain, torn: str
) -> None:
    out, journal = tmp_path / "out", tmp_path / "journal"
    run(plan([media], out), chain.credentials, journal)
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:-1]) + "\n" + torn)
    # the last file is an untouched result of ours, which may be replaced
    assert states(run(plan([media], out), chain.credentials, journal)) == {"kept": 23, "signed": 1}
    assert states(run(plan([media], out), chain.credentials, journal)) == {"kept": 24}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_batch import run
from assaymark.provenance.keys import Credentials
from assaymark.provenance.plan import plan
text = Path(sys.argv[3]).read_text().split("====")
run(plan([Path(sys.argv[1])], Path(sys.argv[2])), Credentials(algorithm="es256", chain_pem=text[0],
    key_pem=text[1]), Path(sys.argv[2] + ".journal"), workers=int(sys.argv[5]))
"""


def finished(out: Path) -> list[Path]:
    """Files under their final names; folders may come and go while we look."""
    found = [Path(root, name) for root, _, names in os.walk(out) for name in names]
    return [path for path in found if ".assaymark." not in str(path)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_leaves_whole_files_and_the_next_run_completes(
    media: Path, tmp_path: Path, chain: Chain, workers: int
) -> None:
    keys, out = tmp_path / "keys", tmp_path / "out"
    keys.write_text(f"{chain.credentials.chain_pem}===={chain.credentials.key_pem}")
    before = {path: path.read_bytes() for path in media.rglob("*") if path.is_file()}
    draw = random.Random(workers)
    command = [sys.executable, "-c", SCRIPT, str(media), str(out), str(keys),
               str(Path(__file__).parent), str(workers)]  # fmt: skip
    trust = Trust(signers=chain.trust_anchor_pem)
    for _ in range(3):
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 60
        wanted = draw.randrange(1, 8) + len(finished(out))
        while len(finished(out)) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert all(examine(path, trust).state is State.TRUSTED for path in finished(out))
    subprocess.run(command, check=True, timeout=120)
    names = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    assert names == {path.relative_to(media) for path in before}
    assert all(path.read_bytes() == data for path, data in before.items())


def test_a_full_disk_is_told_and_loses_nothing(
    media: Path, tmp_path: Path, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    Image.fromarray(
        numpy.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=numpy.uint8)
    ).save(media / "deep" / "100.png")  # 120 KB
    out = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        found = run(plan([media], out), chain.credentials, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [outcome.task.source.name for outcome in found if outcome.state == "failed"] == [
        "100.png"
    ]
    assert states(found)["not begun"] > 0
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) == states(found)["signed"]
    assert all(examine(path).state is State.UNTRUSTED for path in written)
    assert states(run(plan([media], out), chain.credentials, None, overwrite=True)) == {
        "signed": 25
    }


def test_a_journal_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    from assaymark.reports.errors import InputError

    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="XDG_STATE_HOME"):
        Journal(path=tmp_path / "file" / "journal", settings="")


def test_settings_are_part_of_what_is_kept(tmp_path: Path, chain: Chain) -> None:
    task = Task(source=tmp_path / "a", destination=tmp_path / "b")
    for path in (task.source, task.destination):
        path.write_bytes(b"x")
    with Journal(path=tmp_path / "journal", settings="1") as journal:
        journal.done(task)
    with Journal(path=tmp_path / "journal", settings="1") as journal:
        assert journal.kept(task)
    with Journal(path=tmp_path / "journal", settings="2") as journal:
        assert not journal.kept(task)
        assert journal.ours(task)
        task.destination.write_bytes(b"xy")
        assert not journal.ours(task)
    with Journal(path=None, settings="1") as journal:
        assert not journal.kept(replace(task, source=tmp_path / "c"))
