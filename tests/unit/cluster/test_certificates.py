"""The parsers' certificates, in a TLS handshake as the DAG processor does it."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kommuna.cluster.certificates import Pair, is_signed_by, new_authority, new_certificate

HOST = "parser.kommuna-support.svc"


def old_authority() -> Pair:
    """An authority as Helm's `genCA` makes it: RSA, its key in PKCS 1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kommuna-parsers")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return Pair(certificate.public_bytes(pem), key.private_bytes(pem, form, serialization.NoEncryption()))


def handshake(folder: Path, authority: Pair, server: Pair, host: str, flags: int = 0) -> str:
    """The TLS version that a client of the authority agrees on with the server."""
    for name, data in {"ca.crt": authority.certificate, "tls.crt": server.certificate, "tls.key": server.key}.items():
        (folder / name).write_bytes(data)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    asking = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    asking.verify_flags |= flags
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            accepting.wrap_socket(theirs, server_side=True).close()
        except ssl.SSLError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(ours, server_hostname=host) as channel:
            return channel.version() or ""
    finally:
        ours.close()
        thread.join()


def test_a_client_of_the_authority_trusts_the_server(tmp_path: Path) -> None:
    authority = new_authority("kommuna-parsers")
    server = new_certificate(HOST, authority)
    assert handshake(tmp_path, authority, server, HOST, ssl.VERIFY_X509_STRICT) == "TLSv1.3"


def test_another_host_and_another_authority_are_refused(tmp_path: Path) -> None:
    authority, other = new_authority("kommuna-parsers"), new_authority("kommuna-parsers")
    server = new_certificate(HOST, authority)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(tmp_path, authority, server, "parser.kommuna-fraud.svc")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, other, server, HOST)


def test_an_authority_of_an_earlier_release_is_kept(tmp_path: Path) -> None:
    authority = old_authority()
    assert handshake(tmp_path, authority, new_certificate(HOST, authority), HOST) == "TLSv1.3"


def test_a_certificate_is_recognised_by_its_authority() -> None:
    authority, other = new_authority("kommuna-parsers"), new_authority("kommuna-parsers")
    certificate = new_certificate(HOST, authority).certificate
    assert is_signed_by(certificate, authority.certificate)
    assert not is_signed_by(certificate, other.certificate)
    assert not is_signed_by(b"not a certificate", authority.certificate)
