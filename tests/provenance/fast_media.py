"""Small files of each container, and what signs them without the rest of the product."""

import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import c2pa
import encypher_c2pa
import numpy
from media import media
from PIL import Image

from assaymark.provenance.c2pa_context import context
from assaymark.provenance.formats import Format, Route
from assaymark.provenance.job import Job
from assaymark.provenance.keys import Chain
from assaymark.provenance.plain import read_plain
from assaymark.provenance.trust import Trust

RANDOM = numpy.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=numpy.uint8)


def kind(name: str, media_type: str, route: Route) -> Format:
    return Format(name=name, media_type=media_type, endings=(f".{name}",), route=route)


KINDS = {
    "jpg": kind("jpg", "image/jpeg", Route.JPEG),
    "png": kind("png", "image/png", Route.PNG),
    "webp": kind("webp", "image/webp", Route.RIFF),
    "wav": kind("wav", "audio/wav", Route.RIFF),
    "avi": kind("avi", "video/avi", Route.RIFF),
    "mp4": kind("mp4", "video/mp4", Route.BMFF),
    "mov": kind("mov", "video/quicktime", Route.BMFF),
    "m4a": kind("m4a", "audio/mp4", Route.BMFF),
    "mp3": kind("mp3", "audio/mpeg", Route.LIBRARY),
    "flac": kind("flac", "audio/flac", Route.LIBRARY),
    "avif": kind("avif", "image/avif", Route.LIBRARY),
    "heic": kind("heic", "image/heic", Route.LIBRARY),
    "jxl": kind("jxl", "image/jxl", Route.LIBRARY),
}
DATA_HASHED = ("jpg", "png", "webp", "wav", "avi")
FILMS = ("mp4", "mov", "m4a")
ONLY_READ = ("mp3", "flac", "jxl", "avif", "heic")


def make(folder: Path, name: str) -> Path:
    """A valid file of a kind, the same each time."""
    path = folder / f"source.{name}"
    if name in ("jpg", "png", "webp"):
        Image.fromarray(RANDOM).save(path)
    elif name in ONLY_READ:
        path.write_bytes(media(name.upper()))
    elif name == "wav":
        write_wav(path, RANDOM.tobytes()[:5002])
    else:
        write_film(path)
    return path


def write_wav(path: Path, samples: bytes) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(1)
        stream.setframerate(8000)
        stream.writeframes(samples)


def write_film(path: Path, **options: str) -> None:
    import av

    with av.open(str(path), "w", options=options) as container:
        if path.suffix == ".m4a":
            sound = container.add_stream("aac", rate=8000)
            frame = av.AudioFrame.from_ndarray(
                numpy.zeros((1, 1024), numpy.float32), format="fltp", layout="mono"
            )
            frame.sample_rate = 8000
            for packet in (*sound.encode(frame), *sound.encode()):
                container.mux(packet)
            return
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 40, "yuv420p"
        for shift in range(4):
            frame = av.VideoFrame.from_ndarray(numpy.roll(RANDOM, shift, 0), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def decoded(path: Path) -> list[bytes]:
    """Every sample of a film, as its decoder gives it."""
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(container.streams[0])]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Everything that signs and judges. open: a context that trusts the signer, and signs."""

    chain: Chain
    trusting: c2pa.Context
    signing: c2pa.Context

    def builder(self, *, hard_binding: Mapping[str, Any] | None = None) -> c2pa.Builder:
        bound = [{"label": "c2pa.hash.bmff.v3", "data": hard_binding}] if hard_binding else []
        about = {"claim_generator_info": [{"name": "desk", "version": "1"}], "title": "a work"}
        made = c2pa.Builder(about | {"assertions": bound}, context=self.signing)
        made.set_intent(
            c2pa.C2paBuilderIntent.CREATE,
            c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
        )
        return made

    def signer(self) -> c2pa.Signer:
        return signer(self.chain)

    def sign(self, sign: Callable[[Job], None], source: Path, target: Path) -> None:
        target.touch()
        with self.signer() as made:
            sign(
                Job(
                    source=source,
                    target=target,
                    format=KINDS[source.suffix[1:]],
                    builder=self.builder,
                    signer=made,
                )
            )

    def state(self, path: Path) -> str:
        """What the library says."""
        document = read_plain(path, KINDS[path.suffix[1:]], self.trusting).document
        return str(document["validation_state"])

    def second(self, path: Path) -> tuple[str, str]:
        """What the second engine says: integrity, trust."""
        found = encypher_c2pa.verify(
            str(path), trust_pem=self.chain.trust_anchor_pem, telemetry=False, online=False
        )
        return found["integrity"], found["trust"]["status"]

    def accepted(self, path: Path) -> bool:
        """Whether both engines hold the file for unchanged and its signer for trusted."""
        valid = ("valid", "valid_for_supplied_material")
        return self.state(path) == "Trusted" and self.second(path) == valid


def signer(chain: Chain) -> c2pa.Signer:
    credentials = chain.credentials
    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(
            credentials.algorithm.encode(),
            credentials.chain_pem.encode(),
            credentials.key_pem.encode(),
            None,
        )
    )


def desk(chain: Chain) -> Desk:
    settings = {"version": 1, "builder": {"thumbnail": {"enabled": False}}}
    signing = partial(c2pa.Context.from_dict, settings)
    return Desk(
        chain=chain,
        trusting=context(Trust(signers=chain.trust_anchor_pem)),
        signing=signing(signer(chain)),
    )
