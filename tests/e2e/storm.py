"""A compute element that has gone mad: INTERFACE SEED COUNT PID VA. Sends hostile frames and prints how many it sent."""

from __future__ import annotations

import random
import socket
import sys
import time

from protocol.wire import FRAME_OVERHEAD, Header

ETHER_TYPE = 0x88B5
AHEAD = 500  # frames that are sent before the switch has dealt with them
OPS = (1, 2, 3, 4, 0x20, 0x21, 0x22, 0x23, 0x24, 0x2F, 0x40, 0x41, 0x81, 0xC2)


def frame(rng: random.Random, pid: int, va: int) -> bytes:
    """Garbage, spoofs, forged replies, controller messages; now and then cut short or of another EtherType."""
    header = Header(
        rng.choice((*OPS, rng.randrange(256))),
        flags=rng.randrange(256),
        status=rng.randrange(256),
        src=rng.randrange(65536),
        dst=rng.choice((0, 101, rng.randrange(65536))),
        pid=rng.choice((0, pid, rng.randrange(65536))),
        length=rng.choice((0, 8, 64, 4096, rng.randrange(65536))),
        generation=rng.getrandbits(32),
        va=rng.choice((va, va + rng.randrange(1 << 24), rng.getrandbits(64))),
        pa=rng.getrandbits(64),
        request_id=rng.getrandbits(64),
        version=rng.choice((1, 1, 1, 1, 0, 255)),
    )
    kind = b"\x88\xb5" if rng.random() < 0.95 else rng.randbytes(2)
    data = rng.randbytes(12) + kind + header.pack() + rng.randbytes(rng.choice((0, 8, 24, 40, 200)))
    return data[: rng.randrange(14, len(data))] if rng.random() < 0.1 else data


def send(link: socket.socket, data: bytes) -> None:
    """Send a frame, also where the kernel has no room at once."""
    while True:
        try:
            link.send(data)
            return
        except OSError:
            time.sleep(0.001)


def caught_up(link: socket.socket, pid: int, va: int, number: int) -> int:
    """Wait until the switch has dealt with all that was sent, which no queue could hold on a slow machine: it refuses one more
    request, of another element's process. How many frames that took."""
    link.settimeout(1)
    for sent in range(1, 61):
        request_id = (1 << 62) + (number << 8) + sent
        send(link, bytes(12) + b"\x88\xb5" + Header(1, pid=pid, va=va, length=8, request_id=request_id).pack())
        try:
            while True:
                data = link.recv(2048)
                if len(data) >= FRAME_OVERHEAD and Header.unpack(data, 14).request_id == request_id:
                    return sent
        except TimeoutError:
            continue
    raise TimeoutError("the switch has not answered for a minute")


def main() -> None:
    interface, seed, count, pid, va = sys.argv[1], *map(int, sys.argv[2:6])
    rng = random.Random(seed)
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE: for the answers
    link.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
    link.bind((interface, ETHER_TYPE))
    sent = 0
    for number in range(count):
        send(link, frame(rng, pid, va))
        sent += 1
        if number % 50 == 0:
            time.sleep(0.001)
        if number % AHEAD == AHEAD - 1:
            sent += caught_up(link, pid, va, number)
    print(sent)


main()
