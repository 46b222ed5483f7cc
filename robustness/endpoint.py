"""A model behind an address: JSON over HTTP, asked in batches, with patience and without trust.

One POST a batch: {"inputs": [image, …]}, an image being nested lists of numbers or a base64 PNG. The
answer: {"scores": [[…], …]} or {"labels": […]}, or the same under a name that the policy gives.
Nothing is followed to another address, no proxy of the environment is used unless asked, and no
answer is read without end.
"""

import base64
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.black_box import Access, Ask, to_tensor
from assaymark.robustness.types import Images

_SCORES = ("scores", "logits", "probabilities", "predictions", "outputs")
_LABELS = ("labels", "label", "classes", "predictions", "outputs")
_AGAIN = (429, 500, 502, 503, 504)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LARGEST_ANSWER = 1 << 28
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How a server wants to be asked.

    images: nested lists of numbers, or base64 PNG of 8 bits. layout: of the lists, channels first or
    last. request: the key of the list of images. answer: the key of the answers, with dots between
    the keys and list places that lead to it; by default a usual one. time_limit: seconds for one
    answer. retries: how often a busy or failing server is asked again. token_env: an environment
    variable whose value is sent as bearer token. proxy: use the proxies of the environment.
    """

    images: Literal["numbers", "png"] = "numbers"
    layout: Literal["channels-first", "channels-last"] = "channels-first"
    request: str = "inputs"
    answer: str | None = None
    time_limit: float = 60.0
    retries: int = 4
    token_env: str | None = None
    proxy: bool = False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Images and tokens go to the address in the policy and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def of_address(
    url: str, endpoint: Endpoint, access: Access, names: tuple[str, ...] | None = None
) -> Ask:
    """A function from images to the answers of the server at `url`.

    names: the classes in order, for a server that answers labels by name. Raises InputError for an
    address that cannot be used; the function raises it for answers that cannot.
    """
    headers = _headers(url, endpoint)
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if not endpoint.proxy:
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)

    def ask(x: Images) -> Tensor:
        body = json.dumps({endpoint.request: _written(x, endpoint, url)}).encode()
        request = urllib.request.Request(url, body, headers, method="POST")
        text = _patiently(opener, request, endpoint)
        return _read(text, url, endpoint, access, names)

    return ask


def _headers(url: str, endpoint: Endpoint) -> dict[str, str]:
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{url} is no address: {error}") from error
    strange = not url.isascii() or any(c.isspace() or not c.isprintable() for c in url)
    if not host or parts.username is not None or strange:
        raise InputError(
            f"{parts.scheme}://{host or ''}… is no usable address: expected http://HOST:PORT/PATH without "
            "user or password; a token goes into an environment variable that token_env names"
        )
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.token_env is None:
        return headers
    token = os.environ.get(endpoint.token_env)
    if not token:
        raise InputError(
            f"the environment variable {endpoint.token_env} (token_env) is not set: put the token of "
            f"{host} there"
        )
    if not token.isprintable():
        raise InputError(
            f"the environment variable {endpoint.token_env} (token_env) holds a line break or another "
            "control character: expected a token alone"
        )
    if parts.scheme != "https" and host not in ("localhost", "127.0.0.1", "::1"):
        raise InputError(f"a token is not sent to {host} in the clear: name the model by https://")
    return {**headers, "Authorization": f"Bearer {token}"}


def _written(x: Images, endpoint: Endpoint, url: str) -> list[Any]:
    if endpoint.images == "numbers":
        last = endpoint.layout == "channels-last"
        listed: list[Any] = (x.permute(0, 2, 3, 1) if last else x).tolist()
        return listed
    mode = _MODES.get(x.shape[1])
    if mode is None or bool((x < 0).any()) or bool((x > 1).any()):
        raise InputError(
            f"{url} is sent PNG pictures, which take 1, 3 or 4 channels in [0, 1], not {x.shape[1]} in "
            f'[{float(x.min()):g}, {float(x.max()):g}]: use images = "numbers"'
        )
    pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    pictures = []
    for picture in pixels:
        buffer = io.BytesIO()
        flat = picture[..., 0] if mode == "L" else picture
        Image.fromarray(flat).save(buffer, "PNG", compress_level=1)
        pictures.append(base64.b64encode(buffer.getvalue()).decode())
    return pictures


def _patiently(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, endpoint: Endpoint
) -> bytes:
    """The body of the answer; a server that is busy, failing or away is asked again, later."""
    for attempt in range(endpoint.retries + 1):
        pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
        try:
            return _once(opener, request, endpoint.time_limit)
        except urllib.error.HTTPError as error:
            with error:
                problem = _status(error, request.full_url)
            if error.code not in _AGAIN:
                raise InputError(problem) from error
            pause = _wanted_pause(error, pause)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                reason = f"no answer within {endpoint.time_limit:g} s (time_limit)"
            problem = f"{request.full_url} cannot be reached: {reason or type(reason).__name__}"
        if attempt < endpoint.retries:
            time.sleep(pause)
    raise InputError(
        f"{problem}; asked {endpoint.retries + 1} times: check that the server is up, or give smaller "
        "batches (batch_size) or more time"
    )


def _once(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, limit: float
) -> bytes:
    until = time.monotonic() + limit
    parts: list[bytes] = []
    size = 0
    with opener.open(request, timeout=limit) as response:
        while part := response.read1(1 << 16):
            size += len(part)
            parts.append(part)
            if time.monotonic() > until:  # the limit of a socket is one of each piece
                raise TimeoutError
            if size > _LARGEST_ANSWER:
                raise InputError(
                    f"{request.full_url} answers more than {_LARGEST_ANSWER >> 20} MiB: expected one "
                    "row of scores an image"
                )
        missing = getattr(response, "length", 0)
    if missing:
        raise http.client.IncompleteRead(b"", missing)
    return b"".join(parts)


def _status(error: urllib.error.HTTPError, url: str) -> str:
    try:
        body = error.read(2000)
    except (OSError, http.client.HTTPException):
        body = b""
    said = f": {_excerpt(body)}" if body.strip() else ""
    if error.code in (301, 302, 303, 307, 308):
        place = _excerpt((error.headers.get("Location") or "another address").encode())
        return (
            f"{url} sends to {place} (status {error.code}), which is not followed: name that address "
            "as the model if it is the right one"
        )
    advice = {
        400: "; see how it wants to be asked (endpoint.request, images, layout)",
        401: "; name the variable with its token (endpoint.token_env)",
        413: "; give smaller batches (batch_size)",
    }
    return f"{url} answered status {error.code}{said}{advice.get(error.code, '')}"


def _wanted_pause(error: urllib.error.HTTPError, pause: float) -> float:
    wanted = error.headers.get("Retry-After") or ""
    return min(float(wanted), _LONGEST_PAUSE) if wanted.isdecimal() else pause


def _read(
    text: bytes, url: str, endpoint: Endpoint, access: Access, names: tuple[str, ...] | None
) -> Tensor:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{url} answered no JSON: {_excerpt(text)}") from error
    found = _found(content, url, endpoint, access)
    if names is not None and isinstance(found, list) and any(isinstance(v, str) for v in found):
        unknown = [value for value in found if value not in names]
        if unknown:
            raise InputError(
                f"{url} answered the label {_excerpt(str(unknown[0]).encode())}, which is not among "
                "the classes: name them as the server does"
            )
        found = [names.index(value) for value in found]
    return to_tensor(found, url)


def _found(content: Any, url: str, endpoint: Endpoint, access: Access) -> Any:
    if endpoint.answer is None:
        if isinstance(content, list):
            return content
        usual = _SCORES + _LABELS if access == "scores" else _LABELS + _SCORES
        keys = [key for key in usual if isinstance(content, dict) and key in content]
        if keys:
            return content[keys[0]]
        raise InputError(
            f"{url} answered {_excerpt(json.dumps(content).encode())}: expected the key scores or labels; "
            "name another one with endpoint.answer"
        )
    here = content
    for step in endpoint.answer.split("."):
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and step.isdecimal() and int(step) < len(here):
            here = here[int(step)]
        else:
            known = list(here) if isinstance(here, dict) else []
            raise InputError(
                f"{url} answered no {endpoint.answer}{nearest(step, known) if known else ''}: it is "
                f"{_excerpt(json.dumps(content).encode())}"
            )
    return here


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:400].decode("utf-8", "replace").split())
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return f"{shown[:160]}…" if len(shown) > 160 else shown
