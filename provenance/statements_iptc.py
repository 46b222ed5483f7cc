"""IPTC's Information Interchange Model 4.2 in the image resources of Photoshop (8BIM)."""

from assaymark.provenance.layout import Malformed
from assaymark.provenance.statements import MAX_PARTS, Collector, text_of

_IIM = 0x0404
_UTF8 = b"\x1b%G"  # IIM 4.2, 1:90


def read_resources(data: bytes, out: Collector) -> None:
    """Image resources (Adobe Photoshop File Formats, image resource blocks) that hold IIM."""
    try:
        _resources(data, out)
    except Malformed as error:
        out.trouble(f"the image resources are not as their format says: {error}")


def _resources(data: bytes, out: Collector) -> None:
    offset = 0
    while offset + 12 <= len(data) and data[offset : offset + 4] == b"8BIM":
        name = data[offset + 6]
        size_at = offset + 6 + (name + 2) // 2 * 2  # a Pascal string, padded to be even
        start = size_at + 4
        size = int.from_bytes(data[size_at:start])
        if start + size > len(data):
            raise Malformed("a resource ends with them")
        if int.from_bytes(data[offset + 4 : offset + 6]) == _IIM:
            read_iptc(data[start : start + size], out)
        offset = start + (size + 1) // 2 * 2


def read_iptc(data: bytes, out: Collector) -> None:
    """The texts of record 2 as `iptc:2:NUMBER`: 5 title, 65 program, 110 credit, 115 source, 120 caption."""
    offset, utf8 = 0, False
    for _ in range(MAX_PARTS):
        head = data[offset : offset + 5]
        if len(head) < 5 or head[0] != 0x1C:
            break
        record, number, size = head[1], head[2], int.from_bytes(head[3:5])
        offset += 5
        if size & 0x8000:  # an extended size, of that many bytes
            wide = size & 0x7FFF
            if wide > 4:
                out.trouble("a dataset of IPTC is longer than is read")
                return
            size = int.from_bytes(data[offset : offset + wide])
            offset += wide
        value = data[offset : offset + size]
        if len(value) < size:
            out.trouble("the last dataset of IPTC is cut off")
            return
        offset += size
        if (record, number) == (1, 90):
            utf8 = value == _UTF8
        elif record == 2:
            text = value.decode("utf-8", "replace") if utf8 else text_of(value)
            out.add(f"iptc:2:{number}", text)
