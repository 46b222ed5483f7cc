"""Take the harmless part of a .pt2 archive: torch.export.load trusts all that it finds.

It unpickles custom constants, legacy weights and sample inputs, resolves any dotted name under
`torch` as a function to call, evaluates size expressions and guards as Python, and pastes argument
names into generated source (torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py,
torch 2.13). So an archive is read by an allow-list of members, keys and operators, and what passed
is written into a fresh archive, which is the one that torch sees.
"""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from assaymark.reports.errors import InputError

_MODEL = r"models/model\.json"
_CONFIG = r"data/(weights/model_weights|constants/model_constants)_config\.json"
_TENSOR = r"data/(weights/weight|constants/tensor)_\d+"
_SAMPLE = r"data/sample_inputs/model\.pt"
_RECORD = r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
_ALLOWED = re.compile(rf"[^/]+/({_MODEL}|{_CONFIG}|{_TENSOR}|{_SAMPLE}|{_RECORD}|\.format_version)")

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|prim|quantized_decomposed)\.\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|map_impl|scan|while_loop|wrap_with_set_grad_enabled)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|getitem|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|torch\.sym_(int|float|max|min|not|ite|sqrt)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
_TOUCHES_FILES = re.compile(r"file|save|load|print")
_WORDS = {
    "Symbol", "Integer", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod",
    "FloorDiv", "CleanDiv", "CeilDiv", "ModularIndexing", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "positive", "integer", "nonnegative", "negative", "real", "True", "False",
}  # fmt: skip
_NAME = r"[\w.+-]*"
"""Names of parameters, arguments, devices and versions."""
_MAX_JSON = 256 * 2**20


def harmless_copy(path: Path) -> io.BytesIO:
    """The archive without what could run code; raises InputError when it would need that."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _copy(archive, path.name)
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError, NotImplementedError) as error:
        raise InputError(
            f"{path.name} is not a torch.export archive: {error}; write it with torch.export.save"
        ) from error


def _copy(archive: zipfile.ZipFile, name: str) -> io.BytesIO:
    members = archive.namelist()
    if not any(re.fullmatch(rf"[^/]+/{_MODEL}", member) for member in members):
        raise InputError(
            f"{name} is not a torch.export archive of torch 2.8 or newer: "
            "write it again with torch.export.save"
        )
    twice = [key for key, times in Counter(map(str.casefold, members)).items() if times > 1]
    if twice or len({member.split("/")[0] for member in members}) > 1:
        raise _refused(name, "two answers to one name")
    fresh = io.BytesIO()
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as copy:
        for member in members:
            if not _ALLOWED.fullmatch(member):
                raise _refused(name, f"the member {member[:80]!r}")
            copy.writestr(member, _checked(archive, member, name))
    fresh.seek(0)
    return fresh


def _checked(archive: zipfile.ZipFile, member: str, name: str) -> bytes:
    if member.endswith(".json"):
        if archive.getinfo(member).file_size > _MAX_JSON:
            raise InputError(f"{name}: {member} is larger than {_MAX_JSON} bytes: refused")
        document = _plain(json.loads(archive.read(member)))
        _check_json(document, name)
        return json.dumps(document).encode()
    data = archive.read(member)
    if "/sample_inputs/" in member:
        try:
            torch.load(io.BytesIO(data), weights_only=True)
        except Exception as error:
            raise _refused(name, "a pickle of sample inputs") from error
    return data


def _plain(document: Any) -> Any:
    """The document without free text and Python source, which computing does not need."""
    if isinstance(document, dict):
        kept = {key: _plain(value) for key, value in document.items()}
        for key in ("metadata", "guards_code"):
            if key in kept:
                kept[key] = type(kept[key])()
        return kept
    return [_plain(item) for item in document] if isinstance(document, list) else document


def _check_json(document: Any, name: str) -> None:
    """Every key and every string is on a list: what is not known could become source code."""
    for key, value in _pairs(document):
        if not re.fullmatch(_NAME, key):
            raise _refused(name, f"the name {key[:80]!r}")
        if key == "use_pickle" and value is not False:
            raise _refused(name, "a pickled tensor")
        if key in ("as_custom_obj", "as_operator"):
            raise _refused(name, "a custom object")
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not _known(key, text):
                raise _refused(name, f"{key} = {text[:80]!r}")


def _known(key: str, text: str) -> bool:
    if key == "path_name":
        return re.fullmatch(r"(weight|tensor)_\d+", text) is not None
    if key == "target":
        return _operator(text)
    if key == "expr_str":
        return _expression(text)
    if key in ("in_spec", "out_spec"):
        return _tree(json.loads(text))
    if key in ("as_string", "as_strings"):  # an argument: it is quoted wherever it is written
        return True
    return re.fullmatch(_NAME, text) is not None


def _tree(spec: Any) -> bool:
    """A pytree of plain tuples, lists and dicts, as torch.utils._pytree.treespec_dumps writes it."""
    if isinstance(spec, list):
        return all(_tree(item) if isinstance(item, dict | list) else item == 1 for item in spec)
    if not isinstance(spec, dict) or set(spec) != {"type", "context", "children_spec"}:
        return False
    plain = (None, "builtins.tuple", "builtins.list", "builtins.dict")
    context = spec["context"]
    keys = json.loads(context) if isinstance(context, str) else context
    keys = [] if keys is None else keys
    named = isinstance(keys, list) and all(
        isinstance(key, str) and re.fullmatch(_NAME, key) for key in keys
    )
    return spec["type"] in plain and named and _tree(spec["children_spec"])


def _operator(target: str) -> bool:
    known = _OPERATOR.fullmatch(target) is not None
    return known and not _TOUCHES_FILES.search(target)


def _expression(text: str) -> bool:
    """Whether sympy would read sums, products and comparisons of sizes, and call nothing else."""
    bare = re.sub(r"'[su]\d+'", "", text)
    words = re.findall(r"[A-Za-z_]\w*", bare)
    return (
        re.fullmatch(r"[\w\s=,()+*/<>-]*", bare) is not None
        and all(word in _WORDS or re.fullmatch(r"[su]\d+", word) for word in words)
        and not re.search(r"\)\s*\(", bare)
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
