"""Stock P4Runtime clients against the server: finsy in this process, p4runtime-shell in its own environment."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import finsy as fy
import pytest
from google.protobuf import text_format

from p4switch.compiler import p4info
from tests.p4switch.server.conftest import DEVICE, Program, Running
from tests.p4switch.server.entries import packet

ROOT = Path(__file__).parents[3]
SHELL = ROOT / ".venv-shell" / "bin" / "python"


@pytest.fixture
def files(program: Program, tmp_path: Path) -> tuple[Path, Path]:
    """P4Info as text, and the pipeline config."""
    info, config = tmp_path / "entities.p4info.txtpb", tmp_path / "entities.ir"
    info.write_text(p4info.to_text(program.info))
    config.write_bytes(program.config)
    return info, config


def test_finsy(running: Running, files: tuple[Path, Path]) -> None:
    """finsy installs the pipeline, writes, reads, and gets packets, digests and counters."""

    async def session() -> None:
        options = fy.SwitchOptions(p4info=files[0], p4blob=files[1], device_id=DEVICE)
        async with fy.Switch("sw", running.address, options) as switch:
            assert switch.is_primary
            await switch.insert(
                [
                    fy.P4TableEntry("exact_table", match=fy.Match(number=5), action=fy.Action("metered", port=2)),
                    fy.P4TableEntry(
                        "lpm_table", match=fy.Match(address="10.0.0.0/8"), action=fy.Action("forward", port=3)
                    ),
                    fy.P4TableEntry(
                        "ternary_table",
                        match=fy.Match(address="10.0.0.0/&255.0.0.0", number="5...9"),
                        priority=4,
                        action=fy.Action("forward_and_tag", port=4, tag=9),
                    ),
                    fy.P4MulticastGroupEntry(6, replicas=(5, 6)),
                    fy.P4CloneSessionEntry(7, replicas=((8, 1),)),
                    fy.P4DigestEntry("learned_t", max_list_size=1, max_timeout_ns=0, ack_timeout_ns=0),
                ]
            )
            process = running.switch.process
            assert [o.port for o in process(1, packet(1, number=5))] == [2]
            assert [o.port for o in process(1, packet(2, address=0x0A090807))] == [3]
            assert [o.port for o in process(1, packet(3, number=6, address=0x0A090807))] == [4]
            assert [o.port for o in process(1, packet(12, number=6))] == [5, 6]
            assert [o.port for o in process(1, packet(13, number=7))] == [8, 1]

            entries = [e async for e in switch.read(fy.P4TableEntry("lpm_table"))]
            assert [e.match_str(switch.p4info) for e in entries] == ["address=0xa000000/8"]
            (counter,) = [e async for e in switch.read(fy.P4DirectCounterEntry("exact_hits"))]
            assert counter.data == fy.P4CounterData(byte_count=8, packet_count=1)

            await switch.write([fy.P4PacketOut(b"hello", egress_port=9, pad=0)])
            while not (outputs := running.switch.outputs()):
                await asyncio.sleep(0.01)
            assert [(o.port, o.data) for o in outputs] == [(9, b"hello")]
            # A generator listens once somebody waits for it.
            next_packet = asyncio.create_task(anext(switch.read_packets()))
            next_digest = asyncio.create_task(anext(switch.read_digests("learned_t")))
            await asyncio.sleep(0.1)
            process(1, packet(14, number=77))
            found = await asyncio.wait_for(next_packet, 60)
            assert (found["ingress_port"], found["reason"], found.payload) == (1, 77, packet(14, number=77))
            process(2, packet(11, address=0x01020304))
            learned = await asyncio.wait_for(next_digest, 60)
            assert learned.data[0] == {"port": 2, "address": 0x01020304, "flag": True}

            with pytest.raises(fy.P4ClientError) as caught:
                await switch.insert(
                    [fy.P4TableEntry("exact_table", match=fy.Match(number=5), action=fy.Action("metered", port=2))]
                )
            assert caught.value.details[0].canonical_code == fy.GRPCStatusCode.ALREADY_EXISTS
            held = [
                e async for e in switch.read(fy.P4TableEntry()) if isinstance(e, fy.P4TableEntry) and not e.is_const
            ]
            await switch.delete(held)
            assert [e async for e in switch.read(fy.P4TableEntry("exact_table"))] == []

    asyncio.run(asyncio.wait_for(session(), 200))


SHELL_SCRIPT = """
import p4runtime_sh.shell as sh
from p4runtime_sh.shell import PacketOut, PacketIn, TableEntry, CounterEntry, DirectCounterEntry, MulticastGroupEntry
import sys

address, device, info, config = sys.argv[1:]
sh.setup(device_id=int(device), grpc_addr=address, election_id=(0, 9), config=sh.FwdPipeConfig(info, config), verbose=False)

def session():
    entry = TableEntry("EntitiesIngress.lpm_table")(action="EntitiesIngress.forward")
    entry.match["address"] = "10.0.0.0/8"
    entry.action["port"] = "3"
    entry.insert()
    entry.action["port"] = "4"
    entry.modify()
    found = list(TableEntry("EntitiesIngress.lpm_table").read())
    assert len(found) == 1 and found[0].action["port"].value == b"\\x04", found

    ternary = TableEntry("EntitiesIngress.ternary_table")(action="EntitiesIngress.forward")
    ternary.match["address"] = "10.0.0.0 &&& 255.0.0.0"
    ternary.match["number"] = "5..9"
    ternary.action["port"] = "6"
    ternary.priority = 3
    ternary.insert()

    default = TableEntry("EntitiesIngress.ternary_table")(action="EntitiesIngress.drop", is_default=True)
    default.modify()

    counter = CounterEntry("EntitiesIngress.op_counter")
    counter.index = 3
    counter.packet_count = 42
    counter.modify()
    for read in CounterEntry("EntitiesIngress.op_counter").read():
        assert read.packet_count == (42 if read.index == 3 else 0), read

    group = MulticastGroupEntry(1)
    group.add(1, 1).add(2, 1)
    group.insert()

    try:
        entry.insert()
    except Exception as error:
        assert "ALREADY_EXISTS" in str(error), error
    else:
        raise AssertionError("inserted twice")
    out = PacketOut(payload=b"from the shell", egress_port="7")
    out.send()

try:
    session()
    print("done")
finally:
    sh.teardown()  # or its threads keep the process
"""


@pytest.mark.skipif(not SHELL.exists(), reason="no .venv-shell: run scripts/setup_shell_venv.sh (make test does)")
def test_p4runtime_shell(running: Running, files: tuple[Path, Path], tmp_path: Path) -> None:
    script = tmp_path / "session.py"
    script.write_text(SHELL_SCRIPT)
    command = [str(SHELL), str(script), running.address, str(DEVICE), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout
    outputs = running.switch.outputs()
    assert [(o.port, o.data) for o in outputs] == [(7, b"from the shell")]
    assert [o.port for o in running.switch.process(1, packet(2, address=0x0A000001))] == [4]
    assert [o.port for o in running.switch.process(1, packet(3, number=7, address=0x0A000001))] == [6]
    assert running.switch.process(1, packet(3)) == []
    assert [o.port for o in running.switch.process(1, packet(12, number=1))] == [1, 2]


def test_p4info_is_what_the_clients_read(files: tuple[Path, Path], program: Program) -> None:
    assert text_format.Parse(files[0].read_text(), type(program.info)()) == program.info
