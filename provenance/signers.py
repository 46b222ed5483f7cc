"""The c2pa library's signer for any credentials: a key in memory, in a token or behind a function."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import c2pa

from assaymark.provenance.c2pa_context import reason
from assaymark.provenance.keys import Credentials
from assaymark.provenance.remote_keys import RemoteKey
from assaymark.reports.errors import AssaymarkError, InputError


class _Failures(threading.local):
    """What went wrong in a callback; each thread signs its own file."""

    last: AssaymarkError | None = None


_FAILURES: WeakKeyDictionary[c2pa.Signer, _Failures] = WeakKeyDictionary()


@contextmanager
def open_signer(credentials: Credentials, tsa_url: str | None = None) -> Iterator[c2pa.Signer]:
    """A signer for many files and several threads; not to be used across a fork.

    tsa_url: an RFC 3161 time-stamping authority that is asked once per signature. When a remote
    key fails, the library says "COSE signature invalid" only: catch c2pa.C2paError and raise what
    `signing_failure` returns; an uncaught one leaves this block as the key's own InputError.
    Raises InputError when the library refuses the credentials.
    """
    with new_signer(credentials, tsa_url) as signer:
        try:
            yield signer
        except c2pa.C2paError as error:
            if own := signing_failure(signer):
                raise own from error
            raise


def new_signer(credentials: Credentials, tsa_url: str | None = None) -> c2pa.Signer:
    """A signer that the caller closes; after a C2paError ask `signing_failure`."""
    _check_url(tsa_url)
    try:
        return _signer(credentials, tsa_url)
    except c2pa.C2paError as error:
        raise InputError(f"these credentials cannot sign: {reason(error)}") from error


def signing_failure(signer: c2pa.Signer) -> AssaymarkError | None:
    """Why the last signature in this thread failed, if it was the key's doing; asked once."""
    failures = _FAILURES.get(signer)
    if failures is None:
        return None
    last, failures.last = failures.last, None
    return last


def check_key(credentials: Credentials) -> None:
    """Make a remote key sign once, so that a wrong PIN or key is found before a batch starts.

    Each worker would try the PIN for itself, and tokens lock after a few wrong ones. Raises
    InputError with the token's own words; a key in memory was checked when it was loaded.
    """
    if credentials.remote is not None:
        credentials.remote.sign(b"assaymark checks that this key signs")


def _signer(credentials: Credentials, tsa_url: str | None) -> c2pa.Signer:
    if credentials.remote is None:
        return c2pa.Signer.from_info(
            c2pa.C2paSignerInfo(
                credentials.algorithm.encode(),
                credentials.chain_pem.encode(),
                credentials.key_pem.encode(),
                tsa_url.encode() if tsa_url else None,
            )
        )
    failures = _Failures()
    algorithm = c2pa.C2paSigningAlg[credentials.algorithm.upper()]
    call = _callback(credentials.remote, failures)
    signer = c2pa.Signer.from_callback(call, algorithm, credentials.chain_pem, tsa_url)
    _FAILURES[signer] = failures
    return signer


def _callback(remote: RemoteKey, failures: _Failures) -> Callable[[bytes], bytes]:
    def sign(data: bytes) -> bytes:
        failures.last = None
        try:
            return remote.sign(data)
        except AssaymarkError as error:
            failures.last = error
        except Exception as error:  # the library would swallow it
            failures.last = InputError(f"the key did not sign: {type(error).__name__}: {error}")
        return b""  # the library takes this for a failure, without a line in the log

    return sign


def _check_url(url: str | None) -> None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise InputError(f"the time-stamping authority is {url}: expected http:// or https://")
