"""`cluster init`: an authority of the cluster's own, and a certificate by which its machines know each other."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketforge.errors import RecipeError, ToolMissing
from pocketforge.files import explain_os_error
from pocketforge.run.cluster.addresses import CA, CA_KEY, CERTIFICATE, KEY
from pocketforge.version import install

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_CLOCKS_DIFFER = datetime.timedelta(hours=1)


def make(folder: Path, days: int) -> list[Path]:
    """Write ca.pem, ca-key.pem, node.pem and node-key.pem into `folder`; the keys for its owner alone.

    An authority that is there stays, and signs a new node.pem. Raises RecipeError, StoreError.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise ToolMissing(f"certificates need cryptography: {error}", install("cluster")) from error
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / CA_KEY).exists() != (folder / CA).exists():
            raise RecipeError(f"{folder} holds one of {CA} and {CA_KEY} without the other", "choose another folder")
        if (folder / CA).exists():
            authority, authority_key = _read(folder)
            made: dict[str, bytes] = {}
        else:
            authority_key = ec.generate_private_key(ec.SECP256R1())
            authority = _certificate("Pocketforge cluster authority", authority_key, None, authority_key, days)
            made = {CA: _pem(authority), CA_KEY: _key_pem(authority_key)}
        key = ec.generate_private_key(ec.SECP256R1())
        node = _certificate("Pocketforge cluster node", key, authority, authority_key, days)
        made |= {CERTIFICATE: _pem(node), KEY: _key_pem(key)}
        for name, content in made.items():
            _write(folder / name, content, 0o600 if name in (CA_KEY, KEY) else 0o644)
    except OSError as error:
        raise explain_os_error(error, folder, "FOLDER") from error
    return [folder / name for name in made]


def _read(folder: Path) -> tuple[Any, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        authority = x509.load_pem_x509_certificate((folder / CA).read_bytes())
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise RecipeError(
            f"{folder} holds an authority that cannot be read: {error}", "choose another folder"
        ) from None
    if key.public_key() != authority.public_key():
        raise RecipeError(f"{folder / CA_KEY} is not the key of {folder / CA}", "choose another folder")
    return authority, key


def _certificate(name: str, key: EllipticCurvePrivateKey, issuer: Any, issuer_key: Any, days: int) -> Any:
    """issuer: None for one that signs itself, and others."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(
            x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
    else:
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(both, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    content: bytes = certificate.public_bytes(Encoding.PEM)
    return content


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    content: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return content


def _write(path: Path, content: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
