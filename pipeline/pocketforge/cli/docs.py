"""`pocketforge docs`."""

from __future__ import annotations

import click

from pocketforge.cli.options import echo, echo_lines


@click.command("docs")
@click.argument("page", required=False)
def command(page: str | None) -> None:
    """Print a page of the documentation, in Markdown; without PAGE, list the pages.

    Messages name pages so: `pocketforge docs recipe` describes every key of a recipe.
    """
    from pocketforge.commands import docs

    if page is not None:
        echo_lines(docs.page(page).text.rstrip("\n"))
        return
    for each in docs.pages():
        echo(f"{each.name:<15} {each.title}")
