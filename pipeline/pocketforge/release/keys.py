"""Ed25519: keys as OpenSSL writes them (PEM), and a signature over SHA256SUMS: its 64 bytes, nothing else.

`openssl pkeyutl -verify -rawin -pubin -inkey KEY.pub -in SHA256SUMS -sigfile SHA256SUMS.sig` checks the same.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketforge.errors import ReleaseError, ToolFailed, ToolMissing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_BYTES = 64
_MOST_KEY_BYTES = 2**16
_COMMAND_SECONDS = 300  # a KMS asks a person at times
_MAKE = "openssl genpkey -algorithm ed25519 -out release.key; openssl pkey -in release.key -pubout -out release.pub"

# Gives the signature of bytes.
Signer = Callable[[bytes], bytes]


def load_public(path: Path) -> Ed25519PublicKey:
    """Raises ReleaseError, ToolMissing."""
    content = _read_key(path)
    from_library = _library()
    if b"PRIVATE KEY" in content:
        raise ReleaseError(f"{path} is a private key", "checking wants the public one: openssl pkey -in KEY -pubout")
    try:
        key = from_library.load_pem_public_key(content)
    except Exception as error:  # the library has no base of its own errors
        raise ReleaseError(f"{path} is no public key in PEM: {_line(error)}", _MAKE) from None
    return _ed25519(key, "Ed25519PublicKey", str(path))


def check_signature(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    """Whether the key's owner signed the content."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    """By which people tell keys apart: the first 16 digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def signer_of_file(path: Path) -> tuple[Signer, Ed25519PublicKey]:
    """Raises ReleaseError, ToolMissing."""
    return _signer(_read_key(path), str(path))


def signer_of_variable(name: str) -> tuple[Signer, Ed25519PublicKey]:
    """The key is the environment variable's value, in PEM. Raises ReleaseError, ToolMissing."""
    content = os.environ.get(name, "")
    if not content:
        raise ReleaseError(f"the environment has no variable {name}, or it is empty", "it holds a private key in PEM")
    return _signer(content.encode(), f"variable {name}")


def signer_of_command(command: str) -> Signer:
    """A command that reads the bytes on stdin and gives the signature on stdout: 64 bytes, or those in Base64.

    Raises ReleaseError for what is no command; the signer raises ToolMissing, ToolFailed and ReleaseError.
    """
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise ReleaseError(f"--key-command cannot be read as words: {error}") from None
    if not argv:
        raise ReleaseError("--key-command is empty", "give a program with its arguments")
    return lambda content: _signed_by(argv, content)


def _signed_by(argv: list[str], content: bytes) -> bytes:
    try:
        done = subprocess.run(argv, input=content, capture_output=True, timeout=_COMMAND_SECONDS, check=False)
    except OSError as error:
        raise ToolMissing(f"cannot run {argv[0]}: {error.strerror}", "--key-command begins with a program") from None
    except subprocess.TimeoutExpired:
        raise ReleaseError(f"{argv[0]} gave no signature within {_COMMAND_SECONDS} s") from None
    if done.returncode:
        raise ToolFailed(argv, done.returncode, done.stderr.decode(errors="replace"))
    if len(done.stdout) == SIGNATURE_BYTES:
        return done.stdout
    try:
        decoded = base64.b64decode(b"".join(done.stdout.split()), validate=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != SIGNATURE_BYTES:
        raise ReleaseError(
            f"{argv[0]} gave {len(done.stdout)} bytes, wanted an Ed25519 signature: 64 bytes, or these in Base64"
        )
    return decoded


def _signer(content: bytes, where: str) -> tuple[Signer, Ed25519PublicKey]:
    try:
        key = _library().load_pem_private_key(content, password=None)
    except TypeError:
        raise ReleaseError(
            f"{where}: the key is encrypted, and no passphrase is asked for",
            "openssl pkey -in KEY decrypts it; --key-command signs by whatever program holds it",
        ) from None
    except Exception as error:  # the library has no base of its own errors
        raise ReleaseError(f"{where} is no private key in PEM: {_line(error)}", _MAKE) from None
    private = _ed25519(key, "Ed25519PrivateKey", where)
    return private.sign, private.public_key()


def _ed25519(key: Any, kind: str, where: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if not isinstance(key, getattr(ed25519, kind)):
        found = type(key).__name__.lstrip("_")
        raise ReleaseError(f"{where}: wanted an Ed25519 key, found {found}", _MAKE)
    return key


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_KEY_BYTES + 1)
    except OSError as error:
        raise ReleaseError(f"cannot read the key {path}: {error.strerror}", _MAKE) from None
    if len(content) > _MOST_KEY_BYTES:
        raise ReleaseError(f"{path} is no key: it has more than {_MOST_KEY_BYTES:,} bytes", _MAKE)
    return content


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise ToolMissing(
            "signatures need the package cryptography, which is not installed", "pip install cryptography"
        ) from None
    return serialization


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
