"""What an interrupted run measured, so that the same command goes on where it stopped.

One JSON file in the user's own state folder (never beside the policy, where anybody could plant
one), rewritten after each check, with a folder of the finished shards of checks under way; both are
removed at the end. Their name is a digest of the policy and its place, seed, device, tool version and of
the sizes and times of the files read, so that nothing stale is taken up. Signatures are always checked
anew.
"""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from assaymark.cli.versions import versions
from assaymark.reports.errors import InputError
from assaymark.reports.model import CheckResult, Method, Report
from assaymark.reports.policy_detection import DetectionCheck
from assaymark.reports.policy_file import specs
from assaymark.reports.policy_provenance import ProvenanceCheck
from assaymark.reports.policy_robustness import DataCheck
from assaymark.reports.policy_types import Check

if TYPE_CHECKING:
    from assaymark.cli.run import Job


def state_folder() -> Path:
    """Where this user's programs keep state (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base) if base else Path.home() / ".local" / "state"


def key(job: "Job", seed: int, device: str) -> str:
    """What a kept result depends on, as a short digest."""
    where = str(job.folder.resolve())
    parts = [str(sorted(versions().items())), where, job.text, str(seed), device]
    for check in job.policy.check:
        for _, spec in specs(check):
            path = job.folder / spec
            if path.exists():
                parts.append(f"{spec} {_stamp(path)}")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _stamp(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of a file, or of every file below a folder."""
    files = [path]
    if path.is_dir():
        walk = os.walk(path, followlinks=True)
        files = sorted(Path(root, name) for root, _, names in walk for name in names)
    stamps = []
    for file in files:
        try:
            stat = file.stat()  # of what a link leads to
            stamps.append((str(file), stat.st_size, stat.st_mtime_ns))
        except OSError:
            stamps.append((str(file), -1, -1))
    return stamps


def resumable(check: Check) -> bool:
    """Whether all that a check reads is data: code may have changed unseen, so it runs again."""
    if isinstance(check, ProvenanceCheck) or getattr(check, "touches_files", False):
        return False
    named = [spec for _, spec in specs(check)]
    code = [spec for spec in named if ":" in spec and not spec.startswith("demo:")]
    arches = [getattr(check, key, None) for key in ("arch", "reference_arch")]
    arches += [
        entry.arch for key in ("entrants", "surrogates") for entry in getattr(check, key, ())
    ]
    # an .onnx file keeps its weights in files of any name, a table its pictures, a description a model
    table = str(getattr(check, "data", None) or "").lower().endswith((".csv", ".parquet", ".npy"))
    scattered = any(spec.endswith((".onnx", ".defended.json")) for spec in named)
    scattered |= table and isinstance(check, DataCheck)
    return not code and not any(arches) and not scattered


def keeps_parts(check: Check) -> bool:
    """Whether finished parts are kept; detection holds each file's against its size and time itself."""
    return isinstance(check, DetectionCheck) or resumable(check)


def kept(results: dict[str, CheckResult]) -> dict[str, CheckResult]:
    """The results worth keeping: a check that could not run is tried again."""
    return {
        check: result
        for check, result in results.items()
        if not any(finding.error for finding in result.findings)
    }


_DAYS = 30
"""After so long what an interrupted run left behind is removed."""


class ShardFolder:
    """The finished shards of one check; how many were taken up is counted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.loaded = folder, 0

    def load(self, number: int) -> bytes | None:
        try:
            content = self._file(number).read_bytes()
        except OSError:
            return None
        self.loaded += 1
        return content

    def save(self, number: int, content: bytes) -> None:
        from assaymark.reports.files import write_atomically

        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._file(number), content)
        except (InputError, OSError):
            return

    @property
    def any(self) -> bool:
        return self.folder.is_dir()

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"


class Store:
    """The kept results of one run. Keeping is a service: where it cannot write, it does not."""

    def __init__(self, name: str) -> None:
        self.path = state_folder() / "assaymark" / f"run-{name}.json"

    def shards(self, check: str) -> ShardFolder:
        """Where the finished shards of a check are kept until the run is over."""
        return ShardFolder(
            self.path.with_suffix("") / hashlib.sha256(check.encode()).hexdigest()[:16]
        )

    def load(self) -> dict[str, CheckResult]:
        from assaymark.reports.store import from_json

        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            report = from_json(json.dumps(stored["report"]), self.path.name)
        except (OSError, ValueError, KeyError, TypeError, InputError):
            return {}
        digests = stored.get("digests", {})
        methods = {method.check: method for method in report.methods}
        return {
            check: CheckResult(
                findings=tuple(f for f in report.findings if f.check == check),
                method=methods.get(check, Method(check=check, title="", steps=())),
                digests=digests.get(check, {}),
            )
            for check in dict.fromkeys(finding.check for finding in report.findings)
        }

    def save(self, results: dict[str, CheckResult]) -> None:
        from assaymark.reports.files import write_atomically
        from assaymark.reports.store import to_dict

        good = kept(results)
        report = Report(
            findings=tuple(finding for result in good.values() for finding in result.findings),
            methods=tuple(result.method for result in good.values()),
        )
        content = {
            "report": to_dict(report),
            "digests": {check: result.digests for check, result in good.items()},
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self.path, json.dumps(content))
        except (InputError, OSError):
            return

    def clear(self) -> None:
        """Remove what this run kept, and what runs left behind that nobody went on with."""
        _remove(self.path)
        _remove(self.path.with_suffix(""))
        for path in self.path.parent.glob("run-*"):
            if time.time() - _changed(path) > _DAYS * 86_400:
                _remove(path)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return
