"""Statements in sound: ID3 (MP3), Vorbis comments (FLAC, Ogg) and the INFO list of RIFF (WAV, AVI)."""

from assaymark.provenance.layout import At, Malformed
from assaymark.provenance.statements import MAX_PARTS, MAX_TEXT, Collector, text_of, whole, within
from assaymark.provenance.statements_picture import riff_chunks
from assaymark.provenance.statements_xmp import read_xmp

_MAX_TAG = 64 << 20
_CODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
_TEXT_FRAMES_2 = {"COM": "COMM", "TXX": "TXXX", "TEN": "TENC", "TSS": "TSSE", "WXX": "WXXX"}


def read_mp3(at: At, size: int, out: Collector) -> None:
    """The ID3 tag that begins the file; one at its end could have been appended by anybody."""
    read_id3(at, size, out)


def read_id3(at: At, size: int, out: Collector) -> int:
    """ID3 2.2 to 2.4: texts, comments and addresses as `id3:FRAME` or `id3:TXXX:name`.

    Gives where the tag ends, 0 where there is none.
    """
    head = at(0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    version, flags = head[3], head[5]
    end = 10 + _syncsafe(head[6:10])
    if version not in (2, 3, 4) or end > min(size, _MAX_TAG):
        raise Malformed("an ID3 tag of version 2.2 to 2.4 ends in the file")
    offset = 10
    if flags & 0x40 and version > 2:  # an extended header, which counts itself in 2.4
        extended = at(10, 4)
        offset += _syncsafe(extended) if version == 4 else 4 + int.from_bytes(extended)
    width = 6 if version == 2 else 10
    for _ in range(MAX_PARTS):
        frame = at(offset, width)
        if offset + width > end or not frame[:1].strip(b"\0"):
            break
        name = frame[: 3 if version == 2 else 4].decode("latin-1")
        length = (
            int.from_bytes(frame[3:6])
            if version == 2
            else _syncsafe(frame[4:8])
            if version == 4
            else int.from_bytes(frame[4:8])
        )
        start, offset = offset + width, offset + width + length
        if offset > end:
            raise Malformed("a frame ends in its tag")
        if name[0] not in "TWC" or length > MAX_TEXT:
            continue
        _frame(_TEXT_FRAMES_2.get(name, name), at(start, length), frame, version, flags, out)
    return end


def _frame(name: str, data: bytes, frame: bytes, version: int, flags: int, out: Collector) -> None:
    form = frame[9] if version > 2 else 0
    packed = form & (0x0C if version == 4 else 0xC0)
    if packed:
        out.trouble(f"the frame {name!r} of the ID3 tag is packed or encrypted and was left out")
        return
    if version == 4 and form & 1:  # how long it is without the zeros of unsynchronisation
        data = data[4:]
    if flags & 0x80 or (version == 4 and form & 2):
        data = data.replace(b"\xff\0", b"\xff")
    if name[0] == "W" and name != "WXXX":
        out.add(f"id3:{name}", data.decode("latin-1"))
        return
    if not data or data[0] >= len(_CODINGS):
        return
    texts = _texts(data[4:] if name == "COMM" else data[1:], data[0])
    if name in ("TXXX", "WXXX") and len(texts) > 1:
        out.add(f"id3:{name}:{texts[0].lower()}", texts[1])
    elif name == "COMM" and len(texts) > 1:  # after a language and a short description
        out.add("id3:COMM", texts[1])
    elif name[0] == "T":
        out.add(f"id3:{name}", " ".join(texts))


def _texts(data: bytes, coding: int) -> list[str]:
    if coding in (1, 2):
        data = data[: len(data) // 2 * 2]
    return data.decode(_CODINGS[coding], "replace").replace("\ufeff", "").split("\0")


def _syncsafe(data: bytes) -> int:
    if len(data) < 4 or any(byte & 128 for byte in data):
        raise Malformed("a size of ID3 has seven bits a byte")
    return sum(byte << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))


def read_flac(at: At, size: int, out: Collector) -> None:
    """FLAC (RFC 9639, 8.6): the block of Vorbis comments, behind an ID3 tag that some put first."""
    offset = read_id3(at, size, out)
    if at(offset, 4) != b"fLaC":
        raise Malformed("a FLAC file begins with its name")
    offset += 4
    for _ in range(129):
        head = at(offset, 4)
        end = offset + 4 + int.from_bytes(head[1:4])
        if len(head) < 4 or end > size:
            raise Malformed("a block ends in the file")
        if head[0] & 127 == 4:
            read_comments(whole(at, offset + 4, end, "the comments"), out)
        if head[0] & 128:
            return
        offset = end


def read_comments(data: bytes, out: Collector) -> None:
    """Vorbis comments: the vendor, then NAME=text, as `vorbis:name` in lower case."""
    vendor, offset = _counted(data, 0)
    out.add("vorbis:vendor", text_of(vendor))
    count = int.from_bytes(data[offset : offset + 4], "little")
    offset += 4
    for _ in range(min(count, MAX_PARTS)):
        comment, offset = _counted(data, offset)
        name, _, text = comment.partition(b"=")
        out.add(f"vorbis:{text_of(name).lower()}", text_of(text))


def _counted(data: bytes, offset: int) -> tuple[bytes, int]:
    start = offset + 4
    end = start + int.from_bytes(data[offset:start], "little")
    if end > len(data):
        raise Malformed("a comment ends in its block")
    return data[start:end], end


def read_ogg(at: At, size: int, out: Collector) -> None:
    """Ogg (RFC 3533): the comment header, second packet of the first stream, of Vorbis, Opus or FLAC."""
    packets = _first_packets(at, size)
    for start in (b"\x03vorbis", b"OpusTags"):
        if packets[1].startswith(start):
            read_comments(packets[1][len(start) :], out)
    if packets[0].startswith(b"\x7fFLAC"):
        read_comments(packets[1][4:], out)


def _first_packets(at: At, size: int) -> list[bytes]:
    """The first two packets of the first logical stream; raises Malformed."""
    packets, current, offset, serial = [], bytearray(), 0, b""
    for _ in range(MAX_PARTS):
        head = at(offset, 27)
        if len(head) < 27 or head[:4] != b"OggS":
            raise Malformed("a page begins with OggS")
        lacing = at(offset + 27, head[26])
        body = offset + 27 + len(lacing)
        serial = serial or head[14:18]
        offset = body
        for length in lacing:
            if head[14:18] == serial:
                current += at(offset, length)
                if length < 255:
                    packets.append(bytes(current))
                    current.clear()
            offset += length
        if len(packets) >= 2:
            return packets[:2]
        if offset > size or len(current) > MAX_TEXT:
            break
    raise Malformed("the comments end in the file and have at most 4 MiB")


def read_riff(at: At, size: int, out: Collector) -> None:
    """WAV and AVI: the INFO list as `riff:NAME`, XMP, and an ID3 tag of WAV."""
    for name, start, end in riff_chunks(at, size, out):
        if name == b"LIST" and at(start, 4) == b"INFO":
            _info(whole(at, start + 4, end, "the INFO list"), out)
        elif name == b"_PMX":
            read_xmp(whole(at, start, end, "the XMP chunk"), out)
        elif name.lower() == b"id3 ":
            data = whole(at, start, end, "the ID3 chunk")
            read_id3(within(data), len(data), out)


def _info(data: bytes, out: Collector) -> None:
    offset = 0
    while offset + 8 <= len(data):
        length = int.from_bytes(data[offset + 4 : offset + 8], "little")
        text = data[offset + 8 : offset + 8 + length]
        name = data[offset : offset + 4].decode("latin-1")
        out.add(f"riff:{name}", text_of(text.split(b"\0", 1)[0]))
        offset += 8 + length + (length & 1)
