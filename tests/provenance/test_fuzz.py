"""Mutated files of every format: no crash, no hang, one of six states, and no change goes unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from authorities import EMAIL, authority, pem
from fuzz_child import SLOW
from media import MEDIA, media
from raw_signing import signed

from assaymark.provenance.formats import FORMATS, Route
from assaymark.provenance.routes import READS
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine

CHILD = Path(__file__).with_name("fuzz_child.py")
# those that the library signs itself, by their names in the table
EMBEDDED = [
    kind
    for kind in FORMATS
    if kind.name in MEDIA
    and kind.route in READS
    and kind.route in (Route.JPEG, Route.PNG, Route.RIFF, Route.BMFF, Route.LIBRARY)
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    root = authority("a root", ca=True)
    leaf = authority("a signer", root, purposes=EMAIL, critical=False)
    (folder / "root.pem").write_text(pem(root))
    trust = Trust(signers=pem(root))
    for kind in EMBEDDED:
        path = folder / f"sample-{kind.name}{kind.endings[0]}"
        path.write_bytes(signed(media(kind.name), leaf, media_type=kind.media_type))
        assert examine(path, trust).state is State.TRUSTED, kind.name
    return folder


def run(samples: Path, target: Path, seed: int, count: int, timeout: float) -> None:
    environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            str(CHILD),
            str(samples),
            str(target),
            str(seed),
            str(count),
        ],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(json.dumps(found, indent=1))
    counted = sum(n for name, n in found["states"].items() if not name.endswith("still trusted"))
    assert counted > count * 0.9
    assert found["silent"] == []
    assert found["unexplained"] == []
    assert set(found["unknown"]) <= {".svg"}  # base64: it says that it cannot look
    assert found["slowest"] < SLOW
    seen = {name.split()[1] for name in found["states"]}
    assert {"invalid", "unreadable", "trusted"} <= seen


def test_two_thousand_mutated_files(samples: Path, tmp_path: Path) -> None:
    assert len(EMBEDDED) >= 10
    run(samples, tmp_path, seed=1, count=2000, timeout=300)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_twenty_thousand_mutated_files(samples: Path, tmp_path: Path, seed: int) -> None:
    run(samples, tmp_path, seed=seed, count=2000, timeout=600)
