"""``python -m controller.fabric``: the controller of the switches between racks, and of racks that have no Rack MMU.

An os-ken application as in ``controller.tor``, and an API with which a service address is sent to another place. What is steered
where outlives it, in its state file.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from controller import tor
from controller.__main__ import address as host_and_port
from controller.guard import Guard
from controller.redirect import Holder, Redirects
from controller.tokens import Role, TokenError, Tokens
from protocol import fabric as fabrics
from protocol.fabric import Fabric, FabricError

_SEE = frozenset({Role.OBSERVER, Role.OPERATOR})
RULES = {("GET", path): _SEE for path in ("/v1/status", "/v1/addresses", "/openapi.json")}  # the rest is the operator's


class NotDone(RuntimeError):
    """A switch is not connected, or has not said that it is done."""


class Steering:
    """Where service addresses are. Thread-safe; durable in ``state_file``."""

    def __init__(self, fabric: Fabric, redirects: Redirects, state_file: Path):
        """Begin with what an earlier one left, or else with what the description says. Raises FabricError, OSError."""
        self.fabric = fabric
        self._redirects = redirects
        self._state_file = state_file
        self._lock = threading.Lock()
        self._places = dict(fabric.addresses)
        if state_file.exists():
            try:
                self._places |= msgspec.json.decode(state_file.read_bytes(), type=dict[str, str])
            except msgspec.MsgspecError as error:
                raise FabricError(f"{state_file}: not a table of addresses: {error}") from None
        for switch in fabric.switches:
            if switch.uplink:
                redirects.set_uplink(switch.dpid, switch.uplink)
        redirects.set(self._holders())

    @property
    def places(self) -> dict[str, str]:
        """The place of each address."""
        return dict(self._places)

    def steer(self, address: str, place: str) -> None:
        """Send an address to a place from now on: done when this returns. Raises FabricError, NotDone (the switches that are
        connected, and those that will be, have been told)."""
        self.fabric.way(address, place)
        with self._lock:
            self._places[str(IPv4Address(address))] = place
            new = self._state_file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(self._places))
            new.replace(self._state_file)
            done = self._redirects.set(self._holders())
        if not done:
            raise NotDone(f"not every switch has said that it sends {address} to {place}")

    def _holders(self) -> dict[int, dict[IPv4Address, Holder]]:
        found: dict[int, dict[IPv4Address, Holder]] = {s.dpid: {} for s in self.fabric.switches}
        for address, place in self._places.items():
            for dpid, (port, mac) in self.fabric.way(address, place).items():
                found[dpid][IPv4Address(address)] = Holder(port, mac)
        return found


class Steer(BaseModel):
    """Send a service address to a place."""

    address: str
    to: str


def create_app(steering: Steering) -> FastAPI:
    """The API."""
    app = FastAPI(title="Fabric controller", version="1", description="Service addresses between racks.")

    @app.exception_handler(FabricError)
    def refused(_request: Any, error: FabricError) -> JSONResponse:
        return JSONResponse({"error": "bad_request", "message": str(error)}, 400)

    @app.exception_handler(NotDone)
    def not_done(_request: Any, error: NotDone) -> JSONResponse:
        return JSONResponse({"error": "switch", "message": str(error)}, 502)

    @app.get("/v1/status")
    def status() -> dict[str, Any]:
        """The switches, and which of them are connected and forward."""
        connected = tor.fences.settled()
        return {"switches": {s.name: s.dpid in connected for s in steering.fabric.switches}}

    @app.get("/v1/addresses")
    def addresses() -> dict[str, Any]:
        """Where service addresses are."""
        return {"addresses": steering.places}

    @app.post("/v1/steer")
    def steer(body: Steer) -> dict[str, Any]:
        """Send a service address to a host or rack; when this returns, every switch does."""
        steering.steer(body.address, body.to)
        return {"address": body.address, "to": body.to}

    return app


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m controller.fabric", description=__doc__)
    parser.add_argument("--fabric", type=Path, required=True, help="the description of the switches (JSON)")
    parser.add_argument("--state", type=Path, required=True, help="file that keeps where addresses are")
    parser.add_argument("--openflow", type=host_and_port, default=("127.0.0.1", 6653), metavar="HOST:PORT")
    parser.add_argument("--api", type=host_and_port, default=("127.0.0.1", 8099), metavar="HOST:PORT")
    parser.add_argument("--tokens", type=Path, required=True, help="who may use the API")
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        steering = Steering(fabrics.load(arguments.fabric), tor.redirects, arguments.state)
        tokens = Tokens(arguments.tokens)
    except (FabricError, TokenError, OSError) as error:
        print(f"controller.fabric: {error}", file=sys.stderr)
        return 1
    threading.Thread(target=tor.serve, args=arguments.openflow, name="os-ken", daemon=True).start()
    host, port = arguments.api
    app = create_app(steering)
    app.add_middleware(Guard, tokens=tokens, rules=RULES)
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=1))
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
