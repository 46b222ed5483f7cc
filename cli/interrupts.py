"""Ctrl-C that is heard also where something between swallows it.

A KeyboardInterrupt inside the import of an extension module comes out as some other error, or not at
all; what looked like a check that cannot run was then a user who wanted to stop.
"""

import signal
from types import FrameType

_heard = False


def listen() -> None:
    """From now on, remember Ctrl-C beside raising KeyboardInterrupt. For the main thread."""
    global _heard
    _heard = False
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)


def heard() -> bool:
    """Whether Ctrl-C was pressed since `listen`."""
    return _heard


def _remember(number: int, frame: FrameType | None) -> None:
    global _heard
    _heard = True
    signal.default_int_handler(number, frame)
