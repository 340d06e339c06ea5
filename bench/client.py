"""A P4Runtime client as a process of its own: finsy's protobuf stubs on grpcio, as a controller would do it.

``python -m bench.client PORT WORKLOAD ENTRIES P4INFO`` becomes primary, prints ``ready`` and then obeys commands on standard
input, one JSON object a line, each answered by one on standard output. Requests are made beforehand: times are those
of the calls.

- ``{"do": "load"}`` with ``"full": true|false``: the entries of the workload
- ``{"do": "write", "kind": "INSERT|MODIFY|DELETE", "series": NAME, "first": N, "count": N, "batch": N}``
- ``{"do": "empty", "calls": N}``: Writes without updates, what a call costs by itself

The answer holds ``entries``, ``calls`` and ``seconds``, or ``error``.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
from finsy.proto import p4i, p4r, p4r_grpc
from google.protobuf import text_format

from bench import workload
from bench.workload import Row

LOAD_BATCH = 1000
TIMEOUT = 60.0  # seconds for one call


class Names:
    """Ids of a P4Info by alias."""

    def __init__(self, info: p4i.P4Info):
        self._tables = {table.preamble.alias: table for table in info.tables}
        self._actions = {action.preamble.alias: action for action in info.actions}

    def entry(self, row: Row) -> p4r.TableEntry:
        """A row as message."""
        table = self._tables[row.table]
        entry = p4r.TableEntry(table_id=table.preamble.id, priority=row.priority)
        for field, match in zip(table.match_fields, row.match, strict=True):
            if match is not None:
                _set_match(entry.match.add(field_id=field.id), field, match)
        action = self._actions[row.action]
        entry.action.action.action_id = action.preamble.id
        for param, value in zip(action.params, row.arguments, strict=True):
            entry.action.action.params.add(param_id=param.id, value=_bytes(value))
        return entry


def _bytes(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _set_match(message: Any, field: Any, match: int | tuple[int, int]) -> None:
    kinds = p4i.MatchField
    if isinstance(match, int):
        exact = message.exact if field.match_type == kinds.EXACT else message.optional
        exact.value = _bytes(match)
        return
    first, second = match
    if field.match_type == kinds.LPM:
        message.lpm.value, message.lpm.prefix_len = _bytes(first), second
    elif field.match_type == kinds.TERNARY:
        message.ternary.value, message.ternary.mask = _bytes(first), _bytes(second)
    else:
        message.range.low, message.range.high = _bytes(first), _bytes(second)


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Lists of ``size`` rows; the last may be shorter."""
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


class Client:
    """The primary controller of device 0."""

    def __init__(self, port: int, work: workload.Workload, info: p4i.P4Info):
        self._work = work
        self._names = Names(info)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._stub = p4r_grpc.P4RuntimeStub(grpc.insecure_channel(f"127.0.0.1:{port}", options))
        self._requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()
        self._stream = self._stub.StreamChannel(iter(self._requests.get, None))
        arbitration = p4r.MasterArbitrationUpdate(device_id=0, election_id=p4r.Uint128(low=1))
        self._requests.put(p4r.StreamMessageRequest(arbitration=arbitration))
        status = next(self._stream).arbitration.status
        if status.code:
            raise RuntimeError(f"not primary: {status.message}")

    def close(self) -> None:
        """End the stream."""
        self._requests.put(None)

    def _request(self, kind: str, rows: Iterable[Row]) -> p4r.WriteRequest:
        request = p4r.WriteRequest(device_id=0, election_id=p4r.Uint128(low=1))
        for row in rows:
            update = request.updates.add(type=p4r.Update.Type.Value(kind))
            update.entity.table_entry.CopyFrom(self._names.entry(row))
        return request

    def _send(self, requests: list[p4r.WriteRequest]) -> dict[str, float]:
        started = time.perf_counter()
        for request in requests:
            self._stub.Write(request, timeout=TIMEOUT)
        seconds = time.perf_counter() - started
        return {"entries": sum(len(r.updates) for r in requests), "calls": len(requests), "seconds": seconds}

    def obey(self, command: dict[str, Any]) -> dict[str, float]:
        """Carry out a command."""
        if command["do"] == "load":
            rows = self._work.all_rows(command["full"])
            return self._send([self._request("INSERT", batch) for batch in batches(rows, LOAD_BATCH)])
        if command["do"] == "write":
            rows = self._work.rows(command["series"], command["first"], command["count"])
            return self._send([self._request(command["kind"], batch) for batch in batches(rows, command["batch"])])
        if command["do"] == "empty":
            return self._send([self._request("INSERT", ()) for _ in range(command["calls"])])
        raise ValueError(f"no command {command['do']!r}")


def main() -> None:
    """Obey until standard input ends."""
    port, name, entries, info_file = sys.argv[1:]
    info = text_format.Parse(Path(info_file).read_text(), p4i.P4Info())
    client = Client(int(port), workload.WORKLOADS[name](int(entries)), info)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = client.obey(json.loads(line))
        except grpc.RpcError as error:
            answer = {"error": f"{error.code().name}: {error.details()}"}
        except (ValueError, KeyError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    client.close()


if __name__ == "__main__":
    main()
