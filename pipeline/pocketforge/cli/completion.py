"""`pocketforge completion`."""

from __future__ import annotations

import click

from pocketforge.cli.options import echo_lines


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the shell code that completes commands and options. SHELL is bash, zsh or fish.

    \b
    bash  eval "$(pocketforge completion bash)" in ~/.bashrc
    zsh   eval "$(pocketforge completion zsh)" in ~/.zshrc
    fish  pocketforge completion fish | source  in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from pocketforge.cli.main import COMPLETE_VARIABLE, cli

    kind = get_completion_class(shell)
    assert kind is not None
    echo_lines(kind(cli, {}, "pocketforge", COMPLETE_VARIABLE).source())
