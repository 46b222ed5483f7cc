"""XMP (ISO 16684-1): the properties of the picture itself, in whatever prefix and form they are written.

Properties of other works that a packet describes (ingredients, artwork in the picture) are not taken for
the picture's own. A packet that declares a document type or an entity is refused.
"""

from dataclasses import dataclass, field
from xml.parsers import expat

from assaymark.provenance.statements import MAX_TEXT, Collector

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ROOT, _DESCRIPTION = f"{_RDF} RDF", f"{_RDF} Description"
_XML = "http://www.w3.org/XML/1998/namespace"
_DEPTH = 64
_ELEMENTS = 20_000
PREFIXES = {
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xmp/note/": "xmpNote",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://purl.org/dc/terms/": "dcterms",
    "http://www.tc260.org.cn/ns/AIGC/1.0/": "TC260",
}


class _Refused(ValueError):
    """A packet that is not read, and why."""


@dataclass
class _Packet:
    """The state of a parse: the elements that are open, and the text of the innermost."""

    found: list[tuple[str, str]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    elements: int = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        if self.elements > _ELEMENTS or len(self.open) >= _DEPTH:
            raise _Refused("it has more elements, or deeper ones, than a packet needs")
        self.open.append(name)
        self.text.clear()
        if self._is_description():
            self.found += [
                (key, value)
                for key, value in attributes.items()
                if not key.startswith((_RDF, _XML)) and " " in key
            ]
        elif f"{_RDF} resource" in attributes and (own := self._property()):
            self.found.append((own, attributes[f"{_RDF} resource"]))

    def end(self, name: str) -> None:
        own = self._property()
        if own and self.text:
            self.found.append((own, "".join(self.text)))
        self.open.pop()
        self.text.clear()

    def characters(self, text: str) -> None:
        self.text.append(text)

    def _is_description(self) -> bool:
        root = len(self.open) - 2
        return self.open[root:] == [_ROOT, _DESCRIPTION] and self.open.index(_ROOT) == root

    def _property(self) -> str:
        """The property whose value the innermost element is: itself, or an item of its array."""
        root = self.open.index(_ROOT) if _ROOT in self.open else len(self.open)
        below = self.open[root + 2 :]
        is_own = self.open[root + 1 : root + 2] == [_DESCRIPTION] and bool(below)
        array = [name.rpartition(" ") for name in below[1:]]
        plain = not array or (
            len(array) == 2
            and all(namespace == _RDF for namespace, _, _ in array)
            and array[0][2] in ("Alt", "Bag", "Seq")
            and array[1][2] == "li"
        )
        return below[0] if is_own and plain else ""


def read_xmp(data: bytes, out: Collector) -> None:
    """Add the properties as `xmp:PREFIX:NAME` with the prefixes that their owners prefer."""
    if len(data) > MAX_TEXT:
        out.trouble(f"an XMP packet of {len(data):,} bytes was left out")
        return
    packet = _Packet()
    try:
        _parse(data.strip(b"\0 \t\r\n"), packet)
    except (expat.ExpatError, _Refused, ValueError, LookupError) as error:
        out.trouble(f"an XMP packet was left out: {error}")
        return
    for name, value in packet.found:
        namespace, _, local = name.rpartition(" ")
        if namespace in PREFIXES:
            out.add(f"xmp:{PREFIXES[namespace]}:{local}", value)


def _parse(data: bytes, packet: _Packet) -> None:
    def refuse(*_: object) -> None:
        raise _Refused("it declares a document type or an entity")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = packet.start
    parser.EndElementHandler = packet.end
    parser.CharacterDataHandler = packet.characters
    parser.Parse(data, True)
