"""TLS: who gets in, and what is said about files that cannot be used."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme
from finsy.proto import p4r, p4r_grpc

from p4switch.cli import run
from p4switch.dataplane.binding import Switch
from p4switch.server import tls
from p4switch.server.device import Device
from tests.p4switch.server.conftest import DEVICE, Running, serving


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates: ``ca`` and ``other_ca``; ``server`` and ``client`` of the first, ``stranger`` of the other."""
    directory = tmp_path_factory.mktemp("tls")
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(directory / "ca.pem")
    other.cert_pem.write_to_path(directory / "other_ca.pem")
    for name, authority in (("server", ca), ("client", ca), ("stranger", other)):
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(directory / f"{name}.key")
        (directory / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (directory / "junk").write_text("no certificate")
    return directory


def serve_tls(files: Path, authority: str | None) -> Iterator[Running]:
    shown = tls.credentials(files / "server.pem", files / "server.key", files / authority if authority else None)
    with Switch() as switch, serving(Device(DEVICE, switch), credentials=shown) as running:
        yield running


@pytest.fixture
def with_client_certificates(files: Path) -> Iterator[Running]:
    yield from serve_tls(files, "ca.pem")


@pytest.fixture
def without(files: Path) -> Iterator[Running]:
    yield from serve_tls(files, None)


def ask(running: Running, files: Path, authority: str = "ca.pem", who: str | None = None) -> str:
    """The API version, asked with these certificates."""
    credentials = grpc.ssl_channel_credentials(
        (files / authority).read_bytes(),
        None if who is None else (files / f"{who}.key").read_bytes(),
        None if who is None else (files / f"{who}.pem").read_bytes(),
    )
    with grpc.secure_channel(running.address, credentials) as channel:
        stub = p4r_grpc.P4RuntimeStub(channel)
        return str(stub.Capabilities(p4r.CapabilitiesRequest(), timeout=400).p4runtime_api_version)


def refused(running: Running, files: Path, authority: str = "ca.pem", who: str | None = None) -> bool:
    with pytest.raises(grpc.RpcError) as caught:
        ask(running, files, authority, who)
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_client_certificates(with_client_certificates: Running, files: Path) -> None:
    assert ask(with_client_certificates, files, who="client").startswith("1.")
    assert refused(with_client_certificates, files)  # none
    assert refused(with_client_certificates, files, who="stranger")  # of another authority
    assert refused(with_client_certificates, files, authority="other_ca.pem", who="client")  # it is not our server
    with grpc.insecure_channel(with_client_certificates.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            p4r_grpc.P4RuntimeStub(channel).Capabilities(p4r.CapabilitiesRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ask(with_client_certificates, files, who="client").startswith("1.")


def test_without_client_certificates(without: Running, files: Path) -> None:
    assert ask(without, files).startswith("1.")
    assert ask(without, files, who="stranger").startswith("1.")
    assert refused(without, files, authority="other_ca.pem")


def encrypted_key(files: Path) -> Path:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((files / "server.key").read_bytes(), None)
    file = files / "encrypted.key"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return file


@pytest.mark.parametrize(
    ("certificate", "key", "authority", "text"),
    [
        ("absent", "server.key", None, "certificate {absent} cannot be read: No such file"),
        ("server.pem", "absent", None, "key {absent} cannot be read: No such file"),
        ("server.pem", "server.key", "absent", "authority {absent} cannot be read: No such file"),
        ("junk", "server.key", None, "{junk} and {server.key} are no certificate and key in PEM"),
        ("server.pem", "junk", None, "{server.pem} and {junk} are no certificate and key in PEM"),
        ("server.pem", "server.key", "junk", "{junk} holds no certificate in PEM"),
        ("server.pem", "client.key", None, "{client.key} does not belong to the certificate {server.pem}"),
        ("server.pem", "encrypted.key", None, "{encrypted.key} is encrypted"),
        (None, "server.key", None, "TLS needs both --tls-cert and --tls-key"),
        ("server.pem", None, None, "TLS needs both --tls-cert and --tls-key"),
        (None, None, "ca.pem", "TLS needs both --tls-cert and --tls-key"),
    ],
)
def test_unusable_files(
    files: Path,
    certificate: str | None,
    key: str | None,
    authority: str | None,
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit status 1, and one line that names the file."""
    encrypted_key(files)
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    words = ["--no-p4", "--grpc-addr", "127.0.0.1:0"]
    for option, name in (("--tls-cert", certificate), ("--tls-key", key), ("--tls-ca", authority)):
        words += [option, str(files / name)] if name else []
    assert run.run(parser.parse_args(words)) == 1
    said = capsys.readouterr().err.strip()
    for name in ("absent", "junk", "server.key", "server.pem", "client.key", "encrypted.key"):
        text = text.replace(f"{{{name}}}", str(files / name))
    assert text in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:9559", True),
        ("127.1.2.3:9559", True),
        ("localhost:9559", True),
        ("[::1]:9559", True),
        ("unix:/run/p4.sock", True),
        ("ipv4:127.0.0.1:1", True),
        ("0.0.0.0:9559", False),
        ("[::]:9559", False),
        ("10.0.0.1:9559", False),
        ("switch.example:9559", False),
        (":9559", False),
    ],
)
def test_what_is_local(address: str, local: bool) -> None:
    assert tls.is_local(address) is local


@pytest.mark.parametrize(("address", "warned"), [("127.0.0.1:1", False), ("0.0.0.0:1", True)])
def test_plaintext_for_everybody_is_warned_of(address: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    assert run.credentials(parser.parse_args(["--no-p4", "--grpc-addr", address])) is None
    assert ("without TLS" in caplog.text) is warned
