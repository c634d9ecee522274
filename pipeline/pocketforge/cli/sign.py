"""`pocketforge sign`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import echo, json_option, print_json
from pocketforge.errors import RecipeError

if TYPE_CHECKING:
    from pocketforge.release.keys import Signer


@click.command("sign")
@click.argument("release", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Private key, in PEM.")
@click.option("--key-env", metavar="NAME", help="Environment variable that holds the private key, in PEM.")
@click.option(
    "--key-command", metavar="CMD",
    help="Program that gets SHA256SUMS on stdin and gives its signature on stdout, raw or in Base64: for keys that "
    "no file holds (KMS, HSM). Needs --public-key.",
)  # fmt: skip
@click.option(
    "--public-key", type=click.Path(path_type=Path), metavar="FILE",
    help="Public key that the signature must be good for.  [default: the private key's own]",
)  # fmt: skip
@json_option
def command(
    release: Path,
    key: Path | None,
    key_env: str | None,
    key_command: str | None,
    public_key: Path | None,
    as_json: bool,
) -> None:
    """Sign a release with an Ed25519 key.

    The signature is SHA256SUMS.sig, of SHA256SUMS, which names every other file. RELEASE is the folder
    build/NAME/release; it must be whole. The key is
    as `openssl genpkey -algorithm ed25519` makes it. `pocketforge verify-release` checks the signature.
    """
    from pocketforge.recipe.shipped_names import SIGNATURE
    from pocketforge.release import keys
    from pocketforge.release.sign import sign_release

    if sum(each is not None for each in (key, key_env, key_command)) != 1:
        raise RecipeError("give one of --key, --key-env and --key-command")
    signer: Signer
    if key_command is not None:
        if public_key is None:
            raise RecipeError(
                "--key-command needs --public-key: no signature is written that nobody has checked",
                "export the public key from where the private one is",
            )
        signer, public = keys.signer_of_command(key_command), keys.load_public(public_key)
    else:
        signer, public = keys.signer_of_file(key) if key else keys.signer_of_variable(key_env or "")
        public = keys.load_public(public_key) if public_key else public
    by = sign_release(release, signer, public)
    if as_json:
        print_json({"signature": str(release / SIGNATURE), "key": by})
    else:
        echo(f"signed  {release / SIGNATURE}, by key {by}")
