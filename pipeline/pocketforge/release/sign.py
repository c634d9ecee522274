"""Signing a release: SHA256SUMS.sig beside SHA256SUMS. Nothing that is signed changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.errors import ReleaseError
from pocketforge.files import write_whole
from pocketforge.recipe.shipped_names import SIGNATURE, SUMS
from pocketforge.release.keys import Signer, check_signature, key_id
from pocketforge.release.reading import UnfitFile, read_regular
from pocketforge.release.sums import MOST_BYTES
from pocketforge.release.verify import hash_of, refuse, verify_release

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sign_release(folder: Path, signer: Signer, public: Ed25519PublicKey) -> str:
    """Sign a release that is whole, in place of an earlier signature; gives the key's id.

    public: what the signature must be good for, before it is written. Raises ReleaseError, StoreError and whatever
    the signer raises.
    """
    # A signature that is broken or of another release is what this one replaces.
    found = verify_release(folder)
    refuse(folder, [fault for fault in found.faults if fault.path != SIGNATURE])
    try:
        sums = read_regular(folder / SUMS, MOST_BYTES)
    except UnfitFile as error:
        raise ReleaseError(f"{folder / SUMS}: {error.words}") from None
    if hash_of(sums) != found.sums_sha256:
        raise ReleaseError(f"{folder / SUMS} changed while the release was looked at")
    signature = signer(sums)
    if not check_signature(public, signature, sums):
        raise ReleaseError(
            f"what was given is no signature of {SUMS} by key {key_id(public)}",
            "is it the public key of the one that signs, and does the command sign the bytes themselves (Ed25519)?",
        )
    write_whole(folder / SIGNATURE, signature, "RELEASE")
    return key_id(public)
