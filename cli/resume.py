"""What an interrupted run measured, so that the same command goes on where it stopped.

One JSON file beside the policy, rewritten after each check and removed at the end. Its name is a
digest of the policy, seed, device, tool version and of the sizes and times of the files named, so
that nothing stale is taken up.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from assaymark.reports.errors import InputError
from assaymark.reports.model import CheckResult, Method, Report
from assaymark.reports.policy import Check

if TYPE_CHECKING:
    from assaymark.cli.run import Job

FOLDER = ".assaymark"


def key(job: "Job", seed: int, device: str) -> str:
    """What a kept result depends on, as a short digest."""
    parts = [version("assaymark"), job.text, str(seed), device, str(job.keep)]
    for check in job.policy.check:
        for spec in (
            getattr(check, "model", None),
            getattr(check, "data", None),
            *getattr(check, "files", ()),
        ):
            path = job.folder / spec if spec else None
            if path is not None and path.exists():
                parts.append(f"{spec} {_stamp(path)}")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _stamp(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of a file, or of every file below a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    stats = [(str(file), file.stat()) for file in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def resumable(check: Check) -> bool:
    """Whether all that a check reads is data: code may have changed unseen, so it runs again."""
    specs = [getattr(check, key, None) for key in ("model", "data")]
    code = [spec for spec in specs if spec and ":" in spec and not spec.startswith("demo:")]
    return not code and getattr(check, "arch", None) is None


def kept(results: dict[str, CheckResult]) -> dict[str, CheckResult]:
    """The results worth keeping: a check that could not run is tried again."""
    return {
        check: result
        for check, result in results.items()
        if not any(finding.error for finding in result.findings)
    }


class Store:
    """The kept results of one run. Keeping is a service: where it cannot write, it does not."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / FOLDER / f"run-{name}.json"

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
            write_atomically(self.path, json.dumps(content))
        except InputError:
            return

    def clear(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()
        except OSError:
            return
