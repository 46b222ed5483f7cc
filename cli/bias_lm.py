"""`assaymark bias lm`: suites that ask a language model whom it treats worse."""

import re
from pathlib import Path
from typing import Annotated

import typer

from assaymark.cli.bias_options import Maximum, Minimum, On, gates_of, listed
from assaymark.cli.options import (
    Device,
    ExitZero,
    Outputs,
    SeedOfCommand,
    command_line,
    debug,
)
from assaymark.cli.policy_text import Table, numbers, policy_text
from assaymark.reports.errors import InputError

_LISTS = ("languages", "slots", "topics")
_ENDPOINT_NUMBERS = (
    "time_limit",
    "retries",
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "max_requests",
    "max_tokens_total",
    "max_cost",
    "price_input",
    "price_output",
    "top_logprobs",
    "batch",
    "give_up_after",
)


def language_model(
    model: Annotated[
        str,
        typer.Argument(
            help="hf:FOLDER, hf://NAME (the hub), http(s)://HOST/v1 with --endpoint model=NAME, "
            "package.module:function, word vectors (.txt, .vec, .bin, .npz), demo:planted or demo:fair."
        ),
    ],
    suite: Annotated[
        list[str],
        typer.Option(
            "--suite",
            metavar="NAME[:VARIANT][=DATA]",
            help="crows-pairs=FILE, stereoset=FILE, bbq=DIR, winobias=DIR, winogender=DIR, weat=FILE, "
            "descriptors, decisions, prompts, bold, associations; repeatable.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SUITE.KEY=VALUE",
            help="An option of a suite, such as bbq.orders=all or prompts.samples=5; repeatable.",
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint",
            metavar="KEY=VALUE",
            help="How an address is asked: model=NAME, api=chat, token_env=VARIABLE, concurrency=8, "
            "requests_per_minute=60, max_cost=5, price_input=1, price_output=4; repeatable.",
        ),
    ] = None,
    task: Annotated[
        str, typer.Option(help="auto, causal, masked, encoder or vectors: how it is opened.")
    ] = "auto",
    revision: Annotated[str | None, typer.Option(help="Of a model of the hub.")] = None,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Sequences in one pass; default: found.", min=1)
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="WEAT: mean, cls or last of the hidden states.")
    ] = None,
    examples: Annotated[
        int | None, typer.Option(help="A random sample of each large suite instead of all.", min=1)
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where answers are kept; default: your state folder."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no answers.")] = False,
    min_coverage: Annotated[
        float,
        typer.Option(help="A suite that answers a smaller share of its items is not measured."),
    ] = 0.95,
    gate_indicators: Annotated[
        bool,
        typer.Option(
            "--gate-indicators", help="Let limits on likelihood benchmarks fail the build."
        ),
    ] = False,
    mitigation: Annotated[
        list[str] | None,
        typer.Option(
            "--mitigation",
            metavar="NAME",
            help="Run all again with it: unbiased, illegal, ignore or important (an instruction; "
            "NAME:LANGUAGE), prefix:TEXT, self-debiasing[:KIND]; repeatable.",
        ),
    ] = None,
    maximum: Maximum = None,
    minimum: Minimum = None,
    on: On = None,
    seed: SeedOfCommand = 0,
    output: Outputs = None,
    device: Device = "auto",
    exit_zero: ExitZero = False,
) -> None:
    """Official bias benchmarks and prompts in several languages, on any language model."""
    if cache is not None and no_cache:
        raise InputError(f"--cache {cache} and --no-cache: give one of them")
    check: Table = {
        "id": "lm",
        "kind": "bias.lm",
        "model": model,
        "task": task,
        "revision": revision,
        "precision": precision,
        "batch_size": batch_size,
        "pooling": pooling,
        "endpoint": _endpoint(endpoint),
        "suites": _suites(suite, settings or [], examples),
        "cache": cache if cache is not None else (False if no_cache else None),
        "min_coverage": min_coverage,
        "indicators": "gate" if gate_indicators else None,
        "mitigations": mitigation,
        "gate": gates_of(maximum or [], minimum or [], on),
    }
    from assaymark.cli.finish import run_and_exit

    run_and_exit(
        policy_text(check, seed),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        device=device,
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )


def _suites(given: list[str], settings: list[str], examples: int | None) -> Table:
    """Suites as a policy writes them.

    >>> _suites(["bbq=data/bbq", "prompts"], ["prompts.samples=3"], None)
    {'bbq': {'data': 'data/bbq'}, 'prompts': {'samples': 3}}
    """
    from assaymark.reports.lm_suites import SUITES

    suites: dict[str, Table] = {}
    for text in given:
        found = re.fullmatch(r"([A-Za-z0-9_-]+)(?::([A-Za-z0-9_-]+))?(?:=(.+))?", text)
        if found is None:
            raise InputError(f"--suite {text}: expected NAME, NAME=DATA or NAME:VARIANT=DATA")
        name, variant, data = found.groups()
        if name in suites:
            raise InputError(f"--suite names {name} twice: run it twice, or give it once")
        sampled = name not in SUITES or SUITES[name].sampled
        keys = {"data": data, "variant": variant, "examples": examples if sampled else None}
        suites[name] = {key: value for key, value in keys.items() if value is not None}
    for text in settings:
        found = re.fullmatch(r"([A-Za-z0-9_-]+)\.([a-z_]+)=(.*)", text)
        if found is None:
            raise InputError(f"--set {text}: expected SUITE.KEY=VALUE, such as bbq.orders=all")
        name, key, value = found.groups()
        if name not in suites:
            raise InputError(
                f"--set {text}: no --suite names {name}; given are {', '.join(suites)}"
            )
        suites[name][key] = listed(value) if key in _LISTS else _value(value)
    return dict(suites)


def _endpoint(given: list[str] | None) -> Table | None:
    """KEY=VALUE pairs; extra.KEY=VALUE goes into the body of every request."""
    if given is None:
        return None
    table: Table = {}
    extra: Table = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not re.fullmatch(r"(extra\.)?[A-Za-z0-9_-]+", key):
            raise InputError(f"--endpoint {pair}: expected KEY=VALUE, such as model=NAME")
        if key.startswith("extra."):
            extra[key.removeprefix("extra.")] = _value(value)
        elif key == "leave_out":
            table[key] = listed(value)
        elif key in _ENDPOINT_NUMBERS or key == "proxy":
            table[key] = _value(value)
        else:
            table[key] = value
    return {**table, **({"extra": extra} if extra else {})}


def _value(text: str) -> object:
    """A number or a truth value where the text is one."""
    return {"true": True, "false": False}.get(text, (numbers(text) or [text])[0])
