"""The entry point: one place for errors, exit codes and --debug."""

import os
import sys
from typing import Annotated

import typer

from assaymark.cli import (
    attack,
    audit,
    bias,
    certify,
    corrupt,
    defend,
    demo,
    detached,
    detect,
    doctor,
    interrupts,
    keys,
    log,
    protect,
    recover,
    report,
    sign,
    tournament,
    verify,
)
from assaymark.cli.exit import EPILOG, ExitCode, Interrupted
from assaymark.cli.terminal import tell
from assaymark.reports.errors import AssaymarkError, IntegrityError, PolicyError

app = typer.Typer(
    name="assaymark",
    help="Assay an AI model or a piece of generated media before it ships: robustness, bias and "
    "provenance, held against a policy, in one report.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"assaymark {version('assaymark')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors and stop at the first bug.")
    ] = False,
) -> None:
    if debug:
        os.environ["ASSAYMARK_DEBUG"] = "1"


app.command("demo")(demo.demo)
app.command("init")(audit.init)
app.command("doctor")(doctor.doctor)
app.command("audit", epilog=EPILOG)(audit.audit)
app.command("attack", epilog=EPILOG)(attack.attack)
app.command("corrupt", epilog=EPILOG)(corrupt.corrupt)
app.command("defend", epilog=EPILOG)(defend.defend)
app.command("protect", epilog=EPILOG)(protect.protect)
app.command("certify", epilog=EPILOG)(certify.certify)
app.command("tournament", epilog=EPILOG)(tournament.tournament)
app.add_typer(bias.app, name="bias")
app.add_typer(keys.app, name="keys")
app.command("sign", epilog=EPILOG)(sign.sign)
app.command("verify", epilog=EPILOG)(verify.verify)
app.command("inspect")(verify.inspect)
app.command("recover")(recover.recover)
app.add_typer(detect.app, name="detect")
app.add_typer(recover.watermarks, name="watermark")
app.add_typer(detached.models, name="model")
app.add_typer(detached.attestations, name="attest")
app.add_typer(log.app, name="log")
app.add_typer(report.app, name="report")


def main() -> None:
    """Run the command line; every error is told on stderr, with a traceback only for --debug."""
    debug = "--debug" in sys.argv[1:]
    try:
        interrupts.listen()
        code = _command()
        if code == ExitCode.INTERRUPTED:  # typer has swallowed Ctrl-C
            tell("assaymark: interrupted")
    except AssaymarkError as error:
        if debug:
            raise
        _tell_error(error)
        code = ExitCode.INTEGRITY if isinstance(error, IntegrityError) else ExitCode.USAGE
    except typer.TyperException as error:
        show = getattr(
            error, "show", None
        )  # a usage error knows its command and says how to use it
        show() if show else tell(f"assaymark: {error}")
        code = ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort, Interrupted) as error:
        tell(f"assaymark: {str(error) or 'interrupted'}")
        code = ExitCode.INTERRUPTED
    except OSError as error:
        if debug:
            raise
        tell(f"assaymark: {error.filename or 'input or output'}: {error.strerror or error}")
        code = ExitCode.USAGE
    except (Exception, SystemExit) as error:
        if debug:
            raise
        tell(
            f"assaymark: internal error, {type(error).__name__}: {error}; run again with "
            "assaymark --debug and report it"
        )
        code = ExitCode.INCOMPLETE
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _command() -> object:
    """Run the command; an error that came of Ctrl-C is Ctrl-C."""
    try:
        return app(standalone_mode=False)
    except Interrupted:
        raise
    except Exception as error:
        if interrupts.heard():
            raise KeyboardInterrupt from error
        raise


def _tell_error(error: AssaymarkError) -> None:
    if isinstance(error, PolicyError):  # its lines are ours, but what they quote is not
        for line in str(error).split("\n"):
            tell(line)
    else:
        tell(f"assaymark: {error}")


if __name__ == "__main__":
    main()
