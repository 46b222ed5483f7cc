"""A text put into a real file at a place, by libraries and bytes that share nothing with our readers."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import av
import numpy
from PIL import Image, PngImagePlugin

SIDE = 48
_NAMESPACES = {
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "TC260": "http://www.tc260.org.cn/ns/AIGC/1.0/",
}
_TAGS = {"ImageDescription": 270, "Make": 271, "Model": 272, "Software": 305, "Artist": 315}
_ENDINGS = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tif", "AVIF": "avif",
    "mp4": "mp4", "mov": "mov", "mp3": "mp3", "flac": "flac", "ogg": "ogg", "wav": "wav",
    "avi": "avi", "matroska": "mkv", "webm": "webm",
}  # fmt: skip

Texts = dict[str, str]


@cache
def photograph(mode: str = "RGB") -> Image.Image:
    random = numpy.random.default_rng(5)
    channels = len(mode)
    return Image.fromarray(random.integers(0, 256, (SIDE, SIDE, channels), dtype=numpy.uint8), mode)


def picture(format_: str, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image or photograph()).save(stream, format_, **options)
    return stream.getvalue()


def packet(texts: Texts, *, element: bool = False) -> bytes:
    """An XMP packet with these properties, as attributes or as elements, in prefixes of its own."""
    pairs = [(place.split(":")[1], place.split(":")[2], text) for place, text in texts.items()]
    spaces = " ".join(f'xmlns:my{prefix}="{_NAMESPACES[prefix]}"' for prefix, _, _ in pairs)
    attributes = " ".join(f"my{prefix}:{name}={quoteattr(text)}" for prefix, name, text in pairs)
    inside = "".join(
        f"<my{prefix}:{name}>{quoteattr(text)[1:-1]}</my{prefix}:{name}>"
        for prefix, name, text in pairs
    )
    return (
        "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>"
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        f"<rdf:Description rdf:about='' {spaces} {'' if element else attributes}>"
        f"{inside if element else ''}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def exif(texts: Texts) -> Image.Exif:
    made = Image.Exif()
    for place, text in texts.items():
        name = place.split(":")[1]
        if name == "UserComment":
            made.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
        elif name == "XPComment":
            made[0x9C9C] = f"{text}\0".encode("utf-16-le")
        else:
            made[_TAGS[name]] = text
    return made


def resources(texts: Texts) -> bytes:
    """IIM 4.2 in an image resource of Photoshop."""
    data = b"\x1c\x01\x5a\0\3\x1b%G"
    for place, text in texts.items():
        value = text.encode()
        data += struct.pack(">BBBH", 0x1C, 2, int(place.split(":")[2]), len(value)) + value
    return b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(data)) + data + b"\0" * (len(data) % 2)


def _png(texts: Texts) -> bytes:
    info = PngImagePlugin.PngInfo()
    for place, text in texts.items():
        info.add_text(place.removeprefix("png:"), text)
    return picture("PNG", pnginfo=info)


def _png_xmp(texts: Texts) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet(texts).decode(), zip=True)
    return picture("PNG", pnginfo=info)


def _jpeg_iptc(texts: Texts) -> bytes:
    body = b"Photoshop 3.0\0" + resources(texts)
    return picture("JPEG", extra=b"\xff\xed" + struct.pack(">H", len(body) + 2) + body)


def _tiff(tag: int, make: Callable[[Texts], bytes], texts: Texts) -> bytes:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2()
    directory.tagtype[tag] = 1
    directory[tag] = make(texts)
    return picture("TIFF", tiffinfo=directory)


def stealthy(texts: Texts, format_: str = "PNG", *, packed: bool = True) -> bytes:
    """The text in the lowest bits, pixel by pixel down each column, as the extension's own loop writes."""
    ((place, text),) = texts.items()
    alpha = place == "stealth:alpha"
    name = f"stealth_{'png' if alpha else 'rgb'}{'comp' if packed else 'info'}".encode()
    body = gzip.compress(text.encode()) if packed else text.encode()
    data = name + (8 * len(body)).to_bytes(4) + body
    bits = iter("".join(f"{byte:08b}" for byte in data))
    image = photograph("RGBA").resize((160, 96), Image.Resampling.NEAREST)
    if not alpha:
        image = image.convert("RGB")
    for x in range(image.width):
        for y in range(image.height):
            pixel = list(image.getpixel((x, y)))  # type: ignore[arg-type]
            for channel in (3,) if alpha else (0, 1, 2):
                bit = next(bits, None)
                if bit is not None:
                    pixel[channel] = pixel[channel] & 0xFE | int(bit)
            image.putpixel((x, y), tuple(pixel))
    assert next(bits, None) is None, "the text is longer than the picture"
    return picture(format_, image, lossless=True, exact=True)


def film(container: str, texts: Texts, *, keys: bool = False) -> bytes:
    """A film of one frame, or a sound of a tenth of a second, with tags written by FFmpeg."""
    stream = io.BytesIO()
    options = {"movflags": "use_metadata_tags"} if keys else {}
    codecs = {
        "mp3": "mp3",
        "flac": "flac",
        "ogg": "libopus",
        "wav": "pcm_s16le",
        "webm": "libopus",
    }
    with av.open(stream, "w", format=container, options=options) as output:
        if container in codecs:
            sound = output.add_stream(codecs[container], rate=48000, layout="mono")
            assert isinstance(sound, av.AudioStream)
            samples = av.AudioFrame.from_ndarray(
                numpy.zeros((1, 4800), numpy.int16), format="s16", layout="mono"
            )
            samples.sample_rate = 48000
            (sound if container == "ogg" else output).metadata.update(texts)
            resampler = av.AudioResampler(sound.format, "mono", 48000, sound.frame_size or None)
            for part in (*resampler.resample(samples), *resampler.resample(None)):
                output.mux(sound.encode(part))
            output.mux(sound.encode())
        else:
            pictures = output.add_stream("mpeg4", rate=10)
            assert isinstance(pictures, av.VideoStream)
            pictures.width = pictures.height = SIDE
            pictures.pix_fmt = "yuv420p"
            output.metadata.update(texts)
            frame = av.VideoFrame.from_ndarray(numpy.asarray(photograph()), format="rgb24")
            output.mux(pictures.encode(frame))
            output.mux(pictures.encode())
    return stream.getvalue()


@cache
def plain(container: str) -> bytes:
    """A file of a container that says nothing of a generator."""
    return picture(container) if container.isupper() else film(container, {})


def _named(container: str, keys: dict[str, str], texts: Texts, *, mdta: bool = False) -> bytes:
    return film(container, {keys[place]: text for place, text in texts.items()}, keys=mdta)


def id3(texts: Texts) -> bytes:
    """An ID3 2.3 tag before the sound (id3.org/id3v2.3.0)."""
    frames = b""
    for place, text in texts.items():
        name, _, described = place.removeprefix("id3:").partition(":")
        body = text.encode("latin-1") if name[0] == "W" else b"\1" + text.encode("utf-16")
        if name == "COMM":
            body = b"\1eng" + "".encode("utf-16") + b"\0\0" + text.encode("utf-16")
        elif name == "TXXX":
            body = b"\1" + described.encode("utf-16") + b"\0\0" + text.encode("utf-16")
        frames += name.encode() + struct.pack(">IH", len(body), 0) + body
    size = len(frames)
    syncsafe = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    sound = plain("mp3")
    return b"ID3\3\0\0" + syncsafe + frames + sound[sound.index(b"\xff\xfb") :]


def _info(texts: Texts) -> bytes:
    """A LIST of INFO at the end of an AVI, counted by the header."""
    body = b"INFO"
    for place, text in texts.items():
        value = text.encode() + b"\0"
        body += (
            place[5:9].encode() + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2)
        )
    data = plain("avi") + b"LIST" + struct.pack("<I", len(body)) + body
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def _flac(texts: Texts) -> bytes:
    """A block of Vorbis comments behind STREAMINFO (RFC 9639, 8.6): FFmpeg renames COMMENT."""
    body = struct.pack("<I4sI", 4, b"test", len(texts))
    for place, text in texts.items():
        comment = f"{place.removeprefix('vorbis:').upper()}={text}".encode()
        body += struct.pack("<I", len(comment)) + comment
    data = plain("flac")
    return data[:42] + b"\4" + len(body).to_bytes(3) + body + data[42:]


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of PNG with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


Write = Callable[[Texts], bytes]


def _exif_in(format_: str, texts: Texts) -> bytes:
    return picture(format_, exif=exif(texts).tobytes())


def _xmp_in(format_: str, texts: Texts) -> bytes:
    return picture(format_, xmp=packet(texts, element=format_ == "WEBP"))


# The ways in which a text gets to a place, by the beginning of the place's name: container and writer.
WRITERS: dict[str, list[tuple[str, Write]]] = {
    "png:": [("PNG", _png)],
    "exif:": [(name, partial(_exif_in, name)) for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")],
    "xmp:": [(name, partial(_xmp_in, name)) for name in ("JPEG", "WEBP", "AVIF")]
    + [("PNG", _png_xmp), ("TIFF", partial(_tiff, 700, packet))],
    "iptc:": [("JPEG", _jpeg_iptc), ("TIFF", partial(_tiff, 34377, resources))],
    "jpeg:comment": [
        ("JPEG", lambda texts: picture("JPEG", comment=texts["jpeg:comment"].encode()))
    ],
    "gif:comment": [("GIF", lambda texts: picture("GIF", comment=texts["gif:comment"].encode()))],
    "stealth:": [("PNG", stealthy)],
    "id3:": [("mp3", id3)],
    "riff:ICMT": [
        (name, partial(_named, name, {"riff:ICMT": "comment"})) for name in ("wav", "avi")
    ],
    "riff:": [("avi", _info)],
    "vorbis:comment": [("flac", _flac)],
    "mp4:\u00a9cmt": [("mp4", partial(_named, "mp4", {"mp4:\u00a9cmt": "comment"}))],
    "mp4:desc": [("mp4", partial(_named, "mp4", {"mp4:desc": "description"}))],
}


def ways(place: str) -> list[tuple[str, Write]]:
    """How to write a text at a place: the longest beginning that is known, or FFmpeg's tags by name."""
    known = [
        start
        for start in WRITERS
        if place == start or (start[-1] == ":" and place.startswith(start))
    ]
    if known:
        return WRITERS[max(known, key=len)]
    kind, _, name = place.partition(":")
    containers = {"mp4": ["mp4", "mov"], "vorbis": ["flac", "ogg"], "ebml": ["matroska", "webm"]}[
        kind
    ]
    return [
        (container, partial(_named, container, {place: name}, mdta=kind == "mp4"))
        for container in containers
    ]


def put(folder: Path, container: str, data: bytes, stem: str = "a") -> Path:
    path = folder / f"{stem}.{_ENDINGS[container]}"
    path.write_bytes(data)
    return path
