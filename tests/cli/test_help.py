"""Every command explains itself, says what was mistyped, and loads nothing that it does not need."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from release_build import SOURCES

from pocketforge.cli.main import COMMANDS, cli

TOOLCHAINS = {"torch", "numpy", "executorch", "torchao", "litert_torch", "ai_edge_litert", "onnx", "onnxruntime"}
TOOLCHAINS |= {"onnxscript", "sklearn", "PIL", "transformers", "rich", "cattrs"}


def command(name: str) -> click.Command:
    return importlib.import_module(COMMANDS[name][0]).command


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Commands and their subcommands, by the words that call them."""
    for name in COMMANDS:
        found = command(name)
        yield name, found
        if isinstance(found, click.Group):
            for inner, subcommand in found.commands.items():
                yield f"{name} {inner}", subcommand


EVERY = dict(every_command())


@pytest.mark.parametrize("words", EVERY)
def test_help_is_shown_and_exits_0(cli, words):
    done = cli(*words.split(), "--help")
    assert done.code == 0 and done.stderr == ""
    assert done.stdout.startswith(f"Usage: pocketforge {words} [OPTIONS]")
    assert cli(*words.split(), "-h").stdout == done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_itself_says(name):
    assert COMMANDS[name][1] == command(name).get_short_help_str(limit=1000)


def test_the_root_help_lists_every_command_with_its_line(cli):
    done = cli("--help")
    assert done.code == 0
    text = " ".join(done.stdout.split())
    for name, (_, line) in COMMANDS.items():
        assert f"{name} {line}" in text


@pytest.mark.parametrize("name", [n for n, c in EVERY.items() if isinstance(c, click.Group)])
def test_a_groups_help_cuts_no_line_short(cli, name):
    """click ends a subcommand's line in "..." where it does not fit 80 columns."""
    assert "..." not in cli(name, "--help").stdout.partition("Commands:")[2]


@pytest.mark.parametrize("words", EVERY)
def test_every_option_has_a_help_text(words):
    options = [p for p in EVERY[words].params if isinstance(p, click.Option)]
    assert [o.name for o in options if not o.help] == []


@pytest.mark.parametrize("words", EVERY)
def test_help_fits_80_columns(cli, words):
    assert [line for line in cli(*words.split(), "--help").stdout.splitlines() if len(line) > 80] == []


def test_one_thing_has_one_name_everywhere():
    """The same option takes the same value in every command that has it."""
    seen: dict[str, set[str]] = {}
    for found in EVERY.values():
        for option in (p for p in found.params if isinstance(p, click.Option)):
            for name in option.opts:
                seen.setdefault(name, set()).add(f"{option.name} {option.type.name} {option.is_flag}")
    several = {name: kinds for name, kinds in seen.items() if len(kinds) > 1}
    # --recipe (-o) is the file that init writes, and the one whose budgets the gate takes; -o is also build's --out.
    # A calibration comes from a table and is one file; the emulator's parts come from a folder, results go to one.
    assert set(several) <= {"--recipe", "-o", "--from", "--out"}
    assert {"--json", "--cache-dir", "--progress"} <= set(seen)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["buidl"], "no command 'buidl'; did you mean 'build'?"),
        (["instpect", "x"], "did you mean 'inspect'?"),
        (["zzz"], "known: baseline, bench, build, cache"),
        (["build", "--job", "2", "x.toml"], "--jobs"),
        (["build", "--nonsense", "x.toml"], "No such option"),
        (["build"], "Missing argument 'RECIPE'"),
        (["build", "x.toml", "--jobs", "0"], "1<=x<=64"),
        (["build", "x.toml", "--jobs", "two"], "'two' is not a valid integer"),
        (["build", "x.toml", "--progress", "loud"], "'auto', 'bars', 'plain', 'json', 'none'"),
        (["cache", "lst"], "No such command 'lst'"),
        (["cache", "clear", "--older-than", "soon"], "wanted a number and a unit, as in 30d"),
        (["cache", "clear", "--keep-bytes", "5parsec"], "wanted a number and a unit, as in 5GB"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_was_wrong(cli, wrong, said):
    done = cli(*wrong)
    assert done.code == 2
    assert said in " ".join(done.stderr.split())
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_without_a_command_the_help_is_shown_and_nothing_is_done(cli):
    done = cli()
    assert done.code == 2
    assert "Usage: pocketforge" in done.stdout + done.stderr


def test_version_says_the_toolchains_versions_and_imports_none_of_them(program, tmp_path):
    from importlib import metadata

    done = program("--version", cache=tmp_path, cwd=tmp_path, python=("-X", "importtime"))
    assert done.code == 0
    first, *rest = done.stdout.splitlines()
    assert first.startswith("pocketforge ")
    found = dict(line.split(maxsplit=1) for line in rest)
    for name in ("torch", "executorch", "litert-torch", "ai-edge-litert", "onnx", "onnxruntime", "numpy"):
        assert found[name] == metadata.version(name)
    loaded = set(re.findall(r"\|\s+([\w.]+)$", done.stderr, flags=re.MULTILINE))
    assert "pocketforge.cli.main" in loaded
    assert {name.partition(".")[0] for name in loaded} & TOOLCHAINS == set()


def test_python_m_pipeline_is_pocketforge(program, tmp_path):
    done = program("--help", cache=tmp_path, cwd=tmp_path)
    assert done.code == 0 and done.stdout.startswith("Usage: pocketforge ")


def test_the_exit_code_reaches_the_shell(program, tmp_path):
    done = program("plan", "nowhere.toml", cache=tmp_path, cwd=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == "error: no recipe file at nowhere.toml\n  hint: pocketforge init MODEL.py writes one\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_code_for_the_shell(cli, shell):
    done = cli("completion", shell)
    assert done.code == 0
    assert f"_POCKETFORGE_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):  # bash everywhere; the others where they are installed
        checked = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def complete(tmp_path: Path, words: str, shell: str = "bash") -> list[str]:
    """What the shell would offer for the last word of a command line."""
    count = len(words.split(" ")) - 1
    env = {"_POCKETFORGE_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run(
        [sys.executable, "-m", "pocketforge"],
        env={**os.environ, "PYTHONPATH": SOURCES, **env},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_the_shell_completes_commands_and_options(tmp_path):
    assert complete(tmp_path, "pocketforge bu") == ["build"]
    assert complete(tmp_path, "pocketforge cache ve") == ["verify"]
    assert complete(tmp_path, "pocketforge build --pro") == ["--progress"]
    assert complete(tmp_path, "pocketforge build --progress j") == ["json"]
    assert set(complete(tmp_path, "pocketforge ")) == set(cli.list_commands(click.Context(cli)))
