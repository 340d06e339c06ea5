"""A compute element that has gone mad: INTERFACE SEED COUNT PID VA. Sends hostile frames and prints how many it sent."""

from __future__ import annotations

import random
import socket
import sys
import time

from protocol.wire import Header

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


def main() -> None:
    interface, seed, count, pid, va = sys.argv[1], *map(int, sys.argv[2:6])
    rng = random.Random(seed)
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.bind((interface, 0))
    sent = 0
    for number in range(count):
        try:
            link.send(frame(rng, pid, va))
            sent += 1
        except OSError:
            time.sleep(0.001)
        if number % 50 == 0:
            time.sleep(0.001)
    print(sent)


main()
