"""Common mistakes on the command line: one clear line on standard error, the right exit status, no traceback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p4switch import __main__ as p4switch

ROOT = Path(__file__).parents[3]
ROUTER = "p4switch/examples/router.p4"


def run(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "p4switch", *map(str, args)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("mistakes")
    (here / "bad.p4").write_text("control C( { }\n")
    (here / "latin.stf").write_bytes(b"packet 1 \xff\n")
    shutil.copy(ROOT / ROUTER, here / "alone.p4")
    return here


PORT_511 = "port 511 cannot be --cpu-port and --drop-port at once"
COMMAND_LINE = [
    ("", "the following arguments are required: COMMAND"),
    ("fly", "argument COMMAND: invalid choice: 'fly' (choose from 'compile', "),
    ("compile", "the following arguments are required: PROG.p4"),
    ("compile x.p4 --speed 3", "unrecognized arguments: --speed 3"),
    ("run", "one of the arguments --p4 --no-p4 is required"),
    ("run --p4 x.p4 --no-p4", "argument --no-p4: not allowed with argument --p4"),
    ("run --no-p4 -i 1", "expected PORT@IFACE with a port below 511, found '1'"),
    ("run --no-p4 -i 1@", "expected PORT@IFACE with a port below 511, found '1@'"),
    ("run --no-p4 -i eth0@1", "expected PORT@IFACE with a port below 511, found 'eth0@1'"),
    ("run --no-p4 -i 511@eth0", "expected PORT@IFACE with a port below 511, found '511@eth0'"),
    ("run --no-p4 -i ²@eth0", "expected PORT@IFACE with a port below 511, found '²@eth0'"),
    ("run --no-p4 --cpu-port=-1", "expected a whole number from 0 to 511, found '-1'"),
    ("run --no-p4 --cpu-port 512", "expected a whole number from 0 to 511, found '512'"),
    ("run --no-p4 --drop-port x", "expected a whole number from 0 to 511, found 'x'"),
    ("run --no-p4 --device-id=-1", "expected a whole number from 0 to 18446744073709551615, found '-1'"),
    ("run --no-p4 --busy-poll=-3", "expected a whole number from 0 to 1000000, found '-3'"),
    ("run --no-p4 --grpc-addr 9559", "expected HOST:PORT with a port up to 65535, found '9559'"),
    ("run --no-p4 --grpc-addr :9559", "expected HOST:PORT with a port up to 65535, found ':9559'"),
    ("run --no-p4 --grpc-addr localhost:99999", "expected HOST:PORT with a port up to 65535, found 'localhost:99999'"),
    ("run --no-p4 --grpc-addr ::1:9559", "expected HOST:PORT with a port up to 65535, found '::1:9559'"),
    ("run --no-p4 --cpu-port 511", PORT_511),
    ("run --no-p4 -i 1@a -i 1@b", "two interfaces for port 1: give each -i a port of its own"),
    ("run --no-p4 -i 5@a --cpu-port 5", "port 5 is --cpu-port, it cannot be a as well"),
    ("bench x.p4 --packet zz", "expected hexadecimal digits, found 'zz'"),
    ("bench x.p4 --fill=-1", "expected a whole number of at least 0, found '-1'"),
    ("bench x.p4 --fill-table routes", "expected TABLE=COUNT, found 'routes'"),
    ("bench x.p4 --seconds nan", "expected seconds, more than 0, found 'nan'"),
    ("bench x.p4 --seconds=-1", "expected seconds, more than 0, found '-1'"),
    ("stf x.p4 --cpu-port=-4", "expected a whole number from 0 to 511, found '-4'"),
]


@pytest.mark.parametrize(("line", "message"), COMMAND_LINE, ids=[line or "nothing" for line, _ in COMMAND_LINE])
def test_command_line(
    line: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["p4switch", *line.split()])
    status: object
    try:
        status = p4switch.main()
    except SystemExit as error:
        status = error.code
    shown = capsys.readouterr()
    assert status == 2 and message in shown.err and shown.err.count("\n") == 1 and not shown.out


REFUSED, FAILED = 2, 1
FILES = [
    ("compile nowhere.p4", REFUSED, "nowhere.p4: error: no such file"),
    ("compile .", REFUSED, ".: error: it is a directory"),
    ("run --p4 nowhere.p4", REFUSED, "nowhere.p4: error: no such file"),
    ("run --no-p4 -i 1@nonesuch --grpc-addr 127.0.0.1:0", FAILED, "port 1@nonesuch: nonesuch: no such interface"),
    (
        "run --no-p4 --grpc-addr 192.0.2.1:9 --log-level error",
        FAILED,
        "cannot listen on 192.0.2.1:9: Cannot assign requested address",
    ),
    ("run --no-p4 --grpc-addr no.such.invalid:9 --log-level error", FAILED, "cannot listen on no.such.invalid:9: "),
    ("run --no-p4 --pcap /proc/x", FAILED, "p4switch run: /proc/x: No such file or directory"),
    ("run --no-p4 --trace /no/x", FAILED, "p4switch run: trace to /no/x: No such file or directory"),
    ("stf nowhere.p4", REFUSED, "nowhere.p4: error: no such file"),
    ("stf {files}/alone.p4", REFUSED, "alone.stf: No such file or directory"),
    ("stf {router} {files}/latin.stf", REFUSED, "latin.stf: 'utf-8' codec can't decode"),
    ("stf {router} --trace /no/x", REFUSED, "router.stf: trace to /no/x: No such file or directory"),
    ("compile {router} -o /no/x", FAILED, "p4switch compile: /no/x: No such file or directory"),
    ("compile {router} --p4info /no/x", FAILED, "p4switch compile: /no/x: No such file or directory"),
    (
        "bench {router} --fill-table t=3",
        FAILED,
        "p4switch bench: no table 't'; there are RouterIngress.routes, RouterIngress.next",
    ),
    ("bench {router} --packets /no/x", FAILED, "/no/x: No such file or directory"),
    ("conformance /no/x", REFUSED, "/no/x"),
]


@pytest.mark.parametrize(("line", "status", "message"), FILES, ids=[line for line, _, _ in FILES])
def test_files_and_addresses(line: str, status: int, message: str, files: Path) -> None:
    done = run(*line.format(files=files, router=ROUTER).split())
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert message in done.stderr


def test_a_syntax_error_is_shown_in_its_line(files: Path) -> None:
    for command in (["compile"], ["graph"], ["stf"], ["bench"], ["run", "--p4"]):
        done = run(*command, files / "bad.p4")
        assert done.returncode == 2 and not done.stdout
        assert done.stderr.splitlines() == [
            f"{files}/bad.p4:1:12: error: expected a type, found '{{'",
            "    control C( { }",
            "               ^",
        ]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use(taken: int) -> None:
    done = run("run", "--no-p4", "--grpc-addr", f"127.0.0.1:{taken}")
    assert done.returncode == 1
    assert done.stderr == f"p4switch run: cannot listen on 127.0.0.1:{taken}: Address already in use\n"


def test_without_gcc(tmp_path: Path) -> None:
    done = run("compile", ROUTER, PATH=str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "gcc is not in PATH" in done.stderr


def test_without_gcc_after_preprocessing(tmp_path: Path) -> None:
    """A gcc that only preprocesses: the program is right, but it cannot be built."""
    gcc = tmp_path / "gcc"
    gcc.write_text(
        f'#!/bin/sh\ncase "$1" in -E) exec {shutil.which("gcc")} "$@";; esac\necho no such stage >&2\nexit 1\n'
    )
    gcc.chmod(0o755)
    done = run("stf", ROUTER, PATH=f"{tmp_path}:/nowhere", P4SWITCH_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 2 and "gcc" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.root
def test_without_root() -> None:
    """Interfaces need root, more exactly one of its capabilities; the message says so."""
    line = ["run", "--no-p4", "-i", "1@lo", "--grpc-addr", "127.0.0.1:0"]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_raw", sys.executable, "-m", "p4switch", *line],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "port 1@lo: lo: " in done.stderr and "root" in done.stderr


def test_a_reader_that_has_seen_enough() -> None:
    done = subprocess.run(
        f"{sys.executable} -m p4switch graph {ROUTER} --format json | head -n 1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.stdout.splitlines()[0] == "{" and not done.stderr


def test_packet_io_needs_a_port() -> None:
    warning = "WARNING p4switch: the program has headers for packet-in and packet-out, but there is no --cpu-port"
    without = run("run", "--p4", ROUTER, "-i", "1@nonesuch")
    assert without.returncode == 1 and warning in without.stderr
    assert warning not in run("run", "--p4", ROUTER, "-i", "1@nonesuch", "--cpu-port", "510").stderr


def test_a_ready_file_of_an_earlier_run_goes(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_text("")
    assert run("run", "--no-p4", "-i", "1@nonesuch", "--ready-file", ready).returncode == 1
    assert not ready.exists()


SWITCH = """
set -e
ip link add s1 type veth peer name h1
ip link set s1 up
ip link set h1 up
ip link set lo up
python -m p4switch run --p4 p4switch/examples/router.p4 -i 1@s1 --pcap $OUT --trace $OUT/trace --ready-file $OUT/ready &
until [ -e $OUT/ready ]; do sleep 0.05; done
python -c 'import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("h1", 0)); s.send(b"\\x02" * 60)'
until grep -q 'received on port 1, 60 bytes' $OUT/trace; do sleep 0.05; done
sleep 0.1
kill -$SIGNAL $!
wait $!
"""


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_captures_are_whole_when_the_switch_ends(tmp_path: Path, number: signal.Signals) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OUT": str(tmp_path),
        "SIGNAL": str(number.value),
    }
    # a background process of a shell without job control ignores SIGINT unless it asks for it, as the switch does
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", SWITCH],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == (0 if number != signal.SIGKILL else 128 + 9), done.stderr
    from scapy.utils import rdpcap  # type: ignore[attr-defined]

    frames = rdpcap(str(tmp_path / "port1.pcapng"))
    assert b"\x02" * 60 in [bytes(frame) for frame in frames]
    assert all(f.direction == 1 for f in frames)


WARNINGS = """
set -e
for i in 1 2 3; do
    ip link add s$i type veth peer name h$i
done
for i in s1 h1 s2 h2 lo; do
    ip link set $i up
done
ip link set s1 mtu 100
python -m p4switch run --p4 tests/p4switch/features/hit_and_miss.p4 -i 1@s1 -i 2@s2 -i 3@s3 \\
    --trace $OUT/trace --ready-file $OUT/ready &
until [ -e $OUT/ready ]; do sleep 0.05; done
python -c 'import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("h2", 0)); s.send(b"\\x02" * 500)'
until grep -q '500 bytes' $OUT/trace; do sleep 0.05; done
sleep 0.1
kill $!
wait $!
"""


@pytest.mark.root
def test_what_is_wrong_with_interfaces_is_said(tmp_path: Path) -> None:
    """One that is down, and frames that are too long for the one they should leave by."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", WARNINGS],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "OUT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING p4switch: port 3: s3 is down, or what it is connected to is" in done.stderr
    assert "port 1: s1 is down" not in done.stderr
    assert "frames were not sent or not taken" in done.stderr and "ethtool -K IFACE" in done.stderr
