"""``python -m p4switch run``: a switch as a process."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

import grpc

from p4switch.cli import options, queues
from p4switch.cli.compile import REFUSED, add_check_arguments, build_or_explain
from p4switch.dataplane.binding import DROP_PORT, DataplaneError, Switch
from p4switch.dataplane.build import BuildError
from p4switch.server import entries_file, pipeline, tls
from p4switch.server.device import Device
from p4switch.server.errors import P4RuntimeError
from p4switch.server.links import Links
from p4switch.server.service import serve

BUSY_POLL_US = 200  # more than a host on the same machine takes to be woken and answer
_TOO_LONG = (
    "an interface was down, full, or they were longer than its MTU, as a sender makes them that leaves"
    " segmentation to its interface (ethtool -K IFACE tx off tso off gso off gro off)"
)
log = logging.getLogger("p4switch")


def interface(text: str) -> tuple[int, str]:
    """PORT@IFACE."""
    port, at, name = text.partition("@")
    if not at or not port.isascii() or not port.isdigit() or not name or int(port) >= DROP_PORT:
        raise argparse.ArgumentTypeError(f"expected PORT@IFACE with a port below {DROP_PORT}, found {text!r}")
    return int(port), name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand; they mirror simple_switch_grpc's."""
    program = parser.add_mutually_exclusive_group(required=True)
    program.add_argument("--p4", dest="program", type=Path, metavar="PROG.p4", help="the program to start with")
    program.add_argument("--no-p4", action="store_true", help="start without; a P4Runtime client sends the program")
    parser.add_argument(
        "-I", dest="include", type=Path, action="append", default=[], metavar="DIR", help="include path"
    )
    parser.add_argument(
        "-D", dest="define", action="append", default=[], metavar="NAME[=VALUE]", help="preprocessor define"
    )
    parser.add_argument(
        "--device-id", type=options.number(0, 2**64 - 1), default=0, metavar="N", help="P4Runtime device id (default 0)"
    )
    parser.add_argument(
        "-i",
        "--interface",
        type=interface,
        action="append",
        default=[],
        metavar="PORT@IFACE",
        help="attach an interface",
    )
    parser.add_argument(
        "--io",
        default="packet",
        choices=("packet", "xdp"),
        help="sockets of the interfaces; xdp: AF_XDP where possible (less CPU time, past tc, senders' offloads off)",
    )
    parser.add_argument(
        "--grpc-addr",
        type=options.address,
        default="127.0.0.1:9559",
        metavar="HOST:PORT",
        help="where P4Runtime listens (default 127.0.0.1:9559)",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve TLS with this certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's key (PEM, no password)")
    parser.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="clients need a certificate of this authority (PEM)"
    )
    parser.add_argument(
        "--entries",
        type=Path,
        metavar="FILE",
        help="a P4Runtime WriteRequest (.txtpb or binary) to carry out at the start",
    )
    parser.add_argument(
        "--monotonic-elections",
        action="store_true",
        help="an election id below the highest one ever seen never becomes primary (default: highest connected one)",
    )
    parser.add_argument("--cpu-port", type=options.port, metavar="N", help="the port of packet-in and packet-out")
    parser.add_argument(
        "--drop-port",
        type=options.port,
        default=DROP_PORT,
        metavar="N",
        help=f"the port that means drop (default {DROP_PORT})",
    )
    parser.add_argument(
        "--busy-poll",
        type=options.number(0, 1_000_000),
        default=BUSY_POLL_US,
        metavar="US",
        help="look for frames so many microseconds before sleeping, while frames keep coming in that time; 0: never "
        f"(default {BUSY_POLL_US})",
    )
    parser.add_argument("--pcap", type=Path, metavar="DIR", help="write a pcap of every port into this directory")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="say for each packet what happened to it")
    parser.add_argument("--trace-format", default="text", choices=("text", "json"), help="json: one object a line")
    queues.add_arguments(parser)
    parser.add_argument("--p4info-out", type=Path, metavar="FILE", help="write the P4Info of --p4")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="create this file when the switch serves")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    add_check_arguments(parser)


def _compile(arguments: argparse.Namespace) -> pipeline.Pipeline | None:
    """The program of --p4 as a pipeline; None when it is refused (diagnostics are on standard error)."""
    try:
        compiled = build_or_explain(arguments)
    except BuildError as error:
        print(f"p4switch run: {error}", file=sys.stderr)
        return None
    if compiled is None:
        return None
    prepared = pipeline.trusted(compiled.p4info, compiled.device_config, compiled.shared_object)
    if arguments.p4info_out:
        from p4switch.compiler import p4info

        arguments.p4info_out.write_text(p4info.to_text(prepared.info))
    return prepared


def credentials(arguments: argparse.Namespace) -> grpc.ServerCredentials | None:
    """For TLS, if it is wanted. Raises ValueError."""
    given = {name: getattr(arguments, f"tls_{name}") for name in ("cert", "key", "ca")}
    if not any(given.values()):
        if not tls.is_local(arguments.grpc_addr):
            log.warning(
                "%s can be reached from elsewhere, without TLS: whoever does may do everything", arguments.grpc_addr
            )
        return None
    if given["cert"] is None or given["key"] is None:
        raise tls.TlsError("TLS needs both --tls-cert and --tls-key")
    return tls.credentials(given["cert"], given["key"], given["ca"])


def _clash(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the port numbers taken together."""
    interfaces = dict(arguments.interface)
    numbers = [number for number, _ in arguments.interface]
    twice = next((n for n in numbers if numbers.count(n) > 1), None)
    if twice is not None:
        return f"two interfaces for port {twice}: give each -i a port of its own"
    for name, number in (("--cpu-port", arguments.cpu_port), ("--drop-port", arguments.drop_port)):
        if number in interfaces:
            return f"port {number} is {name}, it cannot be {interfaces[number]} as well"
    if arguments.cpu_port == arguments.drop_port:
        return f"port {arguments.cpu_port} cannot be --cpu-port and --drop-port at once"
    return None


def _termination() -> int:
    """A file descriptor that can be read once SIGTERM or SIGINT has come.

    Not an Event that a handler sets: the handler may run while this thread is inside of the Event's wait, and would
    wait for a lock that the thread itself holds.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    return readable


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Exit status 0, 1 when it cannot start, 2 when the program is refused."""
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    clash = _clash(arguments)
    if clash:
        print(f"p4switch run: {clash}", file=sys.stderr)
        return REFUSED
    try:
        if arguments.ready_file:
            arguments.ready_file.unlink(missing_ok=True)  # one of an earlier run would say too much
        shown = credentials(arguments)
        prepared = None
        if arguments.program:
            prepared = _compile(arguments)
            if prepared is None:
                return REFUSED
            if arguments.cpu_port is None and prepared.info.controller_packet_metadata:
                log.warning("the program has headers for packet-in and packet-out, but there is no --cpu-port for them")
        terminated = _termination()
        with Switch(cpu_port=arguments.cpu_port, drop_port=arguments.drop_port) as switch:
            for port, name in arguments.interface:
                fallback = switch.add_port(port, name, xdp=arguments.io == "xdp")
                if fallback:
                    log.warning("%s", fallback)
            switch.busy_poll(arguments.busy_poll)
            queues.configure(switch.queues, arguments)
            if arguments.pcap:
                arguments.pcap.mkdir(parents=True, exist_ok=True)
                switch.pcap(arguments.pcap)
            if arguments.trace:
                switch.trace(arguments.trace, json=arguments.trace_format == "json")
            links = Links(dict(arguments.interface))
            for port, name in arguments.interface:
                if not links.is_up(port):
                    log.warning("port %d: %s is down, or what it is connected to is", port, name)
            device = Device(arguments.device_id, switch, links=links, monotonic_elections=arguments.monotonic_elections)
            if prepared:
                device.load(prepared)
            if arguments.entries:
                if prepared is None:
                    raise ValueError("--entries needs a program: --p4")
                log.info("%s: %d entries", arguments.entries, entries_file.install(device, arguments.entries))
            server, port = serve(device, arguments.grpc_addr, shown)
            device.start()
            switch.start()
            print(f"READY: P4Runtime device {arguments.device_id} on port {port}", flush=True)
            if arguments.ready_file:
                arguments.ready_file.write_text("ready\n")
            os.read(terminated, 1)
            log.info("stopping")
            server.stop(0.2).wait()
            device.stop()
            switch.stop()
            stats = switch.stats()
            log.info("%s", stats)
            if stats.tx_drops or stats.rx_oversized:
                log.warning("%d frames were not sent or not taken: %s", stats.tx_drops + stats.rx_oversized, _TOO_LONG)
            for queue in switch.queues.used():
                log.info("%s", queue)
    except P4RuntimeError as error:
        print(f"p4switch run: {error}", file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"p4switch run: {options.explain(error)}", file=sys.stderr)
        return 1
    except (DataplaneError, BuildError, ValueError) as error:
        print(f"p4switch run: {error}", file=sys.stderr)
        return 1
    return 0
