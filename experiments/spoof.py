"""Sends a request that claims another process's id, with Scapy, from inside an element's namespace; prints the answer as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time

from scapy.all import conf
from scapy.layers.l2 import Ether

from protocol import wire
from protocol.layers import RMem

TIMEOUT = 2.0


def main() -> int:
    """Exit status 0 when an answer came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--pid", type=lambda x: int(x, 0), required=True, help="the process id to claim")
    parser.add_argument("--va", type=lambda x: int(x, 0), required=True)
    arguments = parser.parse_args()
    request_id = time.time_ns()
    request = Ether(dst="02:00:00:00:00:00", src="02:00:00:00:00:99", type=wire.ETHERTYPE) / RMem(
        op=wire.Op.READ, pid=arguments.pid, va=arguments.va, length=64, request_id=request_id, src=1
    )
    socket = conf.L2socket(iface=arguments.interface, promisc=True)
    start = time.perf_counter()
    socket.send(request)
    while time.perf_counter() - start < TIMEOUT:
        if not socket.select([socket], 0.05):
            continue
        frame = socket.recv()
        if frame is not None and RMem in frame and frame[RMem].request_id == request_id and frame[RMem].op & wire.REPLY:
            reply = frame[RMem]
            print(
                json.dumps(
                    {
                        "status": wire.Status(reply.status).name,
                        "by_switch": bool(int(reply.flags) & wire.Flag.BY_SWITCH),
                        "ms": (time.perf_counter() - start) * 1e3,
                        "bytes": len(frame),
                    }
                )
            )
            return 0
    print(json.dumps({"status": "no answer"}))
    return 1


if __name__ == "__main__":
    sys.exit(main())
