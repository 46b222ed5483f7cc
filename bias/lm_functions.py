"""Language models that are code of the user's: package.module:name.

A function named generate(prompts: list[str]) -> list[str], loglikelihood(pairs: list[tuple[context,
continuation]]) -> list[float, or a list with a float a token] or embed(texts) -> array (n, dimensions);
an object with such methods; a LanguageModel; or a function without arguments that makes one of these.
"""

import hashlib
import inspect
import math
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy

from assaymark.bias.lm_model import (
    Continuation,
    Failed,
    LanguageModel,
    Progress,
    Prompt,
    Reply,
    Sampling,
    Scored,
    Vectors,
    quiet,
)
from assaymark.bias.lm_stream import StreamedGenerate, StreamedScore
from assaymark.reports.errors import InputError
from assaymark.reports.named_code import reason, resolve

R = TypeVar("R")
A = TypeVar("A")
METHODS = ("generate", "loglikelihood", "embed")
ONLY_NOW = "this process only: "
"""What the key of a model begins with whose answers must not be kept for another process."""
_ROUNDING = 1e-6


def of_function(
    spec: str, folder: Path, *, revision: str = "", batch: int = 32, chat: bool = False
) -> LanguageModel:
    """The model that `package.module:name` is or makes; modules in `folder` can be named too.

    revision: the user's word for what the answers depend on. Without one they are never kept for another
    process, since code may read anything: the digest of its file does not say what it does. batch: how
    many requests the code is handed at once. A batch that fails is tried again one by one. A function
    that takes an argument `sampling` is given the Sampling. Raises InputError when there is no such code.
    """
    if batch < 1:
        raise InputError(f"batch must be at least 1, got {batch}")
    found = _made(resolve(spec, folder), spec)
    digest = _digest(spec)
    kept = f"code {spec} {digest} {revision}" if revision else f"{ONLY_NOW}{spec} {os.getpid()}"
    facts = {"code": spec, "sha256 of its file": digest, "revision": revision or "none named"}
    if isinstance(found, LanguageModel):
        return replace(found, name=spec, key=f"{kept} {found.key}", facts={**facts, **found.facts})
    methods = {name: _method(found, name, spec) for name in METHODS}
    if not any(methods.values()):
        raise InputError(
            f"{spec}, of type {type(found).__name__}, has no {', '.join(METHODS)}: name a function of such a "
            "name, an object with such methods, or a function without arguments that makes one"
        )
    generate, score, embed = (methods[name] for name in METHODS)
    return LanguageModel(
        name=spec,
        key=kept,
        facts=facts,
        generate=StreamedGenerate(lambda p, s: _replies(generate, p, s, batch))
        if generate
        else None,
        score=StreamedScore(lambda r: _scores(score, r, batch)) if score else None,
        embed=_embedding(embed, spec, batch) if embed else None,
        chat=chat,
    )


def _made(found: Any, spec: str) -> Any:
    """What the name stands for; classes, and functions of no known name, make it."""
    is_model = isinstance(found, LanguageModel) or _role(spec) or _has_methods(found)
    if not callable(found) or (is_model and not isinstance(found, type)):
        return found
    if needed := _needed(found):
        raise InputError(
            f"{spec} needs the arguments {', '.join(needed)}: a function is named generate, loglikelihood "
            "or embed, and one that makes a model takes no arguments"
        )
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise InputError(f"{spec}() failed, {reason(error)}") from error


def _needed(code: Callable[..., Any]) -> list[str]:
    return [
        name
        for name, value in _parameters(code).items()
        if value.default is value.empty
        and value.kind not in (value.VAR_POSITIONAL, value.VAR_KEYWORD)
    ]


def _parameters(code: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(code).parameters
    except (TypeError, ValueError):  # code that is not Python
        return {}


def _role(spec: str) -> str | None:
    """Which question a function of this name answers: its own name, or the end of it."""
    name = spec.rpartition(":")[2].rpartition(".")[2]
    return next((role for role in METHODS if name == role or name.endswith(f"_{role}")), None)


def _has_methods(found: object) -> bool:
    return any(callable(getattr(found, name, None)) for name in METHODS)


def _method(found: object, name: str, spec: str) -> Callable[..., Any] | None:
    alone = found if _role(spec) == name else None
    method = getattr(found, name, None) if _has_methods(found) else alone
    return method if callable(method) else None


def _digest(spec: str) -> str:
    """The SHA-256 of the file of a module; what it imports is not in it."""
    file = getattr(sys.modules.get(spec.partition(":")[0]), "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "no file"
    except OSError:
        return "no file"


def _replies(
    code: Callable[..., Any] | None, prompts: Sequence[Prompt], sampling: Sampling, batch: int
) -> Generator[tuple[int, Reply | Failed], None, None]:
    assert code is not None
    named = {"sampling": sampling} if "sampling" in _parameters(code) else {}

    def ask(group: Sequence[Prompt]) -> Any:
        return code([f"{p.system}\n\n{p.text}" if p.system else p.text for p in group], **named)

    return _answers(ask, prompts, _reply, batch)


def _scores(
    code: Callable[..., Any] | None, requests: Sequence[Continuation], batch: int
) -> Generator[tuple[int, Scored | Failed], None, None]:
    assert code is not None

    def ask(group: Sequence[Continuation]) -> Any:
        return code([(request.context, request.text) for request in group])

    return _answers(ask, requests, _scored, batch)


def _answers(
    ask: Callable[[Sequence[R]], Any],
    requests: Sequence[R],
    read: Callable[[Any, R], A | Failed],
    batch: int,
) -> Generator[tuple[int, A | Failed], None, None]:
    for start in range(0, len(requests), batch):
        group = requests[start : start + batch]
        answers = _asked(ask, group)
        if isinstance(answers, Failed) and len(group) > 1:
            answers = [_alone(ask, request) for request in group]
        elif isinstance(answers, Failed):
            answers = [answers]
        for place, (answer, request) in enumerate(zip(answers, group, strict=True), start):
            yield place, answer if isinstance(answer, Failed) else read(answer, request)


def _alone(ask: Callable[[Sequence[R]], Any], request: R) -> Any:
    answers = _asked(ask, [request])
    return answers if isinstance(answers, Failed) else answers[0]


def _asked(ask: Callable[[Sequence[R]], Any], group: Sequence[R]) -> list[Any] | Failed:
    try:
        answers = ask(group)
    except (Exception, SystemExit) as error:
        return Failed("error", f"the code failed, {reason(error)}")
    if answers is None or isinstance(answers, (str, bytes)):
        return Failed("unparsable", f"the code returned {_kind(answers)}: expected a list")
    try:
        listed = list(answers)
    except Exception as error:
        return Failed("unparsable", f"the code returned no list, {reason(error)}")
    if len(listed) != len(group):
        return Failed(
            "unparsable", f"the code returned {len(listed)} answers for {len(group)} requests"
        )
    return listed


def _reply(answer: Any, _: Prompt) -> Reply | Failed:
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, str):
        return Reply(answer)
    return Failed("unparsable", f"the code returned {_kind(answer)}: expected a text")


def _scored(answer: Any, request: Continuation) -> Scored | Failed:
    """One number for all of a continuation, or one a token; its tokens' texts are not known then."""
    if isinstance(answer, Scored):
        values: list[Any] = list(answer.logprobs)
        tokens = answer.tokens
    else:
        values = _numbers(answer)
        tokens = (request.text, *("" for _ in values[1:]))
    if not values or len(values) != len(tokens):
        return Failed(
            "unparsable", f"the code returned {_kind(answer)}: expected log probabilities"
        )
    numbers = [_logprob(value) for value in values]
    if any(number is None for number in numbers):
        return Failed("unparsable", f"the code returned {_kind(answer)} as a log probability")
    return Scored(tokens, tuple(number for number in numbers if number is not None))


def _numbers(answer: Any) -> list[Any]:
    if isinstance(answer, (str, bytes, dict)):
        return []
    try:
        return list(answer)
    except TypeError:
        return [answer]


def _logprob(value: Any) -> float | None:
    if value is None or isinstance(value, (bool, str, bytes, numpy.bool_)):
        return None
    try:
        number = float(value)
    except Exception:
        return None
    return min(number, 0.0) if math.isfinite(number) and number <= _ROUNDING else None


def _kind(answer: Any) -> str:
    try:
        return f"{type(answer).__name__} {str(answer)[:60]!r}"
    except Exception:
        return f"a {type(answer).__name__}"


def _embedding(
    code: Callable[..., Any], spec: str, batch: int
) -> Callable[[Sequence[str], Progress], tuple[Vectors, tuple[bool, ...]]]:
    def embed(texts: Sequence[str], progress: Progress = quiet) -> tuple[Vectors, tuple[bool, ...]]:
        rows: list[numpy.ndarray[Any, Any] | Failed] = []
        for start in range(0, len(texts), batch):
            rows.extend(_vectors(code, texts[start : start + batch]))
            progress(len(rows), len(texts))
        return _stacked(rows, spec)

    return embed


def _vectors(
    code: Callable[..., Any], texts: Sequence[str]
) -> list[numpy.ndarray[Any, Any] | Failed]:
    try:
        found = numpy.asarray(code(list(texts)), dtype=numpy.float64)
        if found.ndim == 2 and len(found) == len(texts) and found.shape[1]:
            return list(found)
        failed = Failed(
            "unparsable", f"the code returned the shape {found.shape} for {len(texts)} texts"
        )
    except (Exception, SystemExit) as error:
        failed = Failed("error", f"the code failed, {reason(error)}")
    if len(texts) == 1:
        return [failed]
    return [row for text in texts for row in _vectors(code, [text])]


def _stacked(
    rows: Sequence[numpy.ndarray[Any, Any] | Failed], spec: str
) -> tuple[Vectors, tuple[bool, ...]]:
    good = [row for row in rows if not isinstance(row, Failed)]
    failures = [row for row in rows if isinstance(row, Failed)]
    if not good and rows:
        raise InputError(f"{spec} gave no vector at all: {failures[0].reason}")
    sizes = {row.size for row in good}
    if len(sizes) > 1:
        raise InputError(f"{spec} gave vectors of different lengths: {sorted(sizes)}")
    out = numpy.full((len(rows), max(sizes, default=0)), numpy.nan)
    for place, row in enumerate(rows):
        if not isinstance(row, Failed) and bool(numpy.isfinite(row).all()):
            out[place] = row
    return out, tuple(bool(known) for known in numpy.isfinite(out).all(axis=1)) if rows else ()
