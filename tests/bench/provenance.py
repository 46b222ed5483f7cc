"""Signing and verifying beside c2pa-python: `python tests/bench/provenance.py [--folder DIR]`.

Every measurement is a fresh process: CPU is user + system time of the work after imports and reading
keys, memory is the largest resident size of the process, interpreter and libraries included. Best of
`--repeat`. "c2pa-python" is Builder.sign_file and Reader as its documentation shows them, with ES256
(small files: Ed25519) and one trust anchor; "ours" is what `assaymark sign` and `verify` call for a
file. The large files are noise: a RIFF/WAVE, a film of a few frames with an mdat of --megabytes, a PNG
of stored blocks. All of it needs about five times --megabytes of disk. Where
the machine is shared, read the ratio: the load average is printed first.
"""

import argparse
import hashlib
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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import c2pa

from assaymark.provenance import c2pa_context, in_place
from assaymark.provenance.batch import sign_all
from assaymark.provenance.check import check_provenance
from assaymark.provenance.checked import Demands
from assaymark.provenance.claims import Claims
from assaymark.provenance.formats import Format, recognise
from assaymark.provenance.job import Job
from assaymark.provenance.journal import Journal
from assaymark.provenance.keys import Credentials, new_chain
from assaymark.provenance.plan import Task
from assaymark.provenance.routes import READS, SIGNS
from assaymark.provenance.sign import Signed, sign
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
        os.fsync(write.fileno())  # or the signing would pay for writing the copy
    for _ in range(2):  # the first reads after a write cost the kernel as much as the hash does
        with copy.open("rb") as read:
            while read.read(1 << 20):
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


def sign_one(with_keys: Keys, claims: Claims, task: Task, overwrite: bool) -> Signed:
    return sign(task.source, task.destination, with_keys.credentials, claims, overwrite=overwrite)


def ours_folder(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    claims = Claims(source_type="trainedAlgorithmicMedia", generator="bench", model="a/model")
    tasks = tuple(Task(source=path, destination=target / path.name) for path in sources)

    def work() -> None:
        journal = Journal(path=None, settings="")
        done = sign_all(tasks, partial(sign_one, with_keys, claims), journal, workers=1)
        assert all(outcome.state == "signed" for outcome in done)

    return work


def ours_check(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    demands = Demands(trust=Trust(signers=with_keys.anchor))
    folder = sources[0].parent

    def work() -> None:
        found = check_provenance("media", (f"{folder}/*",), demands, workers=1)
        assert found.method is not None
        assert f"of {len(sources)} files" in found.method.title

    return work


def ours_first(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    def work() -> None:
        chain = new_chain("Example Press")
        signed = target / sources[0].name
        sign(sources[0], signed, chain.credentials)
        assert examine(signed, Trust(signers=chain.trust_anchor_pem)).state is State.TRUSTED

    return work


def only_hash(with_keys: Keys, sources: list[Path], target: Path) -> Callable[[], None]:
    """The limit: reading and hashing the same number of bytes."""

    def work() -> None:
        with sources[0].open("rb") as stream:
            hashlib.file_digest(stream, "sha256")

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
        ours_folder,
        ours_check,
        ours_first,
        only_hash,
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


def make_jpeg(path: Path, size: int) -> None:
    """A picture with noise in comments before its scan."""
    one = _picture("JPEG")
    with path.open("wb") as stream:
        stream.write(one[:2])
        block = b"\xff\xfe\xff\xff" + os.urandom(65533)
        for _ in range(size // len(block)):
            stream.write(block)
        stream.write(one[2:])


def make_flac(path: Path, size: int) -> None:
    """The stream's description, and noise where frames would be."""
    with path.open("wb") as stream:
        stream.write(b"fLaC\x80\0\0\x22" + struct.pack(">HH", 4096, 4096) + bytes(30))
        fill(stream, size)


def make_mp3(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.write(b"ID3\4\0\0\0\0\0\0\xff\xfb\x90\0")
        fill(stream, size)


def make_jxl(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.write(b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl ")
        stream.write(struct.pack(">I4s", size + 8, b"jxlc"))
        fill(stream, size)


def make_tiff(path: Path, size: int) -> None:
    """One strip of grey noise."""
    rows = size // 4096
    tags = [(256, 4, 4096), (257, 4, rows), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    tags += ((273, 4, 134), (277, 3, 1), (278, 4, rows), (279, 4, rows * 4096))
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHIH", b"II", 42, 8, len(tags)))
        for tag, kind, value in tags:
            stream.write(struct.pack("<HHII", tag, kind, 1, value))
        stream.write(bytes(134 - stream.tell()))
        fill(stream, rows * 4096)


def make_gif(path: Path, size: int) -> None:
    """A picture with noise in comments before its end."""
    one = _picture("GIF")
    block = b"\xff" + os.urandom(255)
    with path.open("wb") as stream:
        stream.write(one[:-1] + b"\x21\xfe")
        for _ in range(size // (256 * 4096)):
            stream.write(block * 4096)
        stream.write(b"\0" + one[-1:])


def _picture(name: str) -> bytes:
    from PIL import Image

    memory = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(memory, name)
    return memory.getvalue()


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


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the files lie, and how often a work is repeated."""

    folder: Path
    repeat: int
    algorithm: str = "es256"

    def measured(self, name: str, sources: Path, repeat: int = 0) -> tuple[float, float]:
        target = self.folder / "signed"
        return measured(name, self.folder, self.algorithm, sources, target, repeat or self.repeat)


Measured = tuple[float, float] | None


def row(work: str, goal: str, theirs: Measured, ours: Measured, units: float, unit: str) -> None:
    """theirs, ours: CPU seconds and MiB for so many units of work."""
    cells = [
        f"{m[0]:.2f} s, {m[1]:.0f} MiB, {units / m[0]:.4g} {unit}" if m else ""
        for m in (theirs, ours)
    ]
    ratio = f"{theirs[0] / ours[0]:.2f}" if theirs and ours else ""
    print(f"| {work} | {goal} | {cells[0]} | {cells[1]} | {ratio} |", flush=True)


MAKES: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "wav": ("<= 0.35 s, 64 MiB", make_wav),
    "mp4": ("<= 0.55 s, 64 MiB", make_film),
    "png": ("", make_png),
    "jpg": ("", make_jpeg),
    "flac": ("", make_flac),
    "mp3": ("", make_mp3),
    "jxl": ("", make_jxl),
    "tiff": ("", make_tiff),
    "gif": ("", make_gif),
}
OUR_ROUTES = ("wav", "mp4", "png", "jpg")  # of the others, the library writes the copy


def large(bench: Bench, megabytes: int, kinds: tuple[str, ...]) -> None:
    size = megabytes * 10**6
    for name in kinds:
        goal, make = MAKES[name]
        sources = bench.folder / name
        sources.mkdir(exist_ok=True)
        make(sources / f"large.{name}", size)
        title, rate = f"{megabytes} MB {name.upper()}", (size / 1e9, "GB/s")
        theirs = bench.measured("theirs_sign", sources) if name in OUR_ROUTES else None
        ours = bench.measured("ours_route", sources, 0 if name in OUR_ROUTES else 1)
        if theirs:
            row(f"sign {title}", goal, theirs, ours, *rate)
        if name == "wav":
            row(f"sign {title} in place", "", None, bench.measured("ours_in_place", sources), *rate)
            ours = bench.measured("ours_route", sources, 1)
        kept = target_as_source(bench.folder)
        theirs = bench.measured("theirs_read", kept)
        ours = bench.measured("ours_read", kept)
        row(f"verify {title}", "<= 0.40 s, 64 MiB", theirs, ours, *rate)
        for path in (sources, kept, bench.folder / "signed"):
            for old in path.glob("*"):
                old.unlink()
    probe = bench.measured("only_hash", made_noise(bench.folder, size))
    row(f"SHA-256 of {megabytes} MB, read in blocks", "", None, probe, size / 1e9, "GB/s")


def made_noise(folder: Path, size: int) -> Path:
    sources = folder / "noise"
    sources.mkdir(exist_ok=True)
    with (sources / "noise").open("wb") as stream:
        fill(stream, size)
    return sources


def target_as_source(folder: Path) -> Path:
    """What was just signed, out of the way of what is signed next."""
    kept = folder / "sources"
    kept.mkdir(exist_ok=True)
    for old in kept.iterdir():
        old.unlink()
    for path in (folder / "signed").iterdir():
        path.rename(kept / path.name)
    return kept


def many(bench: Bench, count: int) -> None:
    sources = bench.folder / "small"
    make_pictures(sources, 500, 145, "jpg", quality=75)
    size = (sources / "0000.jpg").stat().st_size
    title, rate = f"{size / 1000:.0f} KB JPEG, Ed25519", (500, "files/s")
    ours = bench.measured("ours_route", sources)
    theirs = bench.measured("theirs_sign", sources)
    kept = target_as_source(bench.folder)
    row(f"sign {title}", ">= 2,300/s (1.28 of c2pa-python)", theirs, ours, *rate)
    ours = bench.measured("ours_sign", sources)
    row(f"sign {title}, source checked and read back", "", theirs, ours, *rate)
    theirs = bench.measured("theirs_read", kept)
    goal = ">= 3,300/s (1.29 of c2pa-python)"
    row(f"verify {title}", goal, theirs, bench.measured("ours_read", kept), *rate)
    ours = bench.measured("ours_examine", kept)
    row(f"verify {title}, with our judgement", "", theirs, ours, *rate)
    ours = bench.measured("ours_first", sources)
    row("keys to the first trusted file", "< 1 s", None, ours, 1, "files/s")
    a_folder(bench, count)


def a_folder(bench: Bench, count: int) -> None:
    sources, rate = bench.folder / "pictures", (count, "files/s")
    make_pictures(sources, count, 1195, "jpg", quality=82)
    size = (sources / "0000.jpg").stat().st_size
    title = f"{count} x {size / 1e6:.2f} MB JPEG"
    defaults = bench.measured("theirs_defaults", sources, 1)
    print(
        f"| sign {title} | | with its thumbnails: {min(count, THUMBNAILED) / defaults[0]:.0f} files/s | | |"
    )
    theirs = bench.measured("theirs_sign", sources)
    row(f"sign {title}, one pass alone", "", theirs, bench.measured("ours_route", sources), *rate)
    ours = bench.measured("ours_folder", sources)
    row(f"sign_all of {title}, AI disclosure", ">= 250/s", theirs, ours, *rate)
    kept = target_as_source(bench.folder)
    grown = [(kept / p.name).stat().st_size - p.stat().st_size for p in sources.iterdir()]
    print(f"| growth a file, at most | <= 4,096 bytes | | {max(grown)} bytes | |", flush=True)
    theirs = bench.measured("theirs_read", kept)
    ours = bench.measured("ours_check", kept)
    row(f"check_provenance of {title}", ">= 600/s", theirs, ours, *rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="for the files; a temporary one by default")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--count", type=int, default=1000, help="of pictures of 1 MB")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=("large", "many"))
    parser.add_argument("--kinds", nargs="+", default=list(MAKES), choices=list(MAKES))
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
        load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
        print(f"c2pa-python {c2pa.__version__}; load average {load}; {os.cpu_count()} cores\n")
        print("| work | goal | c2pa-python | ours | ratio of CPU |")
        print("|---|---|---|---|---|", flush=True)
        bench = Bench(folder=folder, repeat=asked.repeat)
        if asked.only != "many":
            large(bench, asked.megabytes, tuple(asked.kinds))
        if asked.only != "large":
            many(replace(bench, algorithm="ed25519"), asked.count)


if __name__ == "__main__":
    main()
