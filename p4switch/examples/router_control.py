"""The router's controller, in three commands: write its routes, read its counters, print what it punts.

It is a plain P4Runtime client (finsy): nothing in it knows that the switch is p4switch.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

import finsy as fy

_REASONS = {1: "no route", 2: "time to live exceeded"}
_MAC = "02:00:00:00:0{}:0{}"  # of the router at port {1} when the first is 0, else of the host behind that port


def _routes() -> list[fy.P4TableEntry]:
    """Networks 10.0.1.0/24 behind port 1 and 10.0.2.0/24 behind port 2, one host in each."""
    entries = []
    for port in (1, 2):
        forward = fy.Action("forward", port=port, src=_MAC.format(0, port), dst=_MAC.format(port, 1))
        entries += [
            fy.P4TableEntry("next_hops", match=fy.Match(id=port), action=forward),
            fy.P4TableEntry("routes", match=fy.Match(dst=f"10.0.{port}.0/24"), action=fy.Action("via", next_hop=port)),
        ]
    return entries


async def _counters(switch: fy.Switch) -> None:
    entries = switch.read(fy.P4TableEntry("routes", counter_data=fy.P4CounterData()))
    async for entry in entries:  # type: ignore[attr-defined]  # finsy declares its generator as a coroutine
        data = entry.counter_data
        if data is not None:
            print(f"{entry.match_str(switch.p4info)}: {data.packet_count} packets, {data.byte_count} bytes")


async def _punted(switch: fy.Switch, count: int) -> None:
    print("listening", flush=True)
    async for packet in switch.read_packets():
        reason = _REASONS.get(int(packet["reason"]), "unknown")
        print(f"from port {packet['ingress_port']}, {len(packet.payload)} bytes: {reason}", flush=True)
        count -= 1
        if not count:
            return


async def _main(arguments: argparse.Namespace) -> None:
    async with fy.Switch("router", arguments.address, fy.SwitchOptions(device_id=0)) as switch:
        if arguments.command == "routes":
            await switch.insert(_routes())
            print(f"{len(_routes())} entries written")
        elif arguments.command == "counters":
            await _counters(switch)
        else:
            await _punted(switch, arguments.count)


def main() -> int:
    """Exit status 0, or 1 when the switch refuses or cannot be reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:9559", metavar="HOST:PORT", help="default 127.0.0.1:9559")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("routes", help="write the routes")
    commands.add_parser("counters", help="read the routes' counters")
    punted = commands.add_parser("punted", help="print what the router sends to the controller")
    punted.add_argument("count", type=int, nargs="?", default=0, help="end after so many packets (default: never)")
    logging.getLogger("finsy").setLevel(logging.ERROR)  # it warns that there is no gNMI, which is not needed here
    try:
        asyncio.run(_main(parser.parse_args()))
    except (fy.P4ClientError, OSError) as error:
        # what finsy says at length is which update failed and how it looked
        print(error.message if isinstance(error, fy.P4ClientError) else error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
