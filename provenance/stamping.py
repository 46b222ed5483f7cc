"""Whether a time-stamping authority answers: asked before a run, and remembered when it stops.

The library waits 30 seconds for each stamp, and would do so for each of a thousand files.
"""

import base64
import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request

from asn1crypto import cms, tsp

from assaymark.provenance.chains import BAD_DER
from assaymark.provenance.timestamps import read_token
from assaymark.reports.errors import InputError

SECONDS = 15
_LIMIT = 1 << 20  # bytes of a reply
_SILENT: dict[tuple[int, str], str] = {}  # why, by process and address


class NoTimeStamp(InputError):
    """An authority gave no time stamp; it would not for the next file either."""


def check_authority_answers(url: str) -> None:
    """Ask for one stamp, of random bytes. Raises NoTimeStamp where it does not come or is wrong."""
    data = os.urandom(32)
    asked = tsp.TimeStampReq(
        {
            "version": "v1",
            "message_imprint": {
                "hash_algorithm": {"algorithm": "sha256"},
                "hashed_message": hashlib.sha256(data).digest(),
            },
            "nonce": int.from_bytes(os.urandom(8)) >> 1,
            "cert_req": True,
        }
    )
    try:
        reply = tsp.TimeStampResp.load(_answer(url, asked.dump()), strict=True)
        status = reply["status"]["status"].native
        if status not in ("granted", "granted_with_mods"):
            raise _none(url, f"it answers {status}")
        token = cms.ContentInfo.load(reply["time_stamp_token"].dump())
        info = token["content"]["encap_content_info"]["content"].parsed
        found = read_token(token.dump(), data)
    except (*BAD_DER, InputError) as error:
        if isinstance(error, NoTimeStamp):
            raise
        raise _none(url, "its reply is no RFC 3161 time stamp") from error
    if not (found.imprint_holds and found.signature_holds):
        raise _none(url, "it stamps something else than it was asked for")
    if info["nonce"].native != asked["nonce"].native:
        raise _none(url, "it gives an old stamp again (the nonce is another)")


def check_not_silent(url: str) -> None:
    """Raises NoTimeStamp where the authority failed in this process already."""
    if why := _SILENT.get((os.getpid(), url)):
        raise NoTimeStamp(why)


def failed(url: str, why: str) -> NoTimeStamp:
    """Remember that an authority failed; the error to raise."""
    error = _none(url, why)
    _SILENT[os.getpid(), url] = str(error)
    return error


def _none(url: str, why: str) -> NoTimeStamp:
    return NoTimeStamp(
        f"the time-stamping authority {_shown(url)} gave no time stamp: {why}; try again later, name "
        "another, or sign without"
    )


def _shown(url: str) -> str:
    """The address without a password in it."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _answer(url: str, body: bytes) -> bytes:
    user = urllib.parse.unquote(urllib.parse.urlsplit(url).netloc.rpartition("@")[0])
    headers = {"Content-Type": "application/timestamp-query", "User-Agent": "assaymark"}
    if user:
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    try:
        request = urllib.request.Request(_shown(url), body, headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:
            data: bytes = reply.read(_LIMIT)
            return data
    except urllib.error.HTTPError as error:
        raise _none(url, f"it answers HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise _none(url, str(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _none(url, str(error) or type(error).__name__) from error
