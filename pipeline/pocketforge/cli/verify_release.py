"""`pocketforge verify-release`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pocketforge.cli.options import echo, echo_error, json_option, print_json
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK


@click.command("verify-release")
@click.argument("release", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE",
    help="Public Ed25519 key, in PEM, whose owner must have signed the release.",
)  # fmt: skip
@json_option
@click.pass_context
def command(ctx: click.Context, release: Path, key: Path | None, as_json: bool) -> None:
    """Say if a release is what was built, and who signed it.

    Exits 0 if it is, 1 if not, with each file that is missing, changed, renamed or too much. RELEASE is the folder with
    SHA256SUMS. Needs no network and none of the toolchains.
    """
    from pocketforge.release.verify import verify_release

    found = verify_release(release, key)
    if as_json:
        print_json({"passed": found.passed, **dataclasses.asdict(found)})
    else:
        what = " ".join(filter(None, (found.recipe, found.version or "")))
        echo(f"release    {what or 'unknown'}: {found.files} files, SHA256SUMS {found.sums_sha256[:12] or 'missing'}")
        by = f", by key {found.key}" if found.signed == "valid" else ""
        unchecked = ": give --key to check it" if found.signed == "not checked" else ""
        echo(f"signature  {found.signed}{by}{unchecked}")
        echo(f"verdict    {'PASS' if found.passed else 'FAIL'}")
        for fault in found.faults:
            echo_error(f"{fault.path}: {fault.words}", fault.kind)
    ctx.exit(EXIT_OK if found.passed else EXIT_GATE_FAILED)
