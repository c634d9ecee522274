"""`pocketforge completion`."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the code that makes SHELL complete commands and options.

    bash: eval "$(pocketforge completion bash)" in ~/.bashrc; zsh alike in ~/.zshrc; fish: pocketforge completion fish
    > ~/.config/fish/completions/pocketforge.fish
    """
    from click.shell_completion import get_completion_class

    from pipeline.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "pocketforge", "_POCKETFORGE_COMPLETE").source())
