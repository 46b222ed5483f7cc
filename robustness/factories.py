"""`package.module:name`: factories that the user names, found and called."""

import inspect
from collections.abc import Callable
from pathlib import Path

from assaymark.reports import named_code
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import first_line


def resolve(spec: str, folder: Path) -> Callable[..., object]:
    """The function or class `package.module:name` names; modules beside the policy can be named too."""
    found = named_code.resolve(spec, folder)
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
