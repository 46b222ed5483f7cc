"""Estimators from .skops files, of types that are safe to make from a stranger's file."""

from pathlib import Path

from assaymark.reports.errors import InputError
from assaymark.reports.named_code import reason

_INSTALL = "pip install 'assaymark[skops]'"
_SINCE = (0, 16)
"""Earlier versions trust more than they can check, trees among it, or could be led to call functions."""


def read(path: Path, name: str) -> object:
    """The estimator in a file, if all of its types are trusted by skops itself.

    Raises InputError when skops is not installed or too old, for other types, and for what is no skops
    file.
    """
    try:
        import skops
        from skops import io
    except ImportError as error:
        raise InputError(f"reading {name} needs skops: {_INSTALL}") from error
    if tuple(int(part) for part in skops.__version__.split(".")[:2]) < _SINCE:
        raise InputError(
            f"skops {skops.__version__} is too old to read {name} safely, 0.16 is needed: {_INSTALL}"
        )
    data = path.read_bytes()
    try:
        foreign = io.get_untrusted_types(data=data)
    except Exception as error:
        raise InputError(f"{name} is not a skops file: {reason(error)}") from error
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise InputError(
            f"{name} holds types that skops cannot check: {', '.join(foreign[:3])}{more}. If you trust the "
            "file, load it in a function of yours and name that (package.module:factory); or export the "
            "model to .onnx"
        )
    try:
        return io.loads(data, trusted=[])
    except Exception as error:
        raise InputError(f"{name} cannot be read by skops: {reason(error)}") from error
