"""The entry point: one place for errors, exit codes and --debug."""

import os
import sys
from typing import Annotated

import typer

from assaymark.cli import attack, audit, bias, demo, doctor, provenance, report
from assaymark.cli.exit import EPILOG, ExitCode
from assaymark.cli.terminal import tell
from assaymark.reports.errors import AssaymarkError, IntegrityError

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
app.add_typer(bias.app, name="bias")
app.add_typer(provenance.keys_app, name="keys")
app.command("sign")(provenance.sign)
app.command("verify", epilog=EPILOG)(provenance.verify)
app.add_typer(report.app, name="report")


def main() -> None:
    """Run the command line; every deliberate error is one sentence on stderr."""
    try:
        app()
    except AssaymarkError as error:
        if os.environ.get("ASSAYMARK_DEBUG"):
            raise
        tell(f"assaymark: {error}")
        sys.exit(ExitCode.INTEGRITY if isinstance(error, IntegrityError) else ExitCode.USAGE)
    except KeyboardInterrupt:
        tell("assaymark: interrupted")
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:  # the reader has seen enough: not our failure, but not a success either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.INCOMPLETE)


if __name__ == "__main__":
    main()
