"""What several tests need: the command line as a user runs it, and the shared data where present."""

import functools
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from assaymark.provenance.keys import Chain

settings.register_profile("plain", deadline=None)  # a busy machine is no failure
settings.load_profile("plain")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

RunCli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(tmp_path: Path) -> RunCli:
    """Run `assaymark …` in an empty folder; the environment has no terminal and no colours."""

    def run(
        *arguments: str, cwd: Path = tmp_path, timeout: float = 180, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if key not in ("ASSAYMARK_PASSPHRASE", "ASSAYMARK_DEBUG", "FORCE_COLOR")
        }
        return subprocess.run(
            [sys.executable, "-m", "assaymark.cli", *arguments],
            cwd=cwd,
            env=environment | {"XDG_STATE_HOME": str(tmp_path / ".state")} | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def quick_cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[RunCli]:
    """`cli` in this process: for commands that end soon, whose time would be a new interpreter's imports."""
    from assaymark.cli.main import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    for name in ("ASSAYMARK_PASSPHRASE", "ASSAYMARK_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(
        *arguments: str, cwd: Path = tmp_path, timeout: float = 180, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr("sys.argv", ["assaymark", *arguments])
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(list(arguments), int(ended.value.code or 0), out, err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data and models beside the checkout; not part of the product."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the checkout: real data sets are not shipped")
    return SHARED


@pytest.fixture(scope="session")
def chain() -> "Chain":
    """A certificate chain of ours."""
    from assaymark.provenance.keys import new_chain

    return new_chain("Example Press")


@pytest.fixture(scope="session")
def stranger() -> "Chain":
    """A chain of somebody we do not know."""
    from assaymark.provenance.keys import new_chain

    return new_chain("Somebody Else")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Functions by their names: an address in memory differs from process to process."""
    if isinstance(val, functools.partial):
        settings = ",".join(f"{key}={value}" for key, value in val.keywords.items())
        return f"{val.func.__name__}({settings})"
    return getattr(val, "__name__", None) if callable(val) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test, which walks the README, begins first, so that no core waits for it."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")
