"""`package.module:name`: code that the user names, found and called."""

import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from assaymark.reports.errors import InputError, nearest


def resolve(spec: str, folder: Path) -> Callable[..., object]:
    """The object `package.module:name` names; modules beside the policy can be named too."""
    module, _, name = spec.partition(":")
    with _importable(folder):
        try:
            found: object = pkgutil.resolve_name(spec)
        except ImportError as error:
            raise InputError(
                f"cannot import {module} of {spec}: {error}; install it, or put it beside the policy"
            ) from error
        except AttributeError as error:
            if module not in sys.modules:
                raise InputError(
                    f"importing {module} of {spec} failed: {first_line(error)}"
                ) from error
            known = [key for key in vars(sys.modules[module]) if not key.startswith("_")]
            raise InputError(f"{module} has no {name}{nearest(name, known)}") from error
        except (Exception, SystemExit) as error:
            raise InputError(
                f"importing {module} of {spec} failed, {type(error).__name__}: {first_line(error)}"
            ) from error
    if not callable(found):
        raise InputError(f"{spec} is a {type(found).__name__}, expected a function or a class")
    return found


def call(factory: Callable[..., object], spec: str) -> object:
    """What a factory makes; raises InputError when it needs arguments or fails."""
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise InputError(
            f"{spec} needs arguments: expected a factory that is called with none (a function of images "
            'that answers is named with access = "scores" or "labels")'
        ) from error
    except ValueError:
        pass  # a builtin without a signature: calling it will tell
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise InputError(f"{spec} failed, {type(error).__name__}: {first_line(error)}") from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    # At the end of the path: files of a user cannot take the place of installed modules.
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def first_line(error: BaseException) -> str:
    """The first line of a message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
