"""`assaymark sign`: one file, or folders of them, with what is said about each."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assaymark.cli.exit import Interrupted
from assaymark.cli.keys import KeyName, Keys, PassphraseFile, credentials_of
from assaymark.cli.resume import state_folder
from assaymark.cli.terminal import Progress, say, tell
from assaymark.reports.errors import InputError

if TYPE_CHECKING:
    from assaymark.provenance.batch import Outcome
    from assaymark.provenance.claims import Claims
    from assaymark.provenance.keys import Credentials
    from assaymark.provenance.manner import Manner
    from assaymark.provenance.plan import Plan, Task
    from assaymark.provenance.sign import Signed
    from assaymark.provenance.template import Template

_SHOWN = 20
_NAMED = 5  # files shown of those that failed for the same reason
Text = str | None


def sign(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A folder, or a file where one file is signed; default: NAME.signed.ENDING beside it.",
        ),
    ] = None,
    keys: Keys = None,
    chain: Annotated[
        Path | None, typer.Option(help="PEM chain, the signing certificate first.")
    ] = None,
    key: KeyName = None,
    passphrase_file: PassphraseFile = None,
    title: Annotated[Text, typer.Option(help="Title; default: the file name.")] = None,
    generated: Annotated[
        bool, typer.Option("--generated", help="A trained model made it.")
    ] = False,
    edited_with_ai: Annotated[
        bool, typer.Option("--edited-with-ai", help="A work that a trained model changed.")
    ] = False,
    captured: Annotated[bool, typer.Option("--captured", help="A camera took it.")] = False,
    source_type: Annotated[
        Text, typer.Option(help="Any other IPTC or C2PA digital source type.")
    ] = None,
    action: Annotated[
        list[str] | None, typer.Option(help="What was done, such as cropped; repeatable.")
    ] = None,
    author: Annotated[Text, typer.Option(help="Who made it (dc:creator).")] = None,
    organization: Annotated[Text, typer.Option(help="For whom it was made.")] = None,
    copyright: Annotated[Text, typer.Option(help="Copyright notice.")] = None,
    generator: Annotated[Text, typer.Option(help="Software or device that made it.")] = None,
    generator_version: Annotated[Text, typer.Option(help="Its version.")] = None,
    model: Annotated[Text, typer.Option(help="Identifier of the AI model.")] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="The prompt; only its SHA-256 is signed.")
    ] = None,
    prompt_sha256: Annotated[Text, typer.Option(help="SHA-256 of the prompt.")] = None,
    no_training: Annotated[
        bool, typer.Option("--no-training", help="No AI training and data mining on it.")
    ] = False,
    training: Annotated[
        list[str] | None,
        typer.Option(metavar="USE=PERMISSION", help="Such as ai_training=allowed; repeatable."),
    ] = None,
    parent: Annotated[Path | None, typer.Option(help="The work as it was before the edit.")] = None,
    ingredient: Annotated[
        list[str] | None,
        typer.Option(metavar="[inputTo:]FILE", help="A work that went into it; repeatable."),
    ] = None,
    allow_broken_ingredients: Annotated[
        bool,
        typer.Option(
            "--allow-broken-ingredients", help="Take up works whose credentials do not hold."
        ),
    ] = False,
    thumbnail: Annotated[int, typer.Option(help="Longest edge in pixels; 0: none.")] = 0,
    template: Annotated[
        Path | None, typer.Option(help="TOML or JSON with all of these, for many files.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="CSV or JSON lines: what is said of each file.")
    ] = None,
    tsa: Annotated[
        Text,
        typer.Option(metavar="URL|KEYS", help="Time stamps: an RFC 3161 address, or a key folder."),
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Key folder of a named actor (CAWG identity).")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="Of the actor, such as creator.")] = None,
    store: Annotated[
        Text, typer.Option(metavar="FILE|URL", help="Remember pictures, so that copies are found.")
    ] = None,
    watermark_key: Annotated[
        Path | None, typer.Option(help="File with a secret: mark pictures invisibly.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Append what was signed to this transparency log.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes; default: as the cores allow.")
    ] = None,
    read_back: Annotated[
        bool, typer.Option("--read-back/--no-read-back", help="Verify what was written.")
    ] = True,
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Leave files as they are, NAME.c2pa beside each.")
    ] = False,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Sign WAV, AVI and WebP files in themselves.")
    ] = False,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Bring plain text into Unicode's form C if need be.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Sign files with Content Credentials (C2PA); sources are never changed without --in-place.

    Pictures, video, sound, PDF, Office, EPUB, text and code carry the manifest; anything else gets it
    beside it (NAME.c2pa). The same command again signs what is new, changed or missing.
    """
    from assaymark.provenance.claims import Claims
    from assaymark.provenance.claims import ingredient as as_ingredient
    from assaymark.provenance.manner import Binding, Manner
    from assaymark.provenance.plan import plan, plan_where_they_lie
    from assaymark.provenance.signers import check_key

    said = Claims(
        title=title,
        source_type=_one_of(
            {
                "generated": generated,
                "edited-with-ai": edited_with_ai,
                "captured": captured,
                source_type or "": bool(source_type),
            }
        ),
        actions=tuple(action or ()),
        author=author,
        organization=organization,
        copyright=copyright,
        generator=generator,
        generator_version=generator_version,
        model=model,
        prompt_sha256=_prompt(prompt_file, prompt_sha256),
        training=_training(no_training, training or []) or None,
        parent=parent,
        ingredients=tuple(map(as_ingredient, ingredient or ())),
        thumbnail=thumbnail,
    )
    if in_place and output is not None:
        raise InputError(f"--in-place writes no copy: leave out -o {output}, or --in-place")
    beside = sidecar and output is None
    where_they_lie = partial(plan_where_they_lie, inside=in_place)
    if role and identity is None:
        raise InputError("--role is the role of a named actor: name one with --identity KEYFOLDER")
    planned = where_they_lie(paths) if in_place or beside else plan(paths, output)
    claims = _statements(said, template, index, planned, paths)
    secret = secret_of(watermark_key)
    credentials = credentials_of(keys, chain, key, passphrase_file)
    manner = Manner(
        identity=credentials_of(identity, None, None, passphrase_file) if identity else None,
        roles=tuple(role or ()),
        broken_ingredients=allow_broken_ingredients,
        binding=Binding(store=store or "", key=secret) if store or secret else None,
        read_back=read_back,
        sidecar=sidecar,
        in_place=in_place,
        normalize=normalize,
    )
    if manner.binding is not None:
        _open_store(store)
    for warning in credentials.warnings:
        tell(f"warning: {warning}")
    check_key(credentials)
    with _stamping(tsa, passphrase_file) as url:
        settings = _settings(credentials, claims, manner, tsa)
        manner = replace(manner, tsa_url=url)
        _run(planned, _root(paths), claims, credentials, manner, settings, log, workers, force)


def _run(
    planned: "Plan",
    root: Path,
    claims: "Claims | Template",
    credentials: "Credentials",
    manner: "Manner",
    settings: str,
    log: Path | None,
    workers: int | None,
    force: bool,
) -> None:
    from assaymark.provenance.batch import sign_all
    from assaymark.provenance.journal import Journal
    from assaymark.provenance.signed_log import Logging

    work = partial(_sign_one, credentials, claims, manner, root)
    progress, began = Progress(1), time.monotonic()
    progress.start("sign")
    outcomes: list[Outcome] = []
    logged = Logging(log, credentials) if log else None
    with (
        _interruptible(planned, outcomes),
        Journal(path=_journal(planned), settings=settings) as journal,
    ):
        for outcome in sign_all(
            planned.tasks,
            work,
            journal,
            overwrite=force,
            ours=partial(_is_ours, credentials),
            workers=workers,
        ):
            outcomes.append(outcome)
            if logged is not None and outcome.signed is not None:
                logged.note(outcome.signed)
            progress(len(outcomes), len(planned.tasks))
    if planned.folder is None and len(outcomes) == 1:
        _tell_one(outcomes[0])
        return
    failed = [outcome for outcome in outcomes if outcome.state in ("failed", "not begun")]
    progress.finish("failed" if failed else "done")
    _summary(planned, outcomes, time.monotonic() - began)
    if failed:
        raise typer.Exit(3)


@contextmanager
def _interruptible(planned: "Plan", outcomes: "list[Outcome]") -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        if planned.folder is None:
            raise
        raise Interrupted(
            f"interrupted after {len(outcomes)} of {len(planned.tasks)} files; the same command "
            "goes on there"
        ) from error


def _sign_one(
    credentials: "Credentials",
    claims: "Claims | Template",
    manner: "Manner",
    root: Path,
    task: "Task",
    overwrite: bool,
) -> "Signed":
    from assaymark.provenance.claims import Claims
    from assaymark.provenance.sign import sign
    from assaymark.provenance.template import claims_for

    said = claims if isinstance(claims, Claims) else claims_for(claims, task.source, root=root)
    return sign(task.source, task.destination, credentials, said, manner, overwrite=overwrite)


def _tell_one(outcome: "Outcome") -> None:
    if outcome.signed is None:
        if outcome.state == "kept":
            say(f"{outcome.task.destination} is signed already, nothing changed since")
            return
        raise InputError(outcome.why)
    signed = outcome.signed
    by = f", signed by {signed.found.signer}" if signed.found else ""
    say(f"wrote {signed.manifest}{by}")


def _summary(planned: "Plan", outcomes: "list[Outcome]", seconds: float) -> None:
    states = [outcome.state for outcome in outcomes]
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for sentence in _failures(failed):
        tell(sentence)
    signed = [outcome.signed for outcome in outcomes if outcome.signed]
    grown = sum(item.after - item.before for item in signed)
    parts = [
        f"{states.count(state)} {word}"
        for state, word in (
            ("kept", "were signed before"),
            ("failed", "failed"),
            ("not begun", "not begun"),
        )
        if state in states
    ]
    where = f" into {planned.folder}" if planned.folder else ""
    beside = sum(item.manifest != item.destination for item in signed)
    where += f", {beside} of them with the manifest beside it (.c2pa)" if beside else ""
    size = f", {grown / len(signed) / 1000:.1f} kB more a file" if signed else ""
    say(f"signed {len(signed)} of {len(outcomes)} files{where}{size}, {seconds:.1f} s")
    if parts:
        say(", ".join(parts))
    if planned.hidden:
        tell(f"{planned.hidden} files whose names begin with a dot were left out")
    if "not begun" in states:
        tell("what is signed is whole: put right what stopped it and run the same command again")


def _failures(failed: "list[Outcome]") -> list[str]:
    """The same reason once, with the first files that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for outcome in failed:
        name = str(outcome.task.source)
        by_reason.setdefault(outcome.why.replace(name, "it"), []).append(name)
    sentences = []
    for outcome in failed:
        name = str(outcome.task.source)
        names = by_reason.pop(reason := outcome.why.replace(name, "it"), [])
        if len(names) == 1:
            sentences.append(outcome.why if name in outcome.why else f"{name}: {outcome.why}")
        elif names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            sentences.append(f"{len(names)} files: {reason}: {', '.join(names[:_NAMED])}{more}")
    rest = len(sentences) - _SHOWN
    return sentences[:_SHOWN] + ([f"and {rest} more reasons"] if rest > 0 else [])


def _statements(
    said: "Claims", template: Path | None, index: Path | None, planned: "Plan", paths: list[Path]
) -> "Claims | Template":
    from assaymark.provenance.claims import NOTHING
    from assaymark.provenance.template import Template, load_template, unmatched, with_index
    from assaymark.provenance.template_index import load_index

    if template is None and index is None:
        from assaymark.provenance.claims import strange_texts

        for sentence in strange_texts(said):
            tell(f"warning: {sentence}")
        return said
    if said != NOTHING:
        raise InputError(
            "options that say something about the work and a template or index exclude each other: "
            "write all of it into the template"
        )
    found = (
        load_template(template)
        if template
        else Template(name=str(index), folder=Path(), common={}, files=())
    )
    if index is not None:
        found = with_index(found, load_index(index))
    root = _root(paths)
    for sentence in unmatched(found, [task.source for task in planned.tasks], root=root):
        tell(f"warning: {sentence}")
    return found


def _root(paths: list[Path]) -> Path:
    """What the names in a template are relative to: the folder that is signed, or holds all that is."""
    if len(paths) == 1:
        return paths[0] if paths[0].is_dir() else paths[0].parent
    return Path(os.path.commonpath([str(path.absolute().parent) for path in paths]))


def _settings(
    credentials: "Credentials", claims: "Claims | Template", manner: "Manner", tsa: str | None
) -> str:
    """A digest of all that a signature depends on besides its file; no secret is in it."""
    identity = manner.identity.chain_pem if manner.identity else ""
    mark = manner.binding.key if manner.binding else None
    manner = replace(manner, identity=None, tsa_url=None)
    text = repr((credentials.chain_pem, identity, claims, manner, tsa, _states(claims)))
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace"))
    if mark is not None:
        digest.update(hashlib.sha256(mark).digest())
    return digest.hexdigest()[:16]


def _states(claims: "Claims | Template") -> list[tuple[str, tuple[int, int]]]:
    """The files that every signature takes up, by size and time."""
    from assaymark.provenance.claims import Claims
    from assaymark.provenance.journal import stamp
    from assaymark.provenance.template import works_named

    named = (
        [claims.parent, *(item.path for item in claims.ingredients)]
        if isinstance(claims, Claims)
        else works_named(claims)
    )
    return [(str(path), stamp(path)) for path in named if path is not None]


def _journal(planned: "Plan") -> Path | None:
    if planned.folder is None:
        return None
    name = hashlib.sha256(os.fsencode(planned.folder.absolute())).hexdigest()[:16]
    return state_folder() / "assaymark" / "sign" / f"{name}.jsonl"


def _is_ours(credentials: "Credentials", path: Path) -> bool:
    """Whether a file that an interrupted run left is signed with this certificate, and whole."""
    from cryptography import x509

    from assaymark.provenance.verify import State, examine

    leaf = x509.load_pem_x509_certificates(credentials.chain_pem.encode())[0]
    found = examine(path)
    return found.state is State.UNTRUSTED and found.serial == str(leaf.serial_number)


@contextmanager
def _stamping(tsa: str | None, passphrase_file: Path | None) -> Iterator[str | None]:
    """The address of a time-stamping authority; one of a key folder serves while files are signed."""
    if tsa is None:
        yield None
        return
    if tsa.startswith(("http://", "https://")):
        from assaymark.provenance.stamping import check_authority_answers

        check_authority_answers(tsa)
        yield tsa
        return
    from assaymark.cli.keys import time_stamping
    from assaymark.provenance.tsa import serving

    authority, chain = time_stamping(Path(tsa), passphrase_file)
    with serving(authority, chain) as url:
        yield url


def _open_store(store: str | None) -> None:
    from assaymark.provenance.binding_store import BindingStore

    if store is None:
        raise InputError(
            "a watermark leads to its manifest through a store: name one with --store manifests.db"
        )
    with BindingStore(store, create=True):
        pass


def secret_of(path: Path | None) -> bytes | None:
    """The key of a watermark from its file."""
    if path is None:
        return None
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(secret) < 16:
        raise InputError(
            f"{path} holds {len(secret)} bytes: a watermark key has at least 16, such as "
            "openssl rand -hex 32"
        )
    return secret


def _prompt(path: Path | None, digest: str | None) -> str | None:
    if path is None:
        return digest
    if digest is not None:
        raise InputError("--prompt-file and --prompt-sha256 exclude each other: give one")
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _training(opt_out: bool, given: list[str]) -> dict[str, str]:
    from assaymark.provenance.claims import OPT_OUT, full_use

    pairs = _pairs(given)
    refused = OPT_OUT if opt_out else {}
    other = next((use for use in pairs if refused.get(full_use(use), pairs[use]) != pairs[use]), "")
    if other:
        raise InputError(
            f"--no-training and --training {other}={pairs[other]} exclude each other: name each use "
            "with --training"
        )
    named = {full_use(use) for use in pairs}
    return {use: word for use, word in refused.items() if use not in named} | pairs


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = {}
    for pair in given:
        use, equals, word = pair.partition("=")
        if not equals:
            raise InputError(f"--training {pair}: expected USE=PERMISSION, as ai_training=allowed")
        pairs[use] = word
    return pairs


def _one_of(chosen: dict[str, bool]) -> str | None:
    names = [name for name, flag in chosen.items() if flag]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} exclude each other: say one, or neither")
    return names[0] if names else None
