"""A certificate for localhost."""

from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from ssl import SSLContext, create_default_context

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@cache
def certificate() -> str:
    """Return a certificate that signs itself, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(encoding).decode() + private.decode()


def trusting(pem: str | None = None) -> SSLContext:
    """Return what a client needs to trust it."""
    return create_default_context(cadata=(pem or certificate()).split("-----BEGIN PRIVATE")[0])


def write_to(folder: Path) -> Path:
    """Write both into ``both.pem``, whose path is returned, and each into a file of its own."""
    file = folder / "both.pem"
    file.write_text(certificate())
    cert, key = certificate().split("-----BEGIN PRIVATE")
    (folder / "cert.pem").write_text(cert)
    (folder / "key.pem").write_text(f"-----BEGIN PRIVATE{key}")
    return file
