"""Look into a .pt2 archive before torch reads it: torch.export.load trusts what it finds.

It unpickles subclass weights and constants, falls back to full pickle for sample inputs, resolves
any dotted name under `torch` as a function to call, and evaluates size expressions as Python
(torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py, torch 2.13). An archive
that would need any of these is refused.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from assaymark.reports.errors import InputError

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|prim|quantized_decomposed|higher_order)\.\w+(\.\w+)?"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|getitem|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|torch\.sym_(int|float|max|min|not|ite|sqrt)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
_EXPRESSION = re.compile(r"[\w\s=,'()+*/<>-]*")
_FUNCTIONS = {
    "Symbol", "Integer", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod",
    "FloorDiv", "CleanDiv", "CeilDiv", "ModularIndexing", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
}  # fmt: skip
_MAX_JSON = 256 * 2**20


def check_archive(path: Path) -> None:
    """Raise InputError when loading `path` could run code that is not an array operation."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path.name)
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name} is not a torch.export archive: {error}; write it with torch.export.save"
        ) from error


def _check(archive: zipfile.ZipFile, name: str) -> None:
    names = archive.namelist()
    if not any(re.fullmatch(r"[^/]+/models/[^/]+\.json", item) for item in names):
        raise InputError(
            f"{name} is not a torch.export archive of torch 2.8 or newer: "
            "write it again with torch.export.save"
        )
    for item in names:
        if item.endswith(".json"):
            if archive.getinfo(item).file_size > _MAX_JSON:
                raise InputError(f"{name}: {item} is larger than {_MAX_JSON} bytes: refused")
            _check_json(json.loads(archive.read(item)), name, item)
        elif "/sample_inputs/" in item:
            try:
                torch.load(io.BytesIO(archive.read(item)), weights_only=True)
            except Exception as error:
                raise _refused(name, f"the pickle {item}") from error
        elif item.endswith((".so", ".py", ".pkl", ".pickle")) or "/aotinductor/" in item:
            raise _refused(name, f"the program {item}")


def _check_json(document: Any, name: str, item: str) -> None:
    for key, value in _pairs(document):
        if key == "use_pickle" and value:
            raise _refused(name, f"a pickled tensor ({item})")
        if key == "target" and isinstance(value, str) and not _OPERATOR.fullmatch(value):
            raise _refused(name, f'the call "{value[:80]}"')
        if key == "expr_str" and not _harmless(str(value)):
            raise _refused(name, f'the expression "{str(value)[:80]}"')
        if key == "as_custom_obj":
            raise _refused(name, "a custom object")


def _harmless(expression: str) -> bool:
    return (
        _EXPRESSION.fullmatch(expression) is not None
        and "__" not in expression
        and set(_CALL.findall(expression)) <= _FUNCTIONS
    )


def _pairs(document: Any) -> Iterator[tuple[str, Any]]:
    stack = [document]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item.items()
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _refused(name: str, what: str) -> InputError:
    return InputError(
        f"{name} contains {what}, which could run code when loaded: export the model again as plain "
        "tensors and array operations, or name its source as package.module:factory"
    )
