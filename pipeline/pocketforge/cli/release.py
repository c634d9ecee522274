"""`pocketforge release`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pocketforge.cli.options import echo, json_option, print_json
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK, RecipeError

_FOLDER = click.Path(path_type=Path)
_allow_older = click.option(
    "--allow-older", is_flag=True, help="Also where the new release's version is not higher than the old one's."
)


@click.group("release")
def command() -> None:
    """Show what changed between two releases, and patch one to the other.

    A release is the folder with SHA256SUMS: build/NAME/release.
    """


@command.command("diff")
@click.argument("before", type=_FOLDER)
@click.argument("after", type=_FOLDER)
@json_option
@click.pass_context
def diff(ctx: click.Context, before: Path, after: Path, as_json: bool) -> None:
    """Show what changed for an app from one release to another.

    Exits 1 if a change breaks an app that was made for BEFORE: other inputs, outputs, labels, preprocessing or file
    names, a file that is gone, a version that is not higher.
    """
    from pocketforge.release.diff import compare_releases

    compared = compare_releases(before, after)
    if as_json:
        print_json({"breaking": compared.breaking, **dataclasses.asdict(compared)})
    else:
        echo(f"from  {before}  {compared.before or 'without a version'}")
        echo(f"to    {after}  {compared.after or 'without a version'}")
        if compared.same:
            echo("the same release")
        elif not compared.changes:
            echo("nothing that an app reads changed")
        for change in compared.changes:
            kind = "breaking" if change.breaking else "changed"
            echo(f"{kind:8}  {change.of or 'release'}  {change.what}: {change.words}")
    ctx.exit(EXIT_GATE_FAILED if compared.breaking else EXIT_OK)


@command.command("patch")
@click.argument("old", type=_FOLDER)
@click.argument("new", type=_FOLDER)
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write."
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over an existing file.")
@_allow_older
@json_option
def patch(old: Path, new: Path, output: Path, force: bool, allow_older: bool, as_json: bool) -> None:
    """Write what an app that has OLD needs to have NEW.

    Each changed file is a Zstandard frame, against the old file where that is smaller.
    """
    from pocketforge.release.patch import write_patch

    if output.exists() and not force:
        raise RecipeError(f"{output} exists", "give another name with --output, or --force to write over it")
    head = write_patch(old, new, output, allow_older=allow_older)
    size, whole = output.stat().st_size, sum(file.size_bytes for file in head.files)
    if as_json:
        print_json({"file": str(output), "patch_bytes": size, "new_bytes": whole, **dataclasses.asdict(head)})
        return
    echo(f"wrote   {output}")
    echo(f"size    {size:,} bytes for a release of {whole:,} ({size / whole:.1%})")
    for how, words in (("copy", "as it was"), ("patch", "against the old file"), ("new", "whole")):
        names = [file.path for file in head.files if file.how == how]
        if names:
            echo(f"{how:6}  {len(names)} {words}: {', '.join(names)}")


@command.command("apply")
@click.argument("old", type=_FOLDER)
@click.argument("patch_file", metavar="PATCH", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to make."
)  # fmt: skip
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE",
    help="Public Ed25519 key, in PEM, whose owner must have signed the new release.",
)  # fmt: skip
@_allow_older
@json_option
def apply(old: Path, patch_file: Path, out: Path, key: Path | None, allow_older: bool, as_json: bool) -> None:
    """Make a new release of an old one and a patch.

    Nothing is left in --out unless every file has the SHA-256 that the new release names.
    """
    from pocketforge.release.apply import apply_patch

    found = apply_patch(old, patch_file, out, public=key, allow_older=allow_older)
    if as_json:
        print_json({"folder": str(out), **dataclasses.asdict(found)})
        return
    what = " ".join(filter(None, (found.recipe, found.version or "")))
    echo(f"wrote      {out}")
    echo(f"release    {what}: {found.files} files, each with its SHA-256")
    echo(f"signature  {found.signed}")
