"""Entry point: the command group, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from pocketforge import folders, streams
from pocketforge.cli.options import echo, echo_error
from pocketforge.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_STAGE, EXIT_USAGE, Interrupted, PocketforgeError

COMPLETE_VARIABLE = "_POCKETFORGE_COMPLETE"

# Name → (module, one line of help): `--help` lists them without importing them.
COMMANDS = {
    "build": ("pocketforge.cli.build", "Build, verify, benchmark and gate every target of a recipe."),
    "plan": ("pocketforge.cli.plan", "Show the steps of a build, their keys, and which are stored."),
    "check": ("pocketforge.cli.check", "Check a recipe, its model and its data without exporting anything."),
    "bench": (
        "pocketforge.cli.bench",
        "Benchmark a recipe's built targets or a model file, here, on emulated devices or on phones.",
    ),
    "gate": ("pocketforge.cli.gate", "Say if a report keeps its budgets, or those of another recipe."),
    "gate-file": (
        "pocketforge.cli.gate_file",
        "Verify, benchmark and gate a model file made elsewhere: .pte, .tflite, .onnx or .ort.",
    ),
    "compare-files": (
        "pocketforge.cli.compare_files",
        "Compare two model files on the same samples: outputs, accuracy, size, time, operators.",
    ),
    "baseline": (
        "pocketforge.cli.baseline",
        "Keep reports for budgets that say how much worse a build may be.",
    ),
    "history": ("pocketforge.cli.history", "Keep builds with their commits, and show what became of a metric."),
    "report": ("pocketforge.cli.report", "Show a build's report, or what changed from one to another."),
    "sign": ("pocketforge.cli.sign", "Sign a release with an Ed25519 key."),
    "verify-release": ("pocketforge.cli.verify_release", "Say if a release is what was built, and who signed it."),
    "release": ("pocketforge.cli.release", "Show what changed between two releases, and patch one to the other."),
    "package": ("pocketforge.cli.package", "Write the code of an app that calls a release's model file."),
    "device": ("pocketforge.cli.device", "List and set up what model files run on."),
    "model": ("pocketforge.cli.model", "Show a model: layers, parameters, MACs, and how it was compressed."),
    "study": ("pocketforge.cli.study", "Compare ways of pruning and of quantizing a recipe's model."),
    "fit": ("pocketforge.cli.fit", "Search for the best recipe that keeps the budgets."),
    "codebook": ("pocketforge.cli.codebook", "Store clustered weights as codebooks, and get them back."),
    "sparse": ("pocketforge.cli.sparse", "Store pruned weights without their zeros, and get them back."),
    "why": ("pocketforge.cli.why", "Find the stage and the layer where a target's numbers break."),
    "cache": ("pocketforge.cli.cache", "Show, verify and clear stored results, and share them by a remote store."),
    "worker": ("pocketforge.cli.worker", "Run steps of other machines' builds here."),
    "scheduler": ("pocketforge.cli.scheduler", "Serve a cluster: what builds and workers connect to."),
    "cluster": ("pocketforge.cli.cluster", "Make a cluster's certificates, and show its workers."),
    "inspect": ("pocketforge.cli.inspect", "Show what is in an exported model file."),
    "size": (
        "pocketforge.cli.size",
        "Show what an app must carry: model files, their kernels, the runtimes' libraries.",
    ),
    "train": ("pocketforge.cli.train", "Train a recipe's model from scratch and write its weights."),
    "init": ("pocketforge.cli.init", "Write a commented recipe for a model, and check it."),
    "doctor": ("pocketforge.cli.doctor", "Say what is installed, what is missing, and how to get it."),
    "docs": ("pocketforge.cli.docs", "Print a page of the documentation, in Markdown; without PAGE, list the pages."),
    "completion": ("pocketforge.cli.completion", "Print the shell code that completes commands and options."),
}


class _SystemsError(Exception):
    """Carries an error past click, which takes any EOFError for the end of stdin, and any EPIPE for that of stdout."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class LazyGroup(click.Group):
    """Loads a command's module when it is called."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (EOFError, OSError) as error:
            raise _SystemsError(error) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = importlib.import_module(module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from pocketforge.recipe import suggest

            ctx.fail(f"no command {args[0]!r}{suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from pocketforge import plugins
    from pocketforge.facts.versions import installed_versions
    from pocketforge.version import version

    echo(f"pocketforge {version()}")
    for name, found in installed_versions().items():
        echo(f"  {name} {found if found != 'none' else 'not installed'}")
    for fault in [fault for _, fault in plugins.examine() if fault]:
        echo(f"  {fault}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, callback=_print_version, expose_value=False, is_eager=True,
    help="Show the versions of Pocketforge and of the toolchains, and exit.",
)  # fmt: skip
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A trained PyTorch model in; model files proven to load, run, be accurate, small and fast out.

    Start with `pocketforge init MODEL.py`, then `pocketforge build RECIPE.toml`.

    Exit codes: 0 built and every budget kept, 1 the gate or another check failed, 2 wrong usage, recipe, model
    or release, 3 a stage failed, 4 a device failed, 70 an internal error, 130 interrupted.
    """
    from pocketforge.run.scratch import own_tmpdir

    ctx.with_resource(own_tmpdir())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Every error becomes one message on stderr.

    Who reads stdout or stderr may leave at any time (`| head`, `| grep -q`): the code is the same.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell starts what runs in the background with SIGINT ignored: that stays.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    # Read when onnxruntime is first imported, in whichever of our processes that is: a build tells nobody anything.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Read when torch is first imported: its threads sleep while they wait for each other, and spin no processor away
    # that others want (benchmarks/training.py: an epoch beside other work took 3 to 8 times the CPU seconds).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with streams.guarded(), folders.own_choice():
            return _run(argv)
    except streams.OutputLostError as error:
        with contextlib.suppress(Exception), streams.guarded():
            echo_error(f"cannot write to stdout: {error}")
        return EXIT_STAGE


def _run(argv: Sequence[str] | None) -> int:
    try:
        # Colour codes in what is echoed are foreign, and made visible (streams.py): click would take them out.
        code: Any = cli.main(
            args=argv, prog_name="pocketforge", standalone_mode=False, color=True, obj=time.monotonic()
        )
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        echo("interrupted; what was finished is kept, and the next run goes on from there", err=True)
        return EXIT_INTERRUPTED
    except PocketforgeError as error:
        echo_error(str(error))
        return error.exit_code
    except _SystemsError as error:
        return _unforeseen(error.error, argv)
    except SystemExit as error:
        if COMPLETE_VARIABLE in os.environ:
            raise  # how click ends what a shell asks while one types
        return _unforeseen(error, argv)
    except streams.OutputLostError:
        raise
    except Exception as error:
        return _unforeseen(error, argv)
    return code if isinstance(code, int) else EXIT_OK


def _unforeseen(error: BaseException, argv: Sequence[str] | None) -> int:
    from pocketforge import crash

    line, code = crash.tell(error, sys.argv[1:] if argv is None else argv)
    echo_error(line)
    return code


def _interrupt(signum: int, frame: Any) -> None:
    # A CI that cancels a job sends SIGTERM: end as ^C does, with the stages stopped and the store whole. Stopping
    # takes no second word, and one that came in its middle would leave stages running.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted
