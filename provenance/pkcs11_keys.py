"""Keys in hardware tokens, named by a PKCS #11 URI (RFC 7512).

python-pkcs11 (the extra "pkcs11") talks to the token's module. A session is opened at the first
signature, once per process, and again in a child process: PKCS #11 sessions do not survive a fork.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from assaymark.provenance.pkcs11_uri import SCHEME, TOKEN, bytes_of, parse_uri, pin_from
from assaymark.provenance.remote_keys import checked, digest_of
from assaymark.reports.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Pkcs11Key:
    """A private key in a token. public_key: the leaf's, as SubjectPublicKeyInfo in DER."""

    module: str
    token: tuple[tuple[str, str], ...]
    label: str | None
    identifier: bytes | None
    algorithm: str
    public_key: bytes = field(repr=False)
    pin: str | None = field(repr=False, compare=False)

    def __str__(self) -> str:
        where = ";".join(f"{name}={value}" for name, value in self.token)
        what = f"object={self.label}" if self.label is not None else ""
        return SCHEME + ";".join(filter(None, (where, what)))

    def sign(self, data: bytes) -> bytes:
        import pkcs11

        message = digest_of(data, self.algorithm)
        with _LOCK:
            try:
                signature = _private_key(self).sign(message, **_mechanism(self.algorithm))
            except pkcs11.PKCS11Error as error:
                _forget(self)  # a token that was pulled out may be back at the next file
                raise InputError(f"the token of {self} did not sign: {_say(error)}") from error
        return checked(signature, data, self.algorithm, self.public_key, str(self))


def pkcs11_key(
    uri: str, *, algorithm: str, public_key: bytes, passphrase: bytes | None
) -> Pkcs11Key:
    """A key by its URI; nothing is opened yet.

    The PIN is that of pin-source (a file), else of ASSAYMARK_PIN, else the passphrase. Raises
    InputError for a URI we cannot follow and where python-pkcs11 is not installed.
    """
    _check_library()
    parts = parse_uri(uri)
    module = parts.get("module-path") or os.environ.get("PKCS11_MODULE_PATH")
    if not module:
        raise InputError(
            f"{uri} does not say which module drives the token: add ?module-path=/path/to/module.so "
            "or set PKCS11_MODULE_PATH"
        )
    if "object" not in parts and "id" not in parts:
        raise InputError(f"{uri} names no key: add object=LABEL or id=%01")
    return Pkcs11Key(
        module=module,
        token=tuple((name, parts[name]) for name in TOKEN if name in parts),
        label=parts.get("object"),
        identifier=bytes_of(uri, "id") if "id" in parts else None,
        algorithm=algorithm,
        public_key=public_key,
        pin=pin_from(parts.get("pin-source"), passphrase),
    )


def _check_library() -> None:
    try:
        import pkcs11  # noqa: F401
    except ImportError as error:
        raise InputError(
            "a key in a token needs python-pkcs11: pip install 'assaymark[pkcs11]'"
        ) from error


class _NoToken(InputError):
    """No token fits, or several do."""


_WAITS = (0.02, 0.05, 0.1, 0.2, 0.4)  # seconds

# What is open in this process. PKCS #11 allows one operation at a time in a session.
_LOCK = threading.RLock()
_OPEN: dict[Pkcs11Key, tuple[Any, Any]] = {}
_INHERITED: list[dict[Pkcs11Key, tuple[Any, Any]]] = []
_LOADED: set[str] = set()
_STALE: set[str] = set()
_WRONG_PINS: dict[tuple[Pkcs11Key, str | None], str] = {}


def _after_fork() -> None:
    global _LOCK, _OPEN
    _LOCK = threading.RLock()  # another thread may have held it
    _STALE.update(_LOADED)
    # closing the parent's handles here could close a new session of ours with the same number
    _INHERITED.append(_OPEN)
    _OPEN = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _private_key(key: Pkcs11Key) -> Any:
    if (key, key.pin) in _WRONG_PINS:
        raise InputError(_WRONG_PINS[key, key.pin])
    if key not in _OPEN:
        with _explained(key):
            _OPEN[key] = _opened(key)
    return _OPEN[key][1]


def _opened(key: Pkcs11Key) -> tuple[Any, Any]:
    """A session and the key in it; tries again for a while.

    SoftHSM 2.6 shows no tokens, or a general error, while another process starts to use them.
    """
    import pkcs11

    for wait in (*_WAITS, 0.0):
        try:
            session = _session(_token(key), key.pin)
            return session, _find(session, key)
        except (pkcs11.GeneralError, _NoToken):
            others = any(other.module == key.module for other in _OPEN)
            if not wait or others:  # starting again would end the others' sessions
                raise
            _STALE.add(key.module)
            time.sleep(wait * random.uniform(0.5, 1.5))
    raise AssertionError


def _session(token: Any, pin: str | None) -> Any:
    import pkcs11

    try:
        return token.open(user_pin=pin)
    except pkcs11.UserAlreadyLoggedIn:  # by another key of the same token
        return token.open()


def _forget(key: Pkcs11Key) -> None:
    import pkcs11

    session, _ = _OPEN.pop(key, (None, None))
    if session is not None:
        with suppress(pkcs11.PKCS11Error):
            session.close()


def _find(session: Any, key: Pkcs11Key) -> Any:
    import pkcs11

    kind = pkcs11.ObjectClass.PRIVATE_KEY
    return session.get_key(object_class=kind, label=key.label, id=key.identifier)


def _token(key: Pkcs11Key) -> Any:
    import pkcs11

    library = pkcs11.lib(key.module)
    _LOADED.add(key.module)
    if key.module in _STALE:
        # PKCS #11 3.1, section 5.4.1: a child process starts again; some modules know that it is one
        with suppress(pkcs11.PKCS11Error):
            library.finalize()
        library.initialize()
        _STALE.discard(key.module)
    wanted = dict(key.token)
    found = [item for item in library.get_tokens() if _matches(item, wanted)]
    if len(found) != 1:
        names = ", ".join(sorted({item.label for item in library.get_tokens() if item.label}))
        raise _NoToken(
            f"{len(found) or 'no'} token{'s' * (len(found) > 1)} fit {key}; "
            f"there {'are ' + names if names else 'is none in ' + key.module}: name one by token="
        )
    return found[0]


def _matches(token: Any, wanted: dict[str, str]) -> bool:
    serial = token.serial.decode() if isinstance(token.serial, bytes) else token.serial
    seen = {
        "token": token.label,
        "manufacturer": token.manufacturer_id,
        "serial": serial,
        "model": token.model,
        "slot-id": str(token.slot.slot_id),
    }
    initialised = bool(token.label)
    return initialised and all(seen[name].strip() == value for name, value in wanted.items())


@contextmanager
def _explained(key: Pkcs11Key) -> Iterator[None]:
    import pkcs11

    try:
        yield
    except (pkcs11.PinIncorrect, pkcs11.PinLenRange, pkcs11.PinInvalid) as error:
        # tokens lock after a few wrong PINs, so one is not tried again for the next file
        _WRONG_PINS[key, key.pin] = f"the PIN does not open {key}: check it before the token locks"
        raise InputError(_WRONG_PINS[key, key.pin]) from error
    except pkcs11.UserNotLoggedIn as error:
        raise InputError(_needs_pin(key)) from error
    except pkcs11.NoSuchKey as error:
        hint = "" if key.pin else f"; or {_needs_pin(key)}"
        raise InputError(f"the token holds no private key that fits {key}{hint}") from error
    except pkcs11.MultipleObjectsReturned as error:
        raise InputError(f"several private keys fit {key}: add id=%… to name one") from error
    except pkcs11.PKCS11Error as error:
        raise InputError(f"cannot open {key} with {key.module}: {_say(error)}") from error


def _needs_pin(key: Pkcs11Key) -> str:
    return (
        f"{key} needs a PIN: give it in ASSAYMARK_PIN, with pin-source=FILE in the URI or as the "
        "passphrase"
    )


def _say(error: BaseException) -> str:
    kind = type(error).__name__
    text = str(error).strip()
    return f"{kind}: {text.splitlines()[0][:200]}" if text and text != kind else kind


def _mechanism(algorithm: str) -> dict[str, Any]:
    """The mechanism that signs a digest: more tokens have these than those that hash as well."""
    from pkcs11 import MGF, Mechanism

    if algorithm == "ed25519":
        return {"mechanism": Mechanism.EDDSA}
    if algorithm.startswith("es"):
        return {"mechanism": Mechanism.ECDSA}
    name = "SHA" + algorithm[2:]
    parameters = (Mechanism[name], MGF[name], int(algorithm[2:]) // 8)
    return {"mechanism": Mechanism.RSA_PKCS_PSS, "mechanism_param": parameters}
