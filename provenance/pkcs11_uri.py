"""PKCS #11 URIs (RFC 7512): which token, which key, and where the PIN is."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from assaymark.provenance.key_files import read_limited
from assaymark.reports.errors import InputError, nearest

SCHEME = "pkcs11:"
TOKEN = ("token", "manufacturer", "serial", "model", "slot-id")
_KNOWN = (*TOKEN, "object", "id", "type", "module-path", "pin-source")


def parse_uri(uri: str) -> dict[str, str]:
    """The attributes of a PKCS #11 URI, decoded (RFC 7512, section 2.3).

    >>> parse_uri("pkcs11:token=My%20token;object=signer?module-path=/usr/lib/p11.so")
    {'token': 'My token', 'object': 'signer', 'module-path': '/usr/lib/p11.so'}

    Raises InputError for an attribute that is unknown, twice there, or would show the PIN.
    """
    found: dict[str, str] = {}
    for name, value in _attributes(uri):
        if name == "pin-value":
            raise InputError(
                "a PIN in the URI is seen by everybody in the list of processes: use pin-source="
                "FILE, ASSAYMARK_PIN or the passphrase instead of pin-value"
            )
        if name not in _KNOWN:
            raise InputError(f'unknown attribute "{name}" in {uri}{nearest(name, _KNOWN)}')
        if name in found:
            raise InputError(f"{name} is twice in {uri}: say it once")
        found[name] = unquote(value) if name != "id" else value
    if found.get("type", "private") != "private":
        raise InputError(f"{uri} asks for a {found['type']}: signing needs type=private")
    if not found.get("slot-id", "0").isdecimal():
        raise InputError(f"slot-id is {found['slot-id']} in {uri}: expected a number")
    return found


def has_pin(uri: str) -> bool:
    """Whether the PIN of a URI is known without asking anybody."""
    return "ASSAYMARK_PIN" in os.environ or "pin-source" in parse_uri(uri)


def _attributes(uri: str) -> Iterator[tuple[str, str]]:
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    for text in [*path.split(";"), *query.split("&")]:
        if not text:
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f'"{text}" in {uri} is no attribute: expected name=value')
        yield name, value


def bytes_of(uri: str, wanted: str) -> bytes:
    """An attribute that is no text, decoded."""
    return next(unquote_to_bytes(value) for name, value in _attributes(uri) if name == wanted)


def pin_from(source: str | None, passphrase: bytes | None) -> str | None:
    """The PIN: that of pin-source, else of ASSAYMARK_PIN, else the passphrase."""
    if source is not None:
        if source.startswith("|"):
            raise InputError("pin-source names a command: only a file is read, file:/path/to/pin")
        path = Path(source.removeprefix("file:"))
        secret: bytes | None = read_limited(path, "PIN").rstrip(b"\r\n")
    else:
        given = os.environ.get("ASSAYMARK_PIN")
        secret = os.fsencode(given) if given else passphrase
    try:
        return secret.decode() if secret else None
    except UnicodeDecodeError as error:
        raise InputError("the PIN is not UTF-8 text: tokens take nothing else") from error
