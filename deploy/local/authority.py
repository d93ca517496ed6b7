"""An authority that issues certificates, for local stacks, tests, and the broker of an installation by compose.

Its private key is stored next to its certificate, unencrypted, and anyone who can read the key can impersonate anyone. An
installation therefore discards the key once its certificates are issued.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

VALID: Final = dt.timedelta(days=30)
SKEW: Final = dt.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as files, readable by their owner alone: each by itself, and both in one (`both`), as brokers take it."""

    certificate: Path
    key: Path
    both: Path


def _write(path: Path, *parts: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(0o600)
    fresh.write_bytes(b"".join(parts))
    fresh.rename(path)
    return path


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


class Authority:
    """The authority whose files are in `folder`: made when there is none, else the same again.

    Attributes:
        certificate: What those who trust it are given.
    """

    def __init__(self, folder: Path, name: str = "goodfaith local authority", valid: dt.timedelta = VALID) -> None:
        """
        Args:
            valid: how long what it issues is good for.
        """
        self.folder = folder
        self.valid = valid
        self.certificate = folder / "authority.pem"
        kept = folder / "authority.key"
        if not (self.certificate.exists() and kept.exists()):
            self._make(kept, name)
        key = serialization.load_pem_private_key(kept.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def _make(self, kept: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + 2 * self.valid)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(kept, _pem(key))
        _write(self.certificate, certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        hosts: Sequence[str] = (),
        *,
        ends: dt.datetime | None = None,
        folder: Path | None = None,
    ) -> Issued:
        """A certificate for both sides of a link; one of this name in the same folder is replaced.

        Args:
            name: its common name, which brokers take for the login, and the files' name.
            hosts: names and addresses of a server; none for who is only a client.
            ends: when it ends (``valid`` from now); one that has ended already begins a day before.
            folder: where its files go; the authority's own when not given.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        ends = ends or now + self.valid
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now - SKEW, ends - dt.timedelta(days=1)))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        place = (folder or self.folder) / name
        return Issued(
            _write(place.with_name(f"{name}.pem"), pem),
            _write(place.with_name(f"{name}.key"), _pem(key)),
            _write(place.with_name(f"{name}.both.pem"), _pem(key), pem),
        )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
