"""What the README tells a user to type works, in an empty folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image
from pydantic import BaseModel

from assaymark.reports.policy_file import parse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_every_console_command_works(tmp_path: Path) -> None:
    pixels = numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    environment = os.environ | {"ASSAYMARK_PASSPHRASE": "correct horse"}
    commands = [
        line.removeprefix("$ ")
        for block in blocks("console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    assert len(commands) >= 9
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "assaymark"
        done = subprocess.run(
            [sys.executable, "-m", "assaymark.cli", *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    written = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "report.junit.xml", "attack.html", "bias.html", "signed.jpg"} <= written


def test_the_python_example_works() -> None:
    (example,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"0\.\d{3} of 597 digits stand\n", done.stdout)


def test_the_policy_example_is_valid() -> None:
    (example,) = blocks("toml")
    assert parse(example).check[0].id == "digits-linf"


def test_the_first_commands_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^make (\w+)", blocks("sh")[0], re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_every_policy_key_and_metric_is_documented() -> None:
    from assaymark.reports.policy import KINDS, METRICS, Policy, WaiverEntry
    from assaymark.reports.policy_types import GateEntry

    text = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    models: tuple[type[BaseModel], ...] = (Policy, GateEntry, WaiverEntry, *KINDS.values())
    for model in models:
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}`" in text, name
    for metrics in METRICS.values():
        for metric in metrics:
            assert f"`{metric}`" in text, metric
