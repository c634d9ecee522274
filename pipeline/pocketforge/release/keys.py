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
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pocketforge.errors import ReleaseError, ToolFailed, ToolMissing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_BYTES = 64
_MOST_KEY_BYTES = 2**16
_COMMAND_SECONDS = 300  # a KMS asks a person at times
# Of a command's output: a signature in Base64, with lines around it; and what it says when it fails.
_MOST_GIVEN, _LAST_LINES = 4096, 50
_WANTED = "an Ed25519 signature: 64 bytes, or these in Base64"
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
    content = os.fsencode(os.environ.get(name, ""))
    if not content:
        raise ReleaseError(f"the environment has no variable {name}, or it is empty", "it holds a private key in PEM")
    return _signer(content, f"variable {name}")


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
    given = _run(argv, content)
    if len(given) == SIGNATURE_BYTES:
        return given
    try:
        decoded = base64.b64decode(b"".join(given.split()), validate=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != SIGNATURE_BYTES:
        raise ReleaseError(f"{argv[0]} gave {len(given)} bytes, wanted {_WANTED}")
    return decoded


def _run(argv: list[str], content: bytes) -> bytes:
    """What a command gives on stdout. It is ended when it gives more than any signature has, or takes too long."""
    with tempfile.TemporaryFile() as stdin:
        stdin.write(content)
        stdin.seek(0)
        try:
            process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            hint = "--key-command begins with a program"
            raise ToolMissing(f"cannot run {argv[0]}: {error.strerror}", hint) from None
    assert process.stdout and process.stderr
    given: list[bytes] = []
    words: deque[bytes] = deque(maxlen=_LAST_LINES)
    # Each in a thread, or a command that fills one would wait for ever while the other is read.
    read = _in_thread(process.stdout, lambda out: given.append(out.read(_MOST_GIVEN + 1)))
    told = _in_thread(process.stderr, lambda err: words.extend(iter(lambda: err.readline(_MOST_GIVEN), b"")))
    deadline = time.monotonic() + _COMMAND_SECONDS
    try:
        read.join(_COMMAND_SECONDS)
        if given and len(given[0]) > _MOST_GIVEN:
            raise ReleaseError(f"{argv[0]} gave more than {_MOST_GIVEN:,} bytes, wanted {_WANTED}")
        code = process.wait(max(0.0, deadline - time.monotonic()))
        told.join(max(0.0, deadline - time.monotonic()))
        if not given:  # a program that it started holds its output open
            raise subprocess.TimeoutExpired(argv, _COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise ReleaseError(f"{argv[0]} gave no signature within {_COMMAND_SECONDS} s") from None
    finally:
        process.kill()
        process.wait()
    if code:
        raise ToolFailed(argv, code, b"".join(words).decode(errors="replace"))
    return given[0]


def _in_thread(stream: IO[bytes], reader: Callable[[IO[bytes]], None]) -> threading.Thread:
    """Read a stream, and close it."""

    def run() -> None:
        with stream:
            reader(stream)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


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
