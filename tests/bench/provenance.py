"""Signing and verifying beside c2pa-python: `python tests/bench/provenance.py [--folder DIR]`.

Every measurement is a fresh process: CPU is user + system time of the work after imports and reading
keys, memory is the largest resident size of the process, interpreter and libraries included. Best of
`--repeat`. "c2pa-python" is Builder.sign_file and Reader as its documentation shows them, with ES256
(small files: Ed25519) and one trust anchor; "ours" is what `assaymark sign` and `verify` call for a
file. The large files are noise: a RIFF/WAVE, a film of a few frames with an mdat of --megabytes, a PNG
of stored blocks. All of it needs about ten times --megabytes of disk.
"""

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance import c2pa_context, in_place
from assaymark.provenance.claims import Claims
from assaymark.provenance.formats import Format, recognise
from assaymark.provenance.job import Job
from assaymark.provenance.keys import Credentials, new_chain
from assaymark.provenance.routes import READS, SIGNS
from assaymark.provenance.sign import sign
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, examine

MADE_BY_AI = c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
THUMBNAILED = 20  # files with a default thumbnail; they take a hundred times as long
DEFINITION = {"claim_generator_info": [{"name": "bench", "version": "1"}], "title": "a work"}


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Of one algorithm: what signs, and who is trusted."""

    credentials: Credentials
    anchor: str

    def signer(self) -> c2pa.Signer:
        found = self.credentials
        return c2pa.Signer.from_info(
            c2pa.C2paSignerInfo(
                found.algorithm.encode(), found.chain_pem.encode(), found.key_pem.encode(), None
            )
        )

    def context(self, *, signs: bool = False) -> c2pa.Context:
        """As our signing has it: it reads every file back, so the library need not."""
        settings = c2pa_context.settings(Trust(signers=self.anchor))
        settings["verify"]["verify_after_sign"] = False
        return c2pa.Context.from_dict(settings, self.signer() if signs else None)

    def their_context(self, *, thumbnails: bool) -> c2pa.Context:
        """As c2pa-python's documentation has it."""
        settings: dict[str, Any] = {"version": 1, "trust": {"trust_anchors": self.anchor}}
        if not thumbnails:
            settings["builder"] = {"thumbnail": {"enabled": False}}
        return c2pa.Context.from_dict(settings)


def keys(algorithm: str, folder: Path) -> Keys:
    stored = folder / f"{algorithm}.json"
    if not stored.exists():
        chain = new_chain("Example Press", algorithm=algorithm)
        found = chain.credentials
        stored.write_text(
            json.dumps([found.algorithm, found.chain_pem, found.key_pem, chain.trust_anchor_pem])
        )
    name, chain_pem, key_pem, anchor = json.loads(stored.read_text())
    return Keys(
        credentials=Credentials(algorithm=name, chain_pem=chain_pem, key_pem=key_pem), anchor=anchor
    )


def kind_of(path: Path) -> Format:
    with path.open("rb") as stream:
        found = recognise(path, stream.read(4096))
    assert found is not None
    return found


def builder(
    context: c2pa.Context, *, hard_binding: Mapping[str, Any] | None = None
) -> c2pa.Builder:
    bound = [{"label": "c2pa.hash.bmff.v3", "data": hard_binding}] if hard_binding else []
    made = c2pa.Builder({**DEFINITION, "assertions": bound}, context=context)
    made.set_intent(c2pa.C2paBuilderIntent.CREATE, MADE_BY_AI)
    return made


# the works, each in its own process: what is done before the clock starts, and what is timed


def theirs_sign(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    context, signer = with_keys.their_context(thumbnails=False), with_keys.signer()

    def work() -> None:
        for source in sources:
            with builder(context) as made:
                made.sign_file(source, target / source.name, signer)

    return work


def theirs_defaults(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    context, signer = with_keys.their_context(thumbnails=True), with_keys.signer()

    def work() -> None:
        for source in sources[:THUMBNAILED]:
            with builder(context) as made:
                made.sign_file(source, target / source.name, signer)

    return work


def theirs_read(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    context = with_keys.their_context(thumbnails=False)

    def work() -> None:
        for source in sources:
            with c2pa.Reader(str(source), context=context) as reader:
                assert json.loads(reader.json())["validation_state"] == "Trusted"

    return work


def ours_route(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    context, signer = with_keys.context(signs=True), with_keys.signer()

    def work() -> None:
        for source in sources:
            (target / source.name).touch()
            kind = kind_of(source)
            SIGNS[kind.route](
                Job(
                    source=source,
                    target=target / source.name,
                    format=kind,
                    builder=partial(builder, context),
                    signer=signer,
                )
            )

    return work


def ours_in_place(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    context, signer = with_keys.context(), with_keys.signer()
    (source,) = sources
    copy = target / source.name
    with source.open("rb") as read, copy.open("wb") as write:
        while os.copy_file_range(read.fileno(), write.fileno(), 1 << 26):
            pass

    def work() -> None:
        in_place.sign_in_place(copy, kind_of(copy), lambda: builder(context), signer, context)

    return work


def ours_read(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    context = with_keys.context()

    def work() -> None:
        for source in sources:
            kind = kind_of(source)
            found = READS[kind.route](source, kind, context)
            assert found.document["validation_state"] == "Trusted"

    return work


def ours_sign(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    claims = Claims(source_type="trainedAlgorithmicMedia")

    def work() -> None:
        for source in sources:
            sign(source, target / source.name, with_keys.credentials, claims)

    return work


def ours_examine(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    trust = Trust(signers=with_keys.anchor)

    def work() -> None:
        for source in sources:
            assert examine(source, trust).state is State.TRUSTED

    return work


def ours_first(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    def work() -> None:
        chain = new_chain("Example Press")
        signed = target / sources[0].name
        sign(sources[0], signed, chain.credentials)
        assert examine(signed, Trust(signers=chain.trust_anchor_pem)).state is State.TRUSTED

    return work


WORKS = {
    made.__name__: made
    for made in (
        theirs_sign,
        theirs_defaults,
        theirs_read,
        ours_route,
        ours_in_place,
        ours_read,
        ours_sign,
        ours_examine,
        ours_first,
    )
}


def child(name: str, with_keys: Keys, sources: list[Path], target: Path) -> None:
    work = WORKS[name](with_keys, sources, target)
    before = time.process_time()
    work()
    spent = time.process_time() - before
    print(json.dumps({"cpu": spent, "mib": peak_mib()}))


def peak_mib() -> float:
    """Of this program alone; getrusage would count what started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(
    name: str, folder: Path, algorithm: str, sources: Path, target: Path, repeat: int
) -> tuple[float, float]:
    """CPU seconds and MiB, the best of several processes."""
    found = []
    for _ in range(repeat):
        target.mkdir(exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        command = [sys.executable, __file__, "--child", name, "--algorithm", algorithm]
        command += ["--folder", str(folder), "--sources", str(sources), "--target", str(target)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    return min(item["cpu"] for item in found), min(item["mib"] for item in found)


# the files


def make_wav(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 48000, 192000, 4, 16)
        stream.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVE" + head)
        stream.write(b"data" + struct.pack("<I", size))
        fill(stream, size)


def make_film(path: Path, size: int) -> None:
    """A film of PyAV, with noise behind the samples of its mdat."""
    import av
    import numpy

    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        picture = numpy.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=numpy.uint8)
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(picture)), *stream.encode()):
            container.mux(packet)
    data = memory.getvalue()
    at = data.index(b"mdat") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    with path.open("wb") as file:
        file.write(data[:at] + struct.pack(">I", length + size) + data[at + 4 : at + length])
        fill(file, size)
        file.write(data[at + length :])


def make_png(path: Path, size: int) -> None:
    import numpy

    side = int((size / 3) ** 0.5)
    rows = numpy.random.default_rng(0).integers(0, 256, (64, 1 + 3 * side), dtype=numpy.uint8)
    rows[:, 0] = 0  # no filter
    packer = zlib.compressobj(0)
    with path.open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        chunk(stream, b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        for start in range(0, side, 64):
            chunk(stream, b"IDAT", packer.compress(rows[: side - start].tobytes()))
        chunk(stream, b"IDAT", packer.flush())
        chunk(stream, b"IEND", b"")


def chunk(stream: Any, name: bytes, data: bytes) -> None:
    if data or name == b"IEND":
        stream.write(struct.pack(">I", len(data)) + name + data)
        stream.write(struct.pack(">I", zlib.crc32(name + data)))


def fill(stream: Any, size: int) -> None:
    block = os.urandom(1 << 20)
    while size:
        size -= stream.write(block[:size])


def make_pictures(folder: Path, count: int, side: int, suffix: str, **options: int) -> None:
    import numpy
    from PIL import Image

    folder.mkdir(exist_ok=True)
    random = numpy.random.default_rng(0)
    made = []
    for _ in range(min(count, 8)):
        memory = io.BytesIO()
        pixels = random.integers(0, 256, (side, side, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(memory, {"jpg": "JPEG", "png": "PNG"}[suffix], **options)
        made.append(memory.getvalue())
    for i in range(count):
        (folder / f"{i:04}.{suffix}").write_bytes(made[i % len(made)])


# the table


def row(work: str, tool: str, cpu: float, mib: float, per: str = "") -> None:
    print(f"| {work} | {tool} | {cpu:.2f} | {mib:.0f} | {per} |", flush=True)


def large(folder: Path, megabytes: int, repeat: int) -> None:
    size = megabytes * 10**6
    for name, make in (("wav", make_wav), ("mp4", make_film), ("png", make_png)):
        sources, target = folder / name, folder / "signed"
        sources.mkdir(exist_ok=True)
        make(sources / f"large.{name}", size)
        title = f"{megabytes} MB {name.upper()}"

        def tell(
            work: str,
            tool: str,
            label: str,
            sources: Path = sources,
            title: str = title,
            target: Path = target,
        ) -> None:
            cpu, mib = measured(tool, folder, "es256", sources, target, repeat)
            row(f"{work} {title}", label, cpu, mib, f"{size / cpu / 1e9:.2f} GB/s")

        tell("sign", "theirs_sign", "c2pa-python")
        tell("verify", "theirs_read", "c2pa-python, its own file", target_as_source(folder))
        tell("verify", "ours_read", "ours, c2pa-python's file", folder / "sources")
        tell("sign", "ours_route", "ours")
        tell("verify", "theirs_read", "c2pa-python, our file", target_as_source(folder))
        tell("verify", "ours_read", "ours, our file", folder / "sources")
        if name == "wav":
            tell("sign", "ours_in_place", "ours, in place")
        for path in (sources, folder / "sources", target):
            for old in path.glob("*"):
                old.unlink()


def target_as_source(folder: Path) -> Path:
    """What was just signed, out of the way of what is signed next."""
    kept = folder / "sources"
    kept.mkdir(exist_ok=True)
    for old in kept.iterdir():
        old.unlink()
    for path in (folder / "signed").iterdir():
        path.rename(kept / path.name)
    return kept


def many(folder: Path, count: int, repeat: int) -> None:
    sources, target = folder / "small", folder / "signed"
    make_pictures(sources, 500, 145, "jpg", quality=75)
    size = (sources / "0000.jpg").stat().st_size
    each(folder, f"{size / 1000:.0f} KB JPEG, Ed25519", sources, 500, repeat)
    sources = folder / "pictures"
    make_pictures(sources, count, 1195, "jpg", quality=82)
    size = (sources / "0000.jpg").stat().st_size
    each(folder, f"{count} x {size / 1e6:.2f} MB JPEG, AI disclosure", sources, count, repeat)
    grown = [
        (target / path.name).stat().st_size - path.stat().st_size for path in sources.iterdir()
    ]
    print(f"| growth a file, at most | ours | | | {max(grown)} bytes |", flush=True)
    cpu, mib = measured("ours_first", folder, "es256", folder / "small", target, repeat)
    row("keys to the first trusted file", "ours", cpu, mib)


def each(folder: Path, title: str, sources: Path, count: int, repeat: int) -> None:
    target = folder / "signed"
    kept = folder / "sources"
    steps = (
        ("sign", "theirs_defaults", "c2pa-python, default thumbnails", sources, 1),
        ("sign", "theirs_sign", "c2pa-python, no thumbnails", sources, repeat),
        ("verify", "theirs_read", "c2pa-python", kept, repeat),
        ("verify", "ours_read", "ours", kept, repeat),
        ("verify", "ours_examine", "ours, with its judgement", kept, repeat),
        ("sign", "ours_route", "ours", sources, repeat),
        ("sign", "ours_sign", "ours, source checked and read back", sources, repeat),
    )
    for work, name, label, files, times in steps:
        if name == "theirs_read":
            target_as_source(folder)
        cpu, mib = measured(name, folder, "ed25519", files, target, times)
        signed = min(count, THUMBNAILED) if name == "theirs_defaults" else count
        row(f"{work} {title}", label, cpu, mib, f"{signed / cpu:.0f} files/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="for the files; a temporary one by default")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--count", type=int, default=1000, help="of pictures of 1 MB")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=("large", "many"))
    parser.add_argument("--child", choices=sorted(WORKS), help=argparse.SUPPRESS)
    parser.add_argument("--algorithm", default="es256", help=argparse.SUPPRESS)
    parser.add_argument("--sources", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    if asked.child:
        child(
            asked.child,
            keys(asked.algorithm, asked.folder),
            sorted(asked.sources.iterdir()),
            asked.target,
        )
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        folder = Path(made)
        print("| work | tool | CPU s | peak MiB | rate |")
        print("|---|---|---|---|---|", flush=True)
        if asked.only != "many":
            large(folder, asked.megabytes, asked.repeat)
        if asked.only != "large":
            many(folder, asked.count, asked.repeat)


if __name__ == "__main__":
    main()
