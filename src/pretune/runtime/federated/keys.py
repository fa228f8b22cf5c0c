"""Who is who: a certificate authority, the server's certificate and a key for each device.

A folder made by `pretune enroll`:

    ca/ca.key ca.crt            the authority; stays where it was made
    server/                     server.key server.crt ca.crt, and devices/NAME.pub of all devices
    devices/NAME/               device.key device.pub ca.crt: to be carried to that device, and nowhere else

Devices prove themselves with an ECDSA P-384 key in OpenSSH format, which is the kind that Flower's SuperLink wants.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pretune.errors import InputError

DAYS = 825
"""How long certificates hold."""
LOOPBACK = ("localhost", "127.0.0.1")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PURPOSE = b"pretune hello 1\n"


def enroll(folder: Path, hosts: Sequence[str], devices: Sequence[str]) -> list[str]:
    """Make what is missing in the folder; returns what was made. What is there is left as it is.

    Raises:
        InputError: a name that can't be a file's, no host, or a folder that can't be written.
    """
    if not hosts:
        raise InputError("--host: is missing: the names or addresses by which devices reach the server")
    for name in devices:
        if not NAME.fullmatch(name):
            raise InputError.field("device", name, "letters, digits and . _ - (it names a folder)")
    made: list[str] = []
    ca, server = folder / "ca", folder / "server"
    try:
        for part in (ca, server, server / "devices", folder / "devices"):
            part.mkdir(parents=True, exist_ok=True)
        if not (ca / "ca.crt").is_file():
            _make_ca(ca)
            made.append("certificate authority")
        authority = (ca / "ca.crt").read_bytes()
        if not (server / "server.crt").is_file():
            # Flower's own helpers on the server reach it by loopback, whatever devices call it
            _make_server(ca, server, list(dict.fromkeys([*hosts, *LOOPBACK])))
            made.append("server certificate for " + ", ".join(hosts))
        _write(server / "ca.crt", authority)
        for name in devices:
            mine = folder / "devices" / name
            mine.mkdir(exist_ok=True)
            if not (mine / "device.key").is_file():
                _make_device(mine, name)
                made.append(f"key of {name}")
            _write(mine / "ca.crt", authority)
            _write(server / "devices" / f"{name}.pub", (mine / "device.pub").read_bytes())
    except OSError as error:
        raise InputError(f"{error.filename}: can't be written ({error.strerror})") from None
    return made


def _make_ca(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pretune certificate authority")])
    certificate = (
        _certificate(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=False, certificates=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    _write(folder / "ca.key", _private(key, serialization.PrivateFormat.PKCS8), secret=True)
    _write(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _make_server(ca: Path, folder: Path, hosts: Sequence[str]) -> None:
    authority = x509.load_pem_x509_certificate((ca / "ca.crt").read_bytes())
    ca_key = serialization.load_pem_private_key((ca / "ca.key").read_bytes(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{ca / 'ca.key'}: holds another kind of key, should hold an EC key")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pretune server")])
    certificate = (
        _certificate(name, authority.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True, certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    _write(folder / "server.key", _private(key, serialization.PrivateFormat.PKCS8), secret=True)
    _write(folder / "server.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _make_device(folder: Path, name: str) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write(folder / "device.pub", public + f" {name}\n".encode())
    _write(folder / "device.key", _private(key, serialization.PrivateFormat.OpenSSH), secret=True)


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _usage(*, sign: bool, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Whole or not at all; a secret is never readable by others, not even for a moment."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644), "wb") as file:
        file.write(data)
    os.replace(part, path)


def load_device_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A device's private key.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: can't be read as a device's key ({_first_line(error)})") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path}: holds another kind of key, should hold an ECDSA key in OpenSSH format")
    return key


def load_public_keys(folder: Path, names: Sequence[str]) -> dict[str, ec.EllipticCurvePublicKey]:
    """The public keys of the devices that are enrolled, by name; devices without one are left out.

    Raises:
        InputError: a file holds something else.
    """
    found: dict[str, ec.EllipticCurvePublicKey] = {}
    for name in names:
        path = folder / f"{name}.pub"
        if not path.is_file():
            continue
        try:
            key = serialization.load_ssh_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: can't be read as a public key ({_first_line(error)})") from None
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InputError(f"{path}: holds another kind of key, should hold an ECDSA key")
        found[name] = key
    return found


def sign(key: ec.EllipticCurvePrivateKey, values: Mapping[str, Any]) -> str:
    """The signature under a hello's values, in base64."""
    return base64.b64encode(key.sign(_signed(values), ec.ECDSA(hashes.SHA384()))).decode("ascii")


def verify(key: ec.EllipticCurvePublicKey, values: Mapping[str, Any], signature: str) -> bool:
    """Whether a signature is that of these values under this key."""
    try:
        key.verify(base64.b64decode(signature, validate=True), _signed(values), ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed(values: Mapping[str, Any]) -> bytes:
    return _PURPOSE + json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
