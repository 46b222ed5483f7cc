"""What keeps the five folders one package: imports point one way, and the wheel holds them all."""

import ast
import doctest
import importlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PILLARS = ("robustness", "bias", "provenance")
# What a pillar may know of reports: the finding, errors and what reads or writes files, and no renderer.
SEEN_BY_PILLARS = {
    "reports.model",
    "reports.errors",
    "reports.intervals",
    "reports.files",
    "reports.model_configs",
    "reports.named_code",
    "reports.positions",
}
SOURCES = [
    path
    for folder in (*PILLARS, "reports", "cli")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
MODULES = [
    ".".join(["assaymark", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
    for path in SOURCES
    if path.name != "__main__.py"
]
HEAVY = [
    "torch",
    "pandas",
    "c2pa",
    "numpy",
    "scipy",
    "sklearn",
    "pydantic",
    "jinja2",
    "PIL",
    "rich",
]


def imported(path: Path) -> set[str]:
    """`folder.module` of everything a file imports from assaymark."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assaymark."):
            base = (node.module or "").removeprefix("assaymark.")
            if "." in base:
                names.add(base)
            else:
                names |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.removeprefix("assaymark.")
                for alias in node.names
                if alias.name.startswith("assaymark.")
            }
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    here = path.relative_to(ROOT).parts[0]
    if here == "cli":
        return
    allowed = SEEN_BY_PILLARS if here in PILLARS else set()
    foreign = {name for name in imported(path) if name.split(".")[0] != here}
    assert foreign <= allowed


def test_the_result_model_needs_the_standard_library_only() -> None:
    code = "import sys, assaymark.reports.model, assaymark.reports.errors; print(*sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(seen.stdout.split())


def test_every_package_is_listed() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {
        ".".join(["assaymark", *path.parent.relative_to(ROOT).parts])
        for path in SOURCES
        if path.name == "__init__.py"
    }
    assert found == set(config["tool"]["setuptools"]["packages"])


def test_every_pinned_dependency_satisfies_pyproject() -> None:
    from packaging.requirements import Requirement

    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {
        Requirement(line).name.lower(): next(iter(Requirement(line).specifier)).version
        for line in lines
        if not line.startswith("#")
    }
    wanted = [*config["project"]["dependencies"], *config["dependency-groups"]["dev"]]
    for text in [*wanted, *config["project"]["optional-dependencies"]["onnx"]]:
        requirement = Requirement(text)
        assert pinned[requirement.name.lower()] in requirement.specifier, text
    assert pinned["torch"] == "2.13.0"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert (importlib.import_module(name).__doc__ or "").strip()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["audit", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        f"sys.argv = ['assaymark', *{arguments!r}]\n"
        "atexit.register(lambda: print('LOADED', *sys.modules))\n"
        "from assaymark.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.rsplit("LOADED", 1)[1].split()
    ours = set(HEAVY) - {"pydantic"}  # typer itself reads the options of a subcommand with it
    assert not ours & set(loaded)


@pytest.mark.slow
def test_the_wheel_holds_everything_and_only_our_name(tmp_path: Path) -> None:
    """Built from a copy of the sources; a missing template or weight would break users only."""
    import shutil

    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"assaymark", "assaymark-0.1.0.dist-info"}
    kept = {".py", ".j2", ".css", ".js", ".toml", ".safetensors", ".typed"}
    expected = {
        f"assaymark/{path.relative_to(ROOT)}"
        for folder in (*PILLARS, "reports", "cli")
        for path in (ROOT / folder).iterdir()
        if path.suffix in kept or path.name == "py.typed"
    }
    assert expected <= set(names)
    # and what it holds runs: the demo uses every data file, and none of the extra "lm"
    site, folder = tmp_path / "site", tmp_path / "empty"
    folder.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys\nfor name in ('transformers', 'sentence_transformers', 'textblob'):\n"
        "    sys.modules[name] = None\n"
        "import assaymark.cli.main as m; print(m.__file__); sys.argv = ['assaymark', 'demo']; m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert (folder / "assaymark-demo" / "report.html").is_file()
