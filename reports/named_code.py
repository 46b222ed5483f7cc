"""`package.module:name`: code of the user's own, found but not yet called."""

import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assaymark.reports.errors import InputError, nearest


def resolve(spec: str, folder: Path) -> object:
    """The object that `package.module:name` names; modules in `folder` can be named too.

    Raises InputError when there is none, or when importing it fails.
    """
    module, _, name = spec.partition(":")
    with _importable(folder):
        try:
            found: object = pkgutil.resolve_name(spec)
        except ImportError as error:
            raise InputError(
                f"cannot import {module} of {spec}: {error}; install it, or put it beside the policy"
            ) from error
        except (Exception, SystemExit) as error:
            if isinstance(error, AttributeError) and module in sys.modules:
                known = [key for key in vars(sys.modules[module]) if not key.startswith("_")]
                raise InputError(f"{module} has no {name}{nearest(name, known)}") from error
            raise InputError(f"importing {module} of {spec} failed, {reason(error)}") from error
    return found


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    # at the end of the path: files of a user cannot take the place of installed modules
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def reason(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def first_line(error: BaseException) -> str:
    """The first line of a message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
