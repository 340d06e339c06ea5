"""TLS for the gRPC service: the server's certificate, and the authority whose certificates clients must have."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import grpc


class TlsError(ValueError):
    """Certificates or keys that cannot be used; the message names the file."""


def credentials(certificate: Path, key: Path, authority: Path | None) -> grpc.ServerCredentials:
    """What a server shows, and with ``authority`` demands. The files are PEM. Raises :class:`TlsError`."""
    texts = [_read(certificate, "certificate"), _read(key, "key")]
    _check_pair(certificate, key)
    root = None
    if authority is not None:
        root = _read(authority, "authority")
        try:
            ssl.create_default_context(cafile=str(authority))
        except ssl.SSLError as error:
            raise TlsError(f"{authority} holds no certificate in PEM: {_reason(error)}") from None
    return grpc.ssl_server_credentials(
        [(texts[1], texts[0])], root_certificates=root, require_client_auth=authority is not None
    )


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsError(f"TLS {what} {file} cannot be read: {error.strerror}") from None


def _check_pair(certificate: Path, key: Path) -> None:
    """gRPC would accept anything and then refuse every connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"the key {key} does not belong to the certificate {certificate}") from None
        raise TlsError(f"{certificate} and {key} are no certificate and key in PEM: {_reason(error)}") from None
    except TlsError:
        raise TlsError(f"the key {key} is encrypted: a key without a password is needed") from None


def _no_password() -> str:
    raise TlsError("encrypted")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "unreadable").lower().replace("_", " ")


def is_local(address: str) -> bool:
    """Whether only this machine can reach a gRPC address: loopback or a Unix socket."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
