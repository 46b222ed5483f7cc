"""Soft bindings on the way to a signature: the mark goes into the picture before it is signed."""

from pathlib import Path
from typing import Any

from assaymark.provenance.manner import Binding

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif")


def is_bound(source: Path) -> bool:
    """Whether a file is a picture that soft bindings are made for."""
    return source.suffix.lower() in _PICTURES


def bound(
    source: Path, target: Path, binding: Binding | None
) -> tuple[Path, list[dict[str, Any]], bool]:
    """What is signed in place of `source`, its soft bindings, and whether it was watermarked.

    A marked copy lies beside `target`. Files that are no pictures are signed as they are.
    """
    if binding is None or not is_bound(source):
        return source, [], False
    from assaymark.provenance.binding_store import BindingStore
    from assaymark.provenance.fingerprint import fingerprint
    from assaymark.provenance.marked_files import mark_file, read_pixels
    from assaymark.provenance.soft_binding import fingerprint_binding, watermark_binding
    from assaymark.provenance.watermark_lattice import ALGORITHM

    bindings, marked = [], source
    if binding.key is not None:
        with BindingStore(binding.store) as store:
            payload = store.new_payload(ALGORITHM, 32)
        marked = target.with_name(f"marked.{target.name}")
        mark_file(source, marked, payload, binding.key)
        bindings.append(watermark_binding(payload)["data"])
    code = fingerprint(read_pixels(marked))
    if code is not None:
        bindings.append(fingerprint_binding(code)["data"])
    return marked, bindings, binding.key is not None


def remember_signed(path: Path, binding: Binding) -> None:
    """Put a signed picture's manifest and bindings into the store; raises InputError."""
    from assaymark.provenance.binding_store import BindingStore
    from assaymark.provenance.recover import remember

    with BindingStore(binding.store) as store:
        remember(path, store, key=binding.key)
