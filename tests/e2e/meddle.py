"""Deletes one protection entry behind the controller's back: P4INFO ADDRESS VA."""

from __future__ import annotations

import queue
import sys
import time
from pathlib import Path

import finsy
import grpc
from finsy.proto import p4r, p4r_grpc


def main() -> None:
    schema = finsy.P4Schema(Path(sys.argv[1]))
    stub = p4r_grpc.P4RuntimeStub(grpc.insecure_channel(sys.argv[2]))
    va = int(sys.argv[3], 0)
    election = p4r.Uint128(low=time.time_ns())
    requests: queue.SimpleQueue = queue.SimpleQueue()
    arbitration = p4r.MasterArbitrationUpdate(device_id=1, election_id=election)
    requests.put(p4r.StreamMessageRequest(arbitration=arbitration))
    stream = stub.StreamChannel(iter(requests.get, None))
    assert next(stream).arbitration.status.code == 0
    wanted = finsy.P4TableEntry("protection").encode(schema)
    for reply in stub.Read(p4r.ReadRequest(device_id=1, entities=[wanted])):
        for entity in reply.entities:
            if finsy.P4TableEntry.decode(entity, schema).match["va"][0] == va:
                update = p4r.Update(type=p4r.Update.DELETE, entity=entity)
                stub.Write(p4r.WriteRequest(device_id=1, election_id=election, updates=[update]))
                stream.cancel()
                return
    raise SystemExit(f"no entry for {va:#x}")


if __name__ == "__main__":
    main()
