"""Reads JUMBF, the boxes that a C2PA manifest store is made of (ISO 19566-5, annex A).

Strict and bounded: every byte is read once, nothing is repaired, and whatever is not JUMBF raises
InputError. Offsets are kept, so that bytes which no hash covers can be found.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from assaymark.reports.errors import InputError

MAX_STORE = 256 * 1024 * 1024  # bytes
_MAX_DEPTH = 16
_MAX_BOXES = 100_000
_MAX_LABEL = 4096
_TYPE_SUFFIX = bytes.fromhex("00110010800000AA00389B71")
_REQUESTABLE_AND_LABEL, _HAS_ID, _HAS_HASH, _HAS_PRIVATE = 0b11, 0b100, 0b1000, 0b10000


@dataclass(frozen=True, kw_only=True)
class Box:
    """One box, at bytes start to end of the store; its content (or first child) is at content_start.

    kind: the four letters of a content box (cbor, json, bfdb, ...), for a superbox those that its
    description's type begins with (c2pa, c2ma, c2cl, c2cs, c2as, ...). label: a superbox's, or "".
    """

    label: str
    kind: str
    start: int
    end: int
    content_start: int
    children: tuple["Box", ...] = ()

    @property
    def is_superbox(self) -> bool:
        return bool(self.children)

    def walk(self) -> Iterator["Box"]:
        """This box and all below it, in the order of the store."""
        left = [self]
        while left:
            box = left.pop()
            yield box
            left.extend(reversed(box.children))


def parse(store: bytes) -> Box:
    """The superbox that a manifest store is; raises InputError for anything else, or anything after."""
    if len(store) > MAX_STORE:
        raise InputError(f"the manifest store has {len(store)} bytes: at most {MAX_STORE} are read")
    kind, _, end = _header(store, 0, len(store))
    if kind != b"jumb" or end != len(store):
        raise InputError(
            f"the manifest store is a {_text(kind)} box of {end} bytes in {len(store)}: "
            "expected one JUMBF superbox and nothing else"
        )
    return _superboxes(store)


def manifests(store: bytes) -> dict[str, dict[str, bytes]]:
    """Each manifest's boxes by label, the active manifest last (C2PA 2.2, section 11.1).

    Within a manifest, a box's key is its path, for example "c2pa.signature", "c2pa.claim.v2" or
    "c2pa.assertions/c2pa.actions.v2"; its value the content of its boxes. Raises InputError for
    what is no manifest store, a label that is used twice, and compressed manifests.
    """
    root = parse(store)
    if root.kind != "c2pa":
        raise InputError(f'the superbox is of type "{root.kind}": expected a C2PA manifest store')
    found: dict[str, dict[str, bytes]] = {}
    for manifest in superboxes(root):
        if manifest.label in found:
            raise InputError(f'two manifests are labelled "{manifest.label}": expected one')
        if manifest.kind == "c2cm":
            raise InputError(f'the manifest "{manifest.label}" is compressed: it is not read here')
        found[manifest.label] = _contents(store, manifest)
    return found


def superboxes(box: Box) -> tuple[Box, ...]:
    """The superboxes directly inside."""
    return tuple(child for child in box.children if child.is_superbox)


def _contents(store: bytes, manifest: Box) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    left = [("", child) for child in reversed(superboxes(manifest))]
    while left:
        path, box = left.pop()
        key = f"{path}{box.label}"
        content = [child for child in box.children[1:] if not child.is_superbox]
        inner = superboxes(box)
        if key in found:
            raise InputError(f'two boxes are labelled "{key}" in one manifest: expected one')
        found[key] = b"".join(store[child.content_start : child.end] for child in content)
        left += [(f"{key}/", child) for child in reversed(inner)]
    return found


@dataclass
class _Open:
    """A superbox whose children are still being read."""

    label: str
    kind: str
    start: int
    end: int
    content_start: int
    children: list[Box]

    def close(self) -> Box:
        fields = {**vars(self), "children": tuple(self.children)}
        return Box(**fields)


def _superboxes(store: bytes) -> Box:
    """One pass with a stack of open superboxes, so that depth costs no recursion."""
    opened = [_open(store, 0, len(store))]
    at, count = opened[-1].children[0].end, 2
    while True:
        while at == opened[-1].end:
            box = opened.pop().close()
            if not opened:
                return box
            opened[-1].children.append(box)
        kind, content, end = _header(store, at, opened[-1].end)
        count += 1 + (kind == b"jumb")
        if count > _MAX_BOXES:
            raise InputError(f"the manifest store has more than {_MAX_BOXES} boxes")
        if kind != b"jumb":
            opened[-1].children.append(_leaf(kind, at, content, end))
            at = end
            continue
        if len(opened) == _MAX_DEPTH:
            raise InputError(f"boxes are nested deeper than {_MAX_DEPTH} at byte {at}")
        opened.append(_open(store, at, opened[-1].end))
        at = opened[-1].children[0].end


def _open(store: bytes, at: int, limit: int) -> _Open:
    """A superbox with its description box read (ISO 19566-5, A.3)."""
    _, content, end = _header(store, at, limit)
    kind, inside, description_end = _header(store, content, end)
    if kind != b"jumd":
        raise InputError(f"the superbox at byte {at} begins with {_text(kind)}: expected jumd")
    type_, label = _description(store, inside, description_end)
    description = _leaf(kind, content, inside, description_end)
    return _Open(label, type_, at, end, content, [description])


def _description(store: bytes, at: int, end: int) -> tuple[str, str]:
    """Type and label; what follows them must be what the toggles announce."""
    if end - at < 17:
        raise InputError(
            f"the description box at byte {at} has {end - at} bytes: expected 17 or more"
        )
    uuid, toggles = store[at : at + 16], store[at + 16]
    rest, label = at + 17, ""
    if toggles & 0b10:
        stop = store.find(b"\0", rest, min(end, rest + _MAX_LABEL))
        if stop < 0:
            raise InputError(f"the label at byte {rest} has no end within {_MAX_LABEL} bytes")
        label, rest = _label(store[rest:stop], rest), stop + 1
    rest += 4 * bool(toggles & _HAS_ID) + 32 * bool(toggles & _HAS_HASH)
    if toggles & _HAS_PRIVATE and rest <= end:
        _, _, rest = _header(store, rest, end)
    if rest != end or toggles & ~0b11111:
        raise InputError(
            f"the description box that ends at byte {end} does not hold what its toggles "
            f"({toggles:#04x}) say"
        )
    return (_text(uuid[:4]) if uuid[4:] == _TYPE_SUFFIX else uuid.hex()), label


def _label(raw: bytes, at: int) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the label at byte {at} is not UTF-8") from error
    if not text or not text.isprintable() or set(text) & set("/;?#"):
        raise InputError(
            f"the label at byte {at} is {text[:80]!r}: expected printable text without / ; ? #"
        )
    return text


def _header(store: bytes, at: int, limit: int) -> tuple[bytes, int, int]:
    """Type, where the content starts, and where the box ends (ISO 19566-5, A.2)."""
    if limit - at < 8:
        raise InputError(f"{limit - at} bytes are left at byte {at}: expected a box of 8 or more")
    size, kind, content = int.from_bytes(store[at : at + 4], "big"), store[at + 4 : at + 8], at + 8
    if size == 1 and limit - at >= 16:
        size, content = int.from_bytes(store[at + 8 : at + 16], "big"), at + 16
    if size < content - at or size > limit - at:
        raise InputError(
            f"the {_text(kind)} box at byte {at} says that it has {size} bytes: expected "
            f"{content - at} to {limit - at}"
        )
    return kind, content, at + size


def _leaf(kind: bytes, start: int, content: int, end: int) -> Box:
    return Box(label="", kind=_text(kind), start=start, end=end, content_start=content)


def _text(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isascii() and kind.decode().isprintable() else kind.hex()
