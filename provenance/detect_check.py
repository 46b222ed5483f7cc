"""The check of detection: which of these files are generated or manipulated, and what cannot be told."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from assaymark.provenance.detect import Settings, crashed, detect, sha256_of
from assaymark.provenance.detect_findings import findings_of
from assaymark.provenance.detection import Detection, from_plain
from assaymark.provenance.detectors import DETECTORS
from assaymark.provenance.files import find_files, is_regular
from assaymark.provenance.fuse import DECIDES, STATEMENT, STATISTICS, TRUSTED, WATERMARK
from assaymark.provenance.pool import cores, each
from assaymark.reports.files import unicode, write_atomically
from assaymark.reports.model import CheckResult, Gate, Method


class Keep(Protocol):
    """Where finished files are kept until the run is over."""

    def load(self, number: int) -> bytes | None: ...

    def save(self, number: int, content: bytes) -> None: ...


def check_detection(
    check: str,
    patterns: tuple[str, ...],
    settings: Settings,
    *,
    folder: Path = Path(),
    gates: tuple[Gate, ...] = (),
    tags: tuple[str, ...] = (),
    workers: int | None = None,
    keep: Keep | None = None,
    records: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """A finding for each file that stands out, and one for each limit.

    A limit that a file which could not be told might break is undecided, never kept. workers: processes;
    None takes what the cores allow. keep: a run that was interrupted goes on there. records: a file for
    one line of JSON about every file.
    """
    _usable(settings)
    files = find_files(patterns, folder)
    found = _all(files, settings, workers or min(cores(), len(files)), keep, progress)
    if records is not None:
        write_atomically(records, "".join(json.dumps(item.plain()) + "\n" for item in found))
    return CheckResult(
        findings=findings_of(check, found, gates=gates, tags=tags, root=folder),
        method=_method(check, found, settings, patterns),
        digests={unicode(str(item.path)): item.sha256 for item in found[:_DIGESTS] if item.sha256},
    )


_DIGESTS = 40


def _usable(settings: Settings) -> None:
    """Open what the settings name before the first file: a mistake must not look like "did not look"."""
    if settings.options.get("checkpoints"):
        from assaymark.provenance.published_detectors import check_published

        check_published(settings.options)
    store = settings.options.get("binding_store")
    if isinstance(store, str | Path):
        from assaymark.provenance.binding_store import BindingStore

        with BindingStore(store):
            pass


def _all(
    files: Sequence[Path],
    settings: Settings,
    workers: int,
    keep: Keep | None,
    progress: Callable[[int, int], None],
) -> list[Detection]:
    found = {file: old for file in files if (old := _kept(keep, file, settings)) is not None}
    todo = [file for file in files if file not in found]
    progress(len(found), len(files))
    for item in each(partial(_detect, settings), todo, workers=workers, crashed=crashed):
        found[item.path] = item
        if keep is not None and not item.problem:
            keep.save(_number(item.path), _entry(item, settings))
        progress(len(found), len(files))
    return [found[file] for file in files]


def _detect(settings: Settings, path: Path) -> Detection:
    """One thread a process: the files are looked at side by side."""
    import torch

    torch.set_num_threads(1)
    return detect(path, settings)


def _number(path: Path) -> int:
    import zlib

    # pathlib's resolve raises RuntimeError for a link to itself
    return zlib.crc32(os.path.realpath(path).encode("utf-8", "surrogateescape"))


def _stamp(path: Path, settings: Settings) -> list[object]:
    stat = path.stat()
    # a digest, as the settings hold secrets
    asked = hashlib.sha256(repr(settings).encode()).hexdigest()
    return [str(path), stat.st_size, stat.st_mtime_ns, asked]


def _entry(item: Detection, settings: Settings) -> bytes:
    try:
        stamp = _stamp(item.path, settings)
    except OSError:
        return b""
    return json.dumps([stamp, item.plain()]).encode()


def _kept(keep: Keep | None, path: Path, settings: Settings) -> Detection | None:
    """What an interrupted run found of a file that is the same since."""
    if keep is None or not is_regular(path):
        return None
    content = keep.load(_number(path))
    if not content:
        return None
    try:
        stamp, fields = json.loads(content)
        if stamp != _stamp(path, settings):
            return None
        found = from_plain(fields)
        # size and time can be set back, and a file written while it was looked at has the later ones
        return found if found.sha256 == sha256_of(path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _method(
    check: str,
    found: Sequence[Detection],
    settings: Settings,
    patterns: tuple[str, ...],
) -> Method:
    used = {item.detector for detection in found for item in detection.evidence}
    points = {
        item.point.measured_on: item.point
        for detection in found
        for item in detection.evidence
        if item.point is not None
    }
    return Method(
        check=check,
        title=f"Signs of generation and manipulation in {len(found)} files",
        steps=(
            f"Files: {', '.join(patterns)}.",
            "Each file is looked at by "
            + "; ".join(f"{name}: {DETECTORS[name].about}" for name in DETECTORS if name in used)
            + ".",
            "Their evidence is added up in nats: a signature that is trusted counts "
            f"±{TRUSTED:g}, a watermark {WATERMARK:g}, a statement in metadata or by a signer whom nobody "
            f"vouches for {STATEMENT:g}, a statistic its measured log-likelihood ratio up to "
            f'±{STATISTICS:g}; "generated" needs {DECIDES:g} over even odds. Prior: {settings.prior:g}.',
            *(
                f"Operating point on {point.measured_on}: {point.false_positive_rate:.1%} false positives "
                f"(at most {point.false_positive_rate_high:.1%}), {point.true_positive_rate:.1%} true "
                f"positives (at least {point.true_positive_rate_low:.1%}); {point.reals} real files of "
                f"{point.sources} sources, {point.fakes} generated ones of {point.generators} generators."
                for point in points.values()
            ),
        ),
        not_tested=tuple(
            dict.fromkeys(
                (
                    "generators and cameras that the detectors were not measured on: no sign found is no "
                    "proof of a camera",
                    *(why for item in found[:_DIGESTS] for why in item.not_looked_at),
                )
            )
        )[:60],
        sources=("IPTC digital source type vocabulary; C2PA 2.2; docs/detection.md",),
    )
