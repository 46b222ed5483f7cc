"""Sign and verify a folder beside model-signing 1.1.1, each run in a process of its own.

usage: python tests/bench/folder_signing.py [--megabytes 500] [--files 10000] [--repeats 3]

Prints CPU seconds (user and system, import of the library left out), the rate, and the peak
resident memory of the process. The runs take turns, and the best of each is shown.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import resource, sys, time
{imports}
folder, keys, signature = map(Path, sys.argv[1:4])
before, wall = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
{work}
after, wall = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - wall
cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
print(cpu, wall, after.ru_maxrss)
"""
OURS = """
from pathlib import Path
from assaymark.provenance.keys import load_credentials
from assaymark.provenance.model_signature import sign_folder, verify_folder
"""
THEIRS = """
from pathlib import Path
from model_signing import signing, verifying
"""
WORK = {
    "ours": (
        OURS,
        'sign_folder(folder, signature, load_credentials(keys / "chain", keys / "key", None))',
        'found = verify_folder(folder, signature, (keys / "root").read_text())\n'
        'assert found.state == "trusted", found.explanation',
    ),
    "model-signing": (
        THEIRS,
        'signing.Config().use_certificate_signer(private_key=keys / "key", '
        'signing_certificate=keys / "chain", certificate_chain=[keys / "between"])'
        ".sign(folder, signature)",
        "verifying.Config().use_certificate_verifier(certificate_chain="
        '[keys / "root"]).verify(folder, signature)',
    ),
}


def main() -> None:
    """Make the folders, measure, print a table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--megabytes", type=int, default=500, help="size of the large folder")
    options.add_argument("--parts", type=int, default=5, help="files of the large folder")
    options.add_argument("--files", type=int, default=10_000, help="files of the other folder")
    options.add_argument("--bytes", type=int, default=2_000, help="bytes of each of those")
    options.add_argument("--repeats", type=int, default=3, help="runs of each; the best counts")
    options.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as place:
        keys = write_keys(Path(place) / "keys")
        large = make(
            Path(place) / "large", chosen.parts, chosen.megabytes * 1_000_000 // chosen.parts
        )
        small = make(Path(place) / "small", chosen.files, chosen.bytes)
        print("| folder | work | tool | CPU s | GB/s of CPU | wall s | peak MB |")
        print("|---|---|---|---|---|---|---|")
        for folder in (large, small):
            compare(folder, keys, Path(place), chosen.repeats)


def compare(folder: Path, keys: Path, place: Path, repeats: int) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for index, work in enumerate(("sign", "verify"), start=1):
        best: dict[str, tuple[float, float, float]] = {}
        for _ in range(repeats):
            for tool in WORK:
                script = MEASURE.format(imports=WORK[tool][0], work=WORK[tool][index])
                measured = run(script, folder, keys, place / f"{tool}.sig")
                best[tool] = min(best.get(tool, measured), measured)
        for tool, (cpu, wall, peak) in best.items():
            rate = size / 1e9 / cpu
            print(
                f"| {folder.name} | {work} | {tool} | {cpu:.3f} | {rate:.2f} | {wall:.3f} "
                f"| {peak / 1000:.0f} |",
                flush=True,
            )


def run(script: str, folder: Path, keys: Path, signature: Path) -> tuple[float, float, float]:
    command = [sys.executable, "-c", script, str(folder), str(keys), str(signature)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    cpu, wall, peak = map(float, done.stdout.split())
    return cpu, wall, peak


def make(folder: Path, count: int, size: int) -> Path:
    """Files of random bytes, a hundred in a folder below."""
    for index in range(count):
        path = folder / f"{index // 100:03}" / f"{index:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for start in range(0, size, 1 << 20):
                stream.write(os.urandom(min(1 << 20, size - start)))
    return folder


def write_keys(place: Path) -> Path:
    from assaymark.provenance.keys import new_chain

    chain = new_chain("Example Labs")
    pem = chain.credentials.chain_pem
    end = "-----END CERTIFICATE-----\n"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "chain").write_text(pem)
    (place / "between").write_text(pem.split(end, 1)[1])
    (place / "key").write_text(chain.credentials.key_pem)
    (place / "root").write_text(chain.trust_anchor_pem)
    return place


if __name__ == "__main__":
    main()
