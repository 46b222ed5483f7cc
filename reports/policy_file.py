"""Read a policy file, and say where each mistake in it stands."""

import math
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from assaymark.reports.errors import InputError, Place, PolicyError, nearest
from assaymark.reports.policy import KINDS, METRICS, Policy, WaiverEntry
from assaymark.reports.policy_bias import AcceptedRun, ImpactRatioKeys, SliceSearch
from assaymark.reports.policy_lm import SuiteEntry
from assaymark.reports.policy_protection import ProtectionCheck, RecogniserEntry
from assaymark.reports.policy_robustness import AttackSpec, Normalize
from assaymark.reports.policy_tournament import Entrant
from assaymark.reports.policy_types import Baseline, Check, GateEntry
from assaymark.reports.positions import Path as KeyPath
from assaymark.reports.positions import positions

_SECTION = ("tool", "assaymark")
_NESTED: dict[str, type[BaseModel]] = {
    "gate": GateEntry,
    "baseline": Baseline,
    "normalize": Normalize,
    "attack": AttackSpec,
    "models": RecogniserEntry,
    "held_out_models": RecogniserEntry,
    "targeted": AttackSpec,
    "defenses": Entrant,
    "surrogates": Entrant,
    "waiver": WaiverEntry,
    "slices": SliceSearch,
    "impact_ratios": ImpactRatioKeys,
    "accepted": AcceptedRun,
    "suites": SuiteEntry,
}
_PATH_SUFFIXES = {".onnx", ".pt2", ".ts", ".pt", ".pth", ".pkl", ".safetensors", ".npz", ".npy"}
_PATH_SUFFIXES |= {".csv", ".parquet", ".arrow", ".feather", ".tsv", ".skops", ".json"}


def read(path: Path) -> str:
    """The text of a policy file; raises InputError when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read the policy {path}: {error.strerror or error}; name another, or write one "
            "with `assaymark init`"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"cannot read the policy {path}: it is not UTF-8 ({error.reason})"
        ) from error


def parse(
    text: str,
    name: str = "assaymark.toml",
    *,
    folder: Path | None = None,
    needs_gate: bool = True,
    more: Callable[[Policy], Iterator[tuple[KeyPath, str]]] | None = None,
) -> Policy:
    """The policy in a TOML text; with `folder`, the paths in it must exist.

    needs_gate: a policy without any gate is a mistake, since nothing could pass or fail. more: finds
    mistakes that only the pillars know, asked when there are no others. Raises PolicyError.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError([_syntax(text, name, str(error))]) from error
    text = text.replace("\r\n", "\n")  # for places only: tomllib has read it as it is
    prefix: KeyPath = ()
    if Path(name).name == "pyproject.toml":
        prefix = _SECTION
        tool = document.get("tool")
        document = tool.get("assaymark") if isinstance(tool, dict) else None  # type: ignore[assignment]
        if not isinstance(document, dict):
            raise InputError(f"{name} has no [tool.assaymark]: run `assaymark init`")
    where = _Locator(text, name, prefix)
    try:
        policy = Policy.model_validate(document)
    except ValidationError as error:
        found = error.errors()
        inner = [item["loc"] for item in found]
        raise PolicyError(
            [
                where.explain(item, document)
                for item in found
                # a list whose items are wrong is also called too short: the items say enough
                if not any(
                    len(other) > len(item["loc"]) and other[: len(item["loc"])] == item["loc"]
                    for other in inner
                )
            ]
        ) from error
    mistakes = [(where.value(loc), message) for loc, message in _cross_checks(policy, needs_gate)]
    if folder is not None:
        mistakes += [(where.value(loc), message) for loc, message in _missing(policy, folder)]
    if more is not None and not mistakes:
        mistakes += [(where.value(loc), message) for loc, message in more(policy)]
    if mistakes:
        raise PolicyError(mistakes)
    return policy


def _cross_checks(policy: Policy, needs_gate: bool) -> Iterator[tuple[KeyPath, str]]:
    seen: dict[str, int] = {}
    for i, check in enumerate(policy.check):
        if check.id in seen:
            yield ("check", i, "id"), f'id "{check.id}" is taken by check {seen[check.id] + 1}'
        seen.setdefault(check.id, i)
        metrics = METRICS[check.kind]
        for j, gate in enumerate(check.gate):
            if gate.metric not in metrics:
                advice = nearest(gate.metric, metrics)
                yield (
                    ("check", i, "gate", j, "metric"),
                    f'unknown metric "{gate.metric}" of a {check.kind} check{advice}',
                )
                continue
            if gate.defense is not None and check.kind != "tournament":
                yield (
                    ("check", i, "gate", j, "defense"),
                    f"gate.defense belongs to a tournament, this is a {check.kind} check",
                )
            metric = metrics[gate.metric]
            if gate.on != "estimate" and not metric.interval:
                yield (
                    ("check", i, "gate", j, "on"),
                    f'{gate.metric} comes without an interval: write on = "estimate"',
                )
            side = "min" if gate.max is None else "max"
            bound = gate.min if gate.max is None else gate.max
            assert bound is not None
            right = {"high": "min", "low": "max"}.get(metric.good, side)
            if side != right:
                yield (
                    ("check", i, "gate", j, side),
                    f"{gate.metric} is good when {metric.good}: write {right} = …, {side} = "
                    f"{bound:g} would pass the worst",
                )
            elif metric.scale is not None:
                least = -math.inf if metric.good == "either" else 0
                if bound < least or (bound == 0 and not metric.zero):
                    yield (
                        ("check", i, "gate", j, side),
                        f"{side} = {bound:g} decides nothing, since {gate.metric} {metric.scale}",
                    )
            elif not 0 <= bound <= 1 or bound == (0 if side == "min" else 1):
                advice = f": did you mean {bound / 100:g}?" if 1 < bound <= 100 else ""
                yield (
                    ("check", i, "gate", j, side),
                    f"{gate.metric} lies between 0 and 1, so {side} = {bound:g} decides nothing"
                    + advice,
                )
        if check.baseline is not None and policy.baseline is None:
            yield (
                ("check", i, "baseline"),
                'no accepted report is named: add baseline = "accepted.json" at the top of the '
                "policy",
            )
        if check.baseline is not None and not check.gates:
            yield ("check", i, "baseline"), "a baseline compares the gated metrics: add a gate"
    if not policy.check:
        yield (), "the policy has no [[check]]: an empty policy never passes; see `assaymark init`"
    elif needs_gate and not any(check.gates for check in policy.check):
        yield ("check", 0), "no check has a gate, so nothing can pass or fail: add gate = { … }"
    for i, waiver in enumerate(policy.waiver):
        if waiver.check not in seen:
            advice = nearest(waiver.check, seen)
            yield ("waiver", i, "check"), f'no check has the id "{waiver.check}"{advice}'
            continue
        check = policy.check[seen[waiver.check]]
        gated = [gate.metric for gate in check.gates]
        if waiver.metric is not None and waiver.metric not in gated:
            yield (
                ("waiver", i, "metric"),
                f'check "{check.id}" has no gate on "{waiver.metric}"{nearest(waiver.metric, gated)}',
            )


def _missing(policy: Policy, folder: Path) -> Iterator[tuple[KeyPath, str]]:
    for i, check in enumerate(policy.check):
        for key, spec in specs(check):
            if re.match(r"[a-z]+:", spec) or _is_factory(spec):
                continue
            if not _exists(folder / spec):
                expected = "a file or a folder" if key[-1] == "data" else "a file"
                name = {"defenses": "defense", "surrogates": "surrogate"}.get(str(key[0]), key[0])
                yield (
                    ("check", i, *key),
                    f'no such {name}: "{spec}" is not {expected} under {folder or "."}; '
                    "paths are relative to the policy file",
                )
        yield from _missing_of_protection(check, i, folder)
        for key, anchor in getattr(check, "named_files", ()):
            if not _exists(folder / anchor):
                what = "trust anchor file" if "anchors" in str(key[0]) else "file"
                yield (
                    ("check", i, *key),
                    f'no such {what}: "{anchor}"; paths are relative to the policy file',
                )


def _missing_of_protection(check: object, i: int, folder: Path) -> Iterator[tuple[KeyPath, str]]:
    if not isinstance(check, ProtectionCheck):
        return
    named = [("originals", j, spec) for j, spec in enumerate(check.originals)]
    named += [("models", j, entry.model) for j, entry in enumerate(check.models)]
    named += [("held_out_models", j, entry.model) for j, entry in enumerate(check.held_out_models)]
    named.append(("protected", 0, check.protected))
    if check.labels not in (None, "known"):
        named.append(("labels", 0, str(check.labels)))
    for key, j, spec in named:
        if re.match(r"[a-z]+:", spec) or _is_factory(spec) or _exists(folder / spec):
            continue
        yield (
            ("check", i, key, j),
            f'{key}: there is no "{spec}" under {folder or "."}; paths are relative to the policy file',
        )


def specs(check: Check) -> Iterator[tuple[KeyPath, str]]:
    """The models and data that a check names, each with the key that it stands under."""
    for key in ("model", "reference", "defended", "data", "metadata"):
        spec = getattr(check, key, None)
        if spec is not None:
            yield (key,), spec
    accepted = getattr(check, "accepted", None)
    if accepted is not None and accepted.data is not None:
        yield ("accepted", "data"), accepted.data
    for key in ("defenses", "surrogates"):
        for place, entry in enumerate(getattr(check, key, ())):
            yield (key, place, "model"), entry.model
    for name, entry in getattr(check, "suites", {}).items():
        for key in ("data", "quality"):
            if getattr(entry, key) is not None:
                yield ("suites", name, key), getattr(entry, key)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def _is_factory(spec: str) -> bool:
    return bool(re.fullmatch(r"[\w.]+:[\w.]+", spec)) and Path(spec).suffix not in _PATH_SUFFIXES


def _syntax(text: str, name: str, message: str) -> tuple[Place, str]:
    lines = text.rstrip("\n").split("\n")
    found = re.search(r"\(at line (\d+), column (\d+)\)", message)
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    shown = lines[min(line, len(lines)) - 1]
    place = Place(path=name, line=line, column=min(column, len(shown) + 1), text=shown)
    return place, f"not valid TOML: {re.sub(r' *[(]at .*[)]', '', message)}"


class _Locator:
    """Finds the place of a pydantic location in the source."""

    def __init__(self, text: str, name: str, prefix: KeyPath) -> None:
        self.lines = text.split("\n")
        self.name = name
        self.prefix = prefix
        self.spans = positions(text)

    def key(self, location: KeyPath) -> Place:
        return self._place(location, 0)

    def value(self, location: KeyPath) -> Place:
        return self._place(location, 1)

    def _place(self, location: KeyPath, which: int) -> Place:
        # Parts that the source does not have (a union's tag, the list around a single gate) are
        # left out; the deepest part that it has is the place.
        path = self.prefix
        for part in location:
            if self._first((*path, part)):
                path = (*path, part)
        path = self._first(path) or path
        line, column, length = self.spans[path][which] if path in self.spans else (1, 1, 1)
        text = self.lines[line - 1]
        return Place(path=self.name, line=line, column=column, length=length, text=text)

    def _first(self, path: KeyPath) -> KeyPath | None:
        """`path` itself, or the first known place below it."""
        if path in self.spans:
            return path
        return next((known for known in self.spans if known[: len(path)] == path), None)

    def explain(self, item: Any, document: dict[str, Any]) -> tuple[Place, str]:
        """One mistake that pydantic found, in our words: seen, expected, next step."""
        location, kind, seen = item["loc"], item["type"], item["input"]
        leaf = str(location[-1]) if location else ""
        if len(location) > 1 and isinstance(location[-1], int):
            leaf = f"{location[-2]}[{leaf}]"
        if kind == "extra_forbidden":
            advice = nearest(leaf, _keys(location, document))
            return self.key(location), f'unknown key "{leaf}"{advice}'
        if kind == "missing":
            return self.key(location[:-1]), f'missing key "{leaf}"'
        if kind == "union_tag_not_found":
            return self.key(location), f'missing key "kind"; known are {", ".join(KINDS)}'
        if kind == "union_tag_invalid":
            tag = str(item["ctx"]["tag"])
            return self.value((*location, "kind")), f'unknown kind "{tag}"{nearest(tag, KINDS)}'
        if kind == "literal_error":
            expected = re.findall(r"'([^']*)'", item["ctx"]["expected"])
            advice = nearest(str(seen), expected) if expected else f"; {item['msg']}"
            return self.value(location), f"{leaf} = {_short(seen)} is not known{advice}"
        if kind == "value_error":
            return self.value(location), str(item["ctx"]["error"])
        if kind == "string_pattern_mismatch":
            return self.value(
                location
            ), f"{leaf} = {_short(seen)} must match {item['ctx']['pattern']}"
        if kind in ("tuple_type", "list_type"):
            wanted = (
                f"[[{leaf}]], a list of tables" if leaf in ("check", "waiver") else "a list […]"
            )
            return self.value(location), f"{leaf} = {_short(seen)}: expected {wanted}"
        if kind == "model_type":
            where = next((part for part in reversed(location) if isinstance(part, str)), "policy")
            return self.value(location), f"{where} = {_short(seen)}: expected a table {{ key = … }}"
        message = item["msg"][0].lower() + item["msg"][1:]
        return self.value(location), f"{leaf} = {_short(seen)}: {message}"


def _keys(location: KeyPath, document: dict[str, Any]) -> list[str]:
    """The keys known where `location` stands."""
    names = [part for part in location[:-1] if isinstance(part, str)]
    for name in reversed(names):
        if name in _NESTED:
            return _fields(_NESTED[name])
        if name in KINDS:
            return _fields(KINDS[name])
    return _fields(Policy)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
