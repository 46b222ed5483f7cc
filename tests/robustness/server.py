"""A real HTTP server on this machine that answers images with the demo digits model."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor, nn

from assaymark.robustness import demo, formats

Script = Callable[["Server", "Handler", bytes], bool]
"""What a broken server does with a request; True when it has answered."""


def digits(name: str = "digits") -> nn.Module:
    network = demo.network()
    formats.fill(network, formats.safetensors(demo.weights(name)), name)
    return network.eval()


@dataclass
class Server:
    """What the server does, and what it saw."""

    network: nn.Module = field(default_factory=digits)
    request: str = "inputs"
    answer: Callable[[Tensor], Any] = lambda logits: {"scores": logits.tolist()}
    script: Script | None = None
    images: int = 0
    requests: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def read(self, body: bytes) -> Tensor:
        images = json.loads(body)[self.request]
        if isinstance(images[0], str):
            decoded = [Image.open(io.BytesIO(base64.b64decode(text))) for text in images]
            arrays = [numpy.asarray(picture, dtype=numpy.float32) / 255 for picture in decoded]
            stacked = numpy.stack(
                [a[None] if a.ndim == 2 else a.transpose(2, 0, 1) for a in arrays]
            )
            return torch.from_numpy(stacked)
        x = torch.tensor(images)
        return x if x.shape[1] == 1 else x.permute(0, 3, 1, 2)


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_POST(self) -> None:
        state = self.state
        body = self.rfile.read(int(self.headers["Content-Length"]))
        state.requests += 1
        state.headers = dict(self.headers.items())
        if state.script is not None and state.script(state, self, body):
            return
        x = state.read(body)
        state.images += len(x)
        with torch.no_grad():
            self.reply(200, json.dumps(state.answer(state.network(x))).encode())

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    state = Server(**settings)
    handler = type("Bound", (Handler,), {"state": state})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_address[1]}/predict"
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

    def script(state: Server, handler: Handler, _: bytes) -> bool:
        handler.reply(status, body, **headers)
        return True

    return script


def recovers(status: int, after: int, **headers: str) -> Script:
    """This status so many times, then the truth."""

    def script(state: Server, handler: Handler, _: bytes) -> bool:
        if state.requests > after:
            return False
        handler.reply(status, b"busy", **headers)
        return True

    return script


def hangs_up(state: Server, handler: Handler, _: bytes) -> bool:
    handler.close_connection = True
    handler.connection.close()
    return True


def cut_off(state: Server, handler: Handler, _: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"scores": [[1, 2')
    handler.close_connection = True
    return True


def drips(state: Server, handler: Handler, _: bytes) -> bool:
    """One byte after the other, each in time, the whole never."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _i in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass
    return True


def sleeps(state: Server, handler: Handler, _: bytes) -> bool:
    time.sleep(1.0)
    return False
