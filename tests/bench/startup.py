"""Start-up, demo and page size, as docs/benchmarks.md reports them: `make bench`.

CPU seconds are user + system time of the finished process and its children, the median of RUNS
runs after one that is not counted.
"""

import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

RUNS = 7
ASSAYMARK = [sys.executable, "-m", "assaymark.cli"]
COMMANDS = {
    "`python -c pass`": [sys.executable, "-c", "pass"],
    "`import typer`": [sys.executable, "-c", "import typer"],
    "`assaymark --help`": [*ASSAYMARK, "--help"],
    "`assaymark --version`": [*ASSAYMARK, "--version"],
    "`assaymark audit --help`": [*ASSAYMARK, "audit", "--help"],
}


def cost(command: list[str], folder: str) -> tuple[float, float]:
    """CPU and wall seconds of one run."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter() - began
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def page_size() -> int:
    """Bytes of a page with 12 trios of 224×224 photographs (scikit-learn's two, cut up)."""
    import torch
    from sklearn.datasets import load_sample_images

    from assaymark.reports import html
    from assaymark.reports.model import Finding, ImageTrio, Report
    from assaymark.robustness.pictures import encode

    generator = torch.Generator().manual_seed(0)
    trios = []
    for i in range(12):
        photo = torch.from_numpy(load_sample_images().images[i % 2].copy()).permute(2, 0, 1) / 255
        top, left = 15 * (i % 6), 60 * (i % 6)
        x = photo[:, top : top + 224, left : left + 224]
        delta = (torch.rand(x.shape, generator=generator) - 0.5).sign() * 8 / 255
        trios.append(
            ImageTrio(
                title=f"example {i}", original=encode(x), adversarial=encode((x + delta).clamp(0, 1)),
                difference=encode((0.5 + 10 * delta).clamp(0, 1)), factor=10, label="a", prediction="a",
                confidence=0.9, fooled_prediction="b", fooled_confidence=0.9, linf=8 / 255, l2=12.0,
                attack="pgd",
            )
        )  # fmt: skip
    finding = Finding(check="c", target="t", measure="robust_accuracy", summary="s", value=0.5)
    return len(html.render(Report(findings=(replace(finding, evidence=tuple(trios)),))).encode())


def main() -> None:
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n")
    print("| what | CPU s, median (min–max) | wall s, median |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, command in COMMANDS.items():
            cost(command, folder)
            runs = [cost(command, folder) for _ in range(RUNS)]
            cpu = [run[0] for run in runs]
            wall = statistics.median(run[1] for run in runs)
            print(
                f"| {name} | {statistics.median(cpu):.3f} ({min(cpu):.3f}–{max(cpu):.3f}) | {wall:.3f} |"
            )
        runs = [cost([*ASSAYMARK, "demo"], folder) for _ in range(3)]
        seconds = [statistics.median(run[i] for run in runs) for i in (0, 1)]
        print(f"| `assaymark demo` | {seconds[0]:.1f} | {seconds[1]:.1f} |")
        demo = (Path(folder) / "assaymark-demo" / "report.html").stat().st_size
    print(
        f"\ndemo report: {demo / 1000:.0f} KB; page with 12 photograph trios: {page_size() / 1000:.0f} KB"
    )


if __name__ == "__main__":
    main()
