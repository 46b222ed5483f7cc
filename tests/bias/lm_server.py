"""A real HTTP server on this machine: the OpenAI API over a bigram model of known probabilities."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, Literal

import numpy

WORDS = [" the", " nurse", " doctor", " said", " she", " he", " was", " is", " blue", " sky", "The"]
WORDS += ["Hello", "ab", "abc", " left", ".", "<s>"]
TOKENS: list[bytes] = [word.encode() for word in WORDS] + [bytes([b]) for b in range(256)]
BOS, STOP = WORDS.index("<s>"), WORDS.index(".")
_LOGITS = numpy.random.default_rng(7).normal(size=(len(TOKENS), len(TOKENS))) * 2
TABLE = _LOGITS - numpy.log(numpy.exp(_LOGITS).sum(axis=1, keepdims=True))
"""Row: the token before; column: the token; value: log probability."""
_BYTE_LEVEL = {
    byte: chr(byte) for byte in [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 256)]
}
_BYTE_LEVEL |= {
    byte: chr(256 + place)
    for place, byte in enumerate(b for b in range(256) if b not in _BYTE_LEVEL)
}


_BY_FIRST_BYTE = {b: [token for token in TOKENS if token[0] == b] for b in range(256)}


def encode(text: str) -> list[int]:
    """The longest token that fits, from left to right."""
    rest, ids = text.encode(), []
    while rest:
        token = max((t for t in _BY_FIRST_BYTE[rest[0]] if rest.startswith(t)), key=len)
        ids.append(TOKENS.index(token))
        rest = rest[len(token) :]
    return ids


def log_prob(context: str, text: str) -> float:
    """The truth, where the boundary is one between tokens: the sum over the tokens of text."""
    before, whole = encode(context), encode(context + text)
    assert whole[: len(before)] == before
    return sum(float(TABLE[a, b]) for a, b in pairwise(whole)) - sum(
        float(TABLE[a, b]) for a, b in pairwise(before)
    )


def spelled(token: int, spelling: str) -> str:
    raw = TOKENS[token]
    if spelling == "byte-level":
        return "".join(_BYTE_LEVEL[b] for b in raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        if spelling == "sentencepiece":
            return f"<0x{raw[0]:02X}>"
        return "bytes:" + "".join(f"\\x{b:02x}" for b in raw)
    return text.replace(" ", "▁") if spelling == "sentencepiece" else text


Spoil = Callable[[dict[str, Any], dict[str, Any]], Any]
Script = Callable[["Server", "Handler", dict[str, Any]], bool]
"""What a broken server does with a request; True when it has answered."""


@dataclass
class Server:
    """What the server offers and does, and what it saw.

    spoil: makes another answer of a right one, given the request.
    """

    offers: tuple[str, ...] = ("completions", "chat", "echo", "logprobs")
    least: int = 0
    spelling: Literal["text", "byte-level", "sentencepiece"] = "text"
    offsets: bool = True
    begins: bool = False
    counts: bool = True
    name: str = "bigram"
    fingerprint: str | None = None
    overhead: int = 12
    script: Script | None = None
    spoil: Spoil | None = None
    requests: int = 0
    prompts: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    read: int = 0
    written: int = 0
    connections: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        self.requests = self.read = self.written = self.connections = 0
        for seen in (self.prompts, self.bodies, self.headers, self.times):
            seen.clear()

    def completions(self, body: dict[str, Any]) -> dict[str, Any]:
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        made = [self._choice(i, prompt, body) for i, prompt in enumerate(prompts)]
        return self._answer(made, [choice for choice, *_ in made])

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        text = "".join(message["content"] for message in body["messages"])
        ids = [BOS] * self.overhead + encode(text)
        new = self._drawn(ids, body)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": self._text(new)},
            "finish_reason": "stop" if new[-1:] == [STOP] else "length",
        }
        if body.get("logprobs") and "logprobs" in self.offers:
            ranked = numpy.argsort(-TABLE[ids[-1]])[: body["top_logprobs"]]
            tops = [{"token": spelled(t, "text"), "logprob": TABLE[ids[-1], t]} for t in ranked]
            choice["logprobs"] = {"content": [{"token": tops[0]["token"], "top_logprobs": tops}]}
        with self.lock:
            self.prompts.append(text)
        return self._answer([(choice, len(ids), len(new))], [choice])

    def _answer(self, made: list[tuple[Any, int, int]], choices: list[Any]) -> dict[str, Any]:
        read, written = sum(m[1] for m in made), sum(m[2] for m in made)
        with self.lock:
            self.read += read
            self.written += written
        answer: dict[str, Any] = {"model": self.name, "choices": choices}
        if self.fingerprint:
            answer["system_fingerprint"] = self.fingerprint
        if self.counts:
            answer["usage"] = {"prompt_tokens": read, "completion_tokens": written}
        return answer

    def _choice(self, index: int, prompt: str, body: dict[str, Any]) -> tuple[Any, int, int]:
        with self.lock:
            self.prompts.append(prompt)
        ids = ([BOS] if self.begins else []) + encode(prompt)
        new = self._drawn(ids, body)
        echo = body.get("echo") and "echo" in self.offers
        shown = ids + new if echo else new
        text = (prompt if echo else "") + self._text(new)
        choice = {"index": index, "text": text, "finish_reason": "length", "logprobs": None}
        if body.get("logprobs") and "logprobs" in self.offers:
            choice["logprobs"] = self._told(ids if echo else [], new, ids[-1], body["logprobs"])
        assert len(shown) >= len(new)
        return choice, len(ids), len(new)

    def _told(self, ids: list[int], new: list[int], last: int, top: int) -> dict[str, Any]:
        shown = ids + new
        before = [None, *shown[:-1]] if ids else [last, *shown[:-1]]
        values = [
            None if a is None else float(TABLE[a, b]) for a, b in zip(before, shown, strict=True)
        ]
        lengths = [len(TOKENS[t].decode("utf-8", "ignore")) for t in shown]
        offsets = [sum(lengths[:place]) for place in range(len(shown))]
        tops = [
            None
            if a is None
            else {
                spelled(int(t), "text"): float(TABLE[a, t]) for t in numpy.argsort(-TABLE[a])[:top]
            }
            for a in before
        ]
        told: dict[str, Any] = {
            "tokens": [spelled(token, self.spelling) for token in shown],
            "token_logprobs": values,
            "top_logprobs": tops,
        }
        return told | ({"text_offset": offsets} if self.offsets else {})

    def _drawn(self, ids: list[int], body: dict[str, Any]) -> list[int]:
        most = body.get("max_tokens", body.get("max_completion_tokens", 16))
        rng = numpy.random.default_rng(body.get("seed") or 0)
        new: list[int] = []
        for _ in range(most):
            row = TABLE[(ids + new)[-1]]
            hot = body.get("temperature", 0)
            noise = rng.gumbel(size=len(row)) * hot if hot else 0
            new.append(int(numpy.argmax(row + noise)))
            if new[-1] == STOP:
                break
        return new

    def _text(self, ids: list[int]) -> str:
        return b"".join(TOKENS[t] for t in ids).decode("utf-8", "replace")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: Server

    def setup(self) -> None:
        super().setup()
        with self.state.lock:
            self.state.connections += 1

    def do_POST(self) -> None:
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with state.lock:
            state.requests += 1
            state.times.append(time.monotonic())
            state.headers.append(dict(self.headers.items()))
            state.bodies.append(body)
        if state.script is not None and state.script(state, self, body):
            return
        path = self.path.partition("?")[0]
        kind = "chat" if path.endswith("/chat/completions") else "completions"
        if kind not in state.offers:
            self.reply(404, b"not found")
        elif body.get("max_tokens", 16) < state.least:
            self.reply(400, b'{"error": {"message": "max_tokens must be at least 1"}}')
        else:
            answer: Any = state.chat(body) if kind == "chat" else state.completions(body)
            if state.spoil is not None:
                answer = state.spoil(answer, body)
            self.reply(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the tests."""


@contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    state = Server(**settings)
    handler = type("Bound", (Handler,), {"state": state})
    http = _Quiet(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def says(status: int, body: bytes = b"", **headers: str) -> Script:
    """Always this answer."""

    def script(state: Server, handler: Handler, _: dict[str, Any]) -> bool:
        handler.reply(status, body, **headers)
        return True

    return script


def recovers(script: Script, after: int) -> Script:
    """So many requests go wrong, then the truth is told."""

    def recovering(state: Server, handler: Handler, body: dict[str, Any]) -> bool:
        return state.requests <= after and script(state, handler, body)

    return recovering


def breaks(script: Script, after: int) -> Script:
    """So many requests are answered, then it goes wrong."""

    def breaking(state: Server, handler: Handler, body: dict[str, Any]) -> bool:
        return state.requests > after and script(state, handler, body)

    return breaking


def only_for(word: str, script: Script) -> Script:
    """Goes wrong for prompts with this word."""

    def picky(state: Server, handler: Handler, body: dict[str, Any]) -> bool:
        return word in json.dumps(body) and script(state, handler, body)

    return picky


def hangs_up(state: Server, handler: Handler, _: dict[str, Any]) -> bool:
    handler.close_connection = True
    handler.connection.close()
    return True


def cut_off(state: Server, handler: Handler, _: dict[str, Any]) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"text"')
    handler.close_connection = True
    return True


def drips(state: Server, handler: Handler, _: dict[str, Any]) -> bool:
    """One byte after the other, each in time, the whole never."""
    handler.send_response(200)
    handler.end_headers()
    return _dripping(handler, b" ")


def drips_headers(state: Server, handler: Handler, _: dict[str, Any]) -> bool:
    """The same, and not even the headers end."""
    handler.send_response(200)
    handler.flush_headers()
    return _dripping(handler, b"X")


def _dripping(handler: Handler, piece: bytes) -> bool:
    handler.close_connection = True
    try:
        for _ in range(100):
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass
    return True


def endless(state: Server, handler: Handler, _: dict[str, Any]) -> bool:
    """As fast as it can, without end."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    try:
        for _i in range(2000):
            handler.wfile.write(b" " * (1 << 20))
    except OSError:
        pass
    return True


def sleeps(state: Server, handler: Handler, _: dict[str, Any]) -> bool:
    time.sleep(1.0)
    return False
