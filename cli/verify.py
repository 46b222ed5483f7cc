"""`assaymark verify` and `assaymark inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assaymark.cli.options import ExitZero, Outputs, command_line, debug
from assaymark.cli.policy_text import policy_text
from assaymark.cli.terminal import say, tell
from assaymark.reports.errors import InputError

if TYPE_CHECKING:
    from assaymark.provenance.trust import Trust

Anchors = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-anchor", help="PEM certificate that a signer's chain may end in; repeatable."
    ),
]
TsaAnchors = Annotated[
    list[str] | None,
    typer.Option("--tsa-anchor", help="The same for time-stamping authorities; repeatable."),
]
IdentityAnchors = Annotated[
    list[str] | None,
    typer.Option("--identity-anchor", help="The same for CAWG identities; repeatable."),
]


def verify(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="Files, folders or patterns.")
    ] = None,
    trust_anchor: Anchors = None,
    tsa_anchor: TsaAnchors = None,
    identity_anchor: IdentityAnchors = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]", help="What every file must keep; repeatable, see --list-rules."
        ),
    ] = None,
    list_rules: Annotated[bool, typer.Option("--list-rules", help="Show the rules.")] = False,
    ask_responders: Annotated[
        bool,
        typer.Option("--ask-responders", help="Ask OCSP responders; uses the network."),
    ] = False,
    responder_timeout: Annotated[float, typer.Option(help="Seconds for one responder.")] = 2.0,
    private_responder: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST[:PORT]", help="May be asked on a private address; repeatable."),
    ] = None,
    crl: Annotated[
        list[str] | None, typer.Option(help="File with a list of revoked certificates; repeatable.")
    ] = None,
    records: Annotated[
        str | None, typer.Option(metavar="FILE", help="One line of JSON for every file.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Processes; 0: as the cores allow.")
    ] = 0,
    output: Outputs = None,
    exit_zero: ExitZero = False,
) -> None:
    """Say who signed each file and whether it is unchanged since; 4 when a signature is broken."""
    from assaymark.cli.finish import run_and_exit
    from assaymark.provenance.files import find_files

    if list_rules:
        _list_rules()
        return
    if not files:
        raise InputError("nothing to verify: name files, folders or patterns")
    find_files(tuple(files))
    if not trust_anchor:
        tell("no --trust-anchor is given, so no signer can be trusted")
    rules = _rules(rule or [])
    check = {
        "id": "verify",
        "kind": "provenance",
        "files": list(files),
        "trust_anchors": list(trust_anchor or ()),
        "time_stamp_anchors": list(tsa_anchor or ()),
        "identity_anchors": list(identity_anchor or ()),
        "rules": rules or None,
        "ask_responders": ask_responders or None,
        "responder_timeout_s": responder_timeout if ask_responders else None,
        "private_responders": list(private_responder or ()),
        "revocation_lists": list(crl or ()),
        "records": records,
    }
    if not {"must_be_trusted", "must_be_intact"} & set(rules):
        check["gate"] = {"metric": "trusted_files", "min": 1.0, "severity": "critical"}
    run_and_exit(
        policy_text({key: value for key, value in check.items() if value not in (None, [])}),
        name="command line",
        folder=Path(),
        command=command_line(),
        outputs=output or [],
        workers=workers or 1,
        exit_zero=exit_zero,
        needs_gate=False,
        debug=debug(),
    )


def inspect(
    file: Annotated[Path, typer.Argument(help="One file.")],
    trust_anchor: Anchors = None,
    tsa_anchor: TsaAnchors = None,
    identity_anchor: IdentityAnchors = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A page (.html), .json or .txt.")
    ] = None,
) -> None:
    """Show what a file's credentials say: manifests, ingredients, actions, signers, times."""
    from assaymark.provenance.inspect import as_json as json_of
    from assaymark.provenance.inspect import as_text, inspection
    from assaymark.provenance.inspect_page import as_html
    from assaymark.reports.files import write_atomically

    ways = {".html": as_html, ".json": json_of, ".txt": as_text}
    if output is not None and output.suffix not in ways:
        raise InputError(
            f"{output} ends in {output.suffix or 'nothing'}: expected {', '.join(ways)}"
        )
    if not file.is_file():
        raise InputError(
            f"{file} is no file: inspect shows one file, assaymark verify takes folders"
        )
    found = inspection(file, _trust(trust_anchor, tsa_anchor, identity_anchor))
    if output is not None:
        write_atomically(output, ways[output.suffix](found))
        say(f"wrote {output}")
    elif as_json:
        write_lines(json_of(found))
    else:
        write_lines(as_text(found))


def write_lines(text: str) -> None:
    """Several lines that were escaped where they were made."""
    for line in text.splitlines():
        say(line)


def _trust(
    signers: list[str] | None, stamps: list[str] | None, actors: list[str] | None
) -> "Trust":
    from assaymark.provenance.keys import load_anchors
    from assaymark.provenance.trust import Trust

    def read(names: list[str] | None) -> str:
        return load_anchors([Path(name) for name in names or ()])

    return Trust(signers=read(signers), time_stamps=read(stamps), identities=read(actors))


def _rules(given: list[str]) -> dict[str, object]:
    """NAME[=VALUE] as a policy's table of rules; what is wrong is told before anything is read."""
    from assaymark.provenance.rules import RULES
    from assaymark.reports.errors import nearest

    found: dict[str, object] = {}
    names, seen = {rule.name: rule for rule in RULES.values()}, dict[str, str]()
    for text in given:
        name, equals, value = text.partition("=")
        rule = names.get(name.replace("_", "-"))
        if rule is None:
            raise InputError(f"--rule {name}: there is no such rule{nearest(name, names)}")
        if rule.key in found and rule.kind not in ("texts", "files") and text != seen[rule.key]:
            raise InputError(
                f"--rule {text}: {name} was given before, as {seen[rule.key]}; once is enough"
            )
        seen[rule.key] = text
        if rule.kind == "flag":
            if equals:
                raise InputError(f"--rule {text}: {name} takes no value, leave it out")
            found[rule.key] = True
            continue
        if not value:
            raise InputError(f"--rule {name}: expected {name}=VALUE ({rule.help})")
        if rule.kind in ("days", "number"):
            found[rule.key] = int(value) if value.isdecimal() else value
        elif rule.kind == "choice":
            found[rule.key] = value
        else:
            found.setdefault(rule.key, [])
            found[rule.key] += [value]  # type: ignore[operator]
    return found


def _list_rules() -> None:
    from assaymark.provenance.rules import RULES

    words = {
        "flag": "",
        "texts": "=TEXT",
        "days": "=DAYS",
        "number": "=N",
        "choice": "",
        "files": "=FILE",
    }
    for rule in RULES.values():
        value = f"={'|'.join(rule.choices)}" if rule.kind == "choice" else words[rule.kind]
        say(f"{rule.name + value:<44} {rule.help}")
