"""The cluster's certificates: one authority, one certificate for each role, valid for a fortnight."""

import base64
import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 14
CLOCK_SKEW = dt.timedelta(minutes=5)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Signs the cluster's certificates and writes them into one folder."""

    def __init__(self, folder: Path, now: dt.datetime) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._folder = folder
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject("callfleet", ())
        self._cert = self._signed(self._name, self._key.public_key(), x509.BasicConstraints(True, None), [])
        self.cert_path = folder / "ca.crt"
        self.cert_path.write_bytes(_pem(self._cert))

    def issue(self, file: str, common_name: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
        """Write `file.crt` and `file.key` for a client and server named `common_name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_general_name(host) for host in hosts]
        subject = _subject(common_name, groups)
        cert = self._signed(subject, key.public_key(), x509.BasicConstraints(False, None), names)
        pair = Pair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        pair.cert.write_bytes(_pem(cert))
        _write_key(pair.key, key)
        return pair

    def signing_key(self, file: str) -> Path:
        """Write a bare key pair `file.key`, for service account tokens."""
        path = self._folder / f"{file}.key"
        _write_key(path, ec.generate_private_key(ec.SECP256R1()))
        return path

    def kubeconfig(self, path: Path, pair: Pair, server: str, context: str) -> Path:
        """Write a self-contained kubeconfig that uses `pair` against `server`."""
        path.touch(0o600)
        path.write_text(kubeconfig_text(self.cert_path, pair, server, context))
        return path

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        constraints: x509.BasicConstraints,
        names: Sequence[x509.GeneralName],
    ) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=True,
            key_encipherment=True,
            key_cert_sign=constraints.ca,
            crl_sign=constraints.ca,
            content_commitment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self._name, public_key=key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - CLOCK_SKEW)
            .not_valid_after(self._now + dt.timedelta(days=VALID_DAYS))
            .add_extension(constraints, critical=True)
            .add_extension(usage, critical=True)
        )
        if not constraints.ca:
            both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def kubeconfig_text(authority: Path, pair: Pair, server: str, context: str) -> str:
    """A kubeconfig with one cluster, one user and one context, certificates inside."""
    cluster = {"server": server, "certificate-authority-data": _base64(authority)}
    user = {"client-certificate-data": _base64(pair.cert), "client-key-data": _base64(pair.key)}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": context, "user": user}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        },
        sort_keys=False,
    )


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _subject(common_name: str, groups: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
