"""Clients that read and change keys at random and record each operation with the times of its call and return."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from pathlib import Path
from typing import Any, TextIO

from apps.kv.bulk import key_of
from apps.paxos.client import Client, ServiceError, Unknown


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options beside ``--servers``."""
    parser.add_argument(
        "--clients", type=int, default=4, help="at the same time, each with one operation at a time (default 4)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--keys", type=int, default=32, help="keys that are changed (default 32)")
    parser.add_argument("--value-bytes", type=int, default=64, help="size of values (default 64)")
    parser.add_argument("--reads", type=float, default=0.4, help="share of reads (default 0.4)")
    parser.add_argument("--preloaded", type=int, default=0, help="the keys are among the first so many preloaded items")
    parser.add_argument("--pause-ms", type=float, default=0.0, help="between two operations of a client (default 0)")
    parser.add_argument("--attempt-ms", type=float, default=500.0, help="that one answer is waited for (default 500)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--history", type=Path, help="where to record the operations, one JSON object a line")


class _Recorder:
    def __init__(self, file: TextIO | None):
        self._file = file
        self.returned: list[tuple[float, float]] = []
        self.unknown = 0

    def record(self, **what: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps(what) + "\n")
        if what["returned"] is None:
            self.unknown += 1
        else:
            self.returned.append((what["called"], what["returned"]))


async def run(arguments: argparse.Namespace) -> int:
    """Print a summary: operations, the longest time without any completed, latencies in ms. Status 1 if none completed."""
    ends = time.monotonic() + arguments.seconds
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(arguments.history.open("w")) if arguments.history is not None else None
        recorder = _Recorder(file)
        began = time.monotonic()
        reconnects = await asyncio.gather(*(_client(n, arguments, ends, recorder) for n in range(arguments.clients)))
    finished = sorted(r for _, r in recorder.returned)
    gaps = [(b - a, a) for a, b in zip([began, *finished], finished, strict=False)]
    took = sorted(r - c for c, r in recorder.returned)
    summary = {
        "operations": len(took),
        "unknown": recorder.unknown,
        "reconnects": sum(reconnects),
        "longest_gap_ms": round(max(gaps)[0] * 1e3, 1) if gaps else None,
        "longest_gap_at": max(gaps)[1] if gaps else None,
        "p50_ms": round(took[len(took) // 2] * 1e3, 2) if took else None,
        "p99_ms": round(took[len(took) * 99 // 100] * 1e3, 2) if took else None,
    }
    print(json.dumps(summary), flush=True)
    return 0 if took else 1


async def _client(number: int, arguments: argparse.Namespace, ends: float, recorder: _Recorder) -> int:
    rng = random.Random(f"{arguments.seed}/{number}")
    seen: dict[bytes, bytes | None] = {}
    serial = 0
    async with Client(
        arguments.servers, attempt=arguments.attempt_ms / 1e3, budget=arguments.seconds + 30, seed=rng.getrandbits(32)
    ) as client:
        while time.monotonic() < ends:
            serial += 1
            keys = arguments.preloaded or arguments.keys
            at = rng.randrange(arguments.keys) * (keys // arguments.keys)
            key = key_of(at) if arguments.preloaded else b"key/%d" % at
            value = f"{number}.{serial}.".encode().ljust(arguments.value_bytes, b".")
            await _operation(client, f"client {number}", key, value, seen, rng, arguments.reads, recorder)
            if arguments.pause_ms:
                await asyncio.sleep(arguments.pause_ms / 1e3)
    return client.reconnects


async def _operation(
    client: Client,
    name: str,
    key: bytes,
    value: bytes,
    seen: dict[bytes, bytes | None],
    rng: random.Random,
    reads: float,
    recorder: _Recorder,
) -> None:
    """One operation, recorded. ``seen`` is what this client knows of keys, so that some swaps succeed."""
    choice = rng.random()
    kind = "get" if choice < reads else "put" if choice < reads + (1 - reads) * 0.5 else "cas"
    kind = "delete" if kind == "put" and rng.random() < 0.15 else kind
    expected = seen.get(key)
    arguments: list[bytes | None] = [value] if kind == "put" else [expected, value] if kind == "cas" else []
    called = time.monotonic()
    result: Any = None
    returned: float | None = None
    with contextlib.suppress(Unknown, ServiceError):
        match kind:
            case "get":
                found = await client.get(key)
                seen[key] = found
                result = found.decode(errors="replace") if found is not None else None
            case "put":
                await client.put(key, value)
                seen[key] = value
            case "delete":
                result = await client.delete(key)
                seen[key] = None
            case "cas":
                result = await client.cas(key, expected, value)
                if result:
                    seen[key] = value
        returned = time.monotonic()
    recorder.record(
        process=name,
        kind=kind,
        key=key.decode(),
        arguments=[a.decode(errors="replace") if a is not None else None for a in arguments],
        result=result,
        called=called,
        returned=returned,
    )
