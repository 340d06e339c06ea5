"""The northbound interface: JSON over HTTP with an OpenAPI description at /openapi.json, and Prometheus metrics."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, get_args

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from pydantic import Field
from starlette.exceptions import HTTPException

from controller.api_memory import Body, Carrier, acting, memory_routes
from controller.api_migrate import migrate_routes
from controller.api_monitor import monitor_routes
from controller.api_tokens import token_routes
from controller.core import blocks, events
from controller.core.state import Allocation
from controller.guard import Guard
from controller.shell import RequestRefused, Shell
from controller.switch import SwitchError
from controller.tokens import Tokens
from protocol.wire import PAGE_SIZE, Status

log = logging.getLogger(__name__)
MOST_WRONG_FIELDS = 20  # that a refusal names
_HTTP_STATUS = {
    "not_found": 404,
    "no_such_process": 404,
    "forbidden": 403,
    "permission": 403,
    "not_reassignable": 403,
    "bad_capability": 403,
    "expired_capability": 403,
    "bad_request": 400,
    "busy": 409,
    "out_of_memory": 507,
    "element_failed": 503,
    "page_failed": 503,
    "memory_lost": 410,
    "switch": 502,
}
_VERDICTS = {
    0: "forwarded_request",
    1: "forwarded_reply",
    2: "to_controller",
    3: "from_controller",
    32: "not_rmem",
    33: "truncated",
    34: "bad_version",
    35: "unknown_port",
    36: "reply_from_compute",
    37: "request_from_memory",
    38: "no_route",
    39: "bad_packet_out",
    40: "reply_from_fenced",
}


Counted = Literal["verdicts", "processes", "elements", "protection"]
MOST_PIDS = 256  # of one request


class Redirect(Body):
    """Give a service address to a process."""

    address: IPv4Address = Field(strict=False)
    pid: int = Field(ge=1, le=0xFFFF, description="what is sent to the address goes to the element of this process")


def verdict_name(index: int) -> str:
    """The name of a cell of the switch's `verdicts` counter."""
    if 16 <= index < 32:
        return f"refused_{Status(index - 16).name.lower()}" if index - 16 in list(Status) else f"refused_{index - 16}"
    return _VERDICTS.get(index, f"verdict_{index}")


def create_app(shell: Shell, tokens: Tokens) -> FastAPI:
    """The application. Its handlers run in worker threads: requests wait for the core without stopping one another."""
    about = "Memory and elements of a rack. Every request bears a token."
    # The guard checks tokens; that they are borne is said here, for those who read the description.
    borne = [Depends(HTTPBearer(auto_error=False))]
    app = FastAPI(
        title="Rack MMU controller", version="1", description=about, docs_url=None, redoc_url=None, dependencies=borne
    )
    app.add_middleware(Guard, tokens=tokens)

    @app.exception_handler(RequestRefused)
    async def refused(_request: Request, error: RequestRefused) -> JSONResponse:
        return JSONResponse({"error": error.code, "message": str(error)}, _HTTP_STATUS.get(error.code, 400))

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = error.errors()[:MOST_WRONG_FIELDS]
        named = [() if e["type"] == "json_invalid" else e["loc"][1:] for e in wrong]
        where = [".".join(map(str, names)) or str(e["loc"][0]) for names, e in zip(named, wrong, strict=True)]
        fields = [{"field": field, "message": e["msg"]} for field, e in zip(where, wrong, strict=True)]
        text = "; ".join(f"{f['field']}: {f['message']}" for f in fields)
        return JSONResponse({"error": "malformed", "message": text, "fields": fields}, 422)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "malformed")
        text = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse({"error": code, "message": text}, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    def internal(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse({"error": "internal", "message": "the controller's log says more"}, 500)

    @app.exception_handler(SwitchError)
    async def switch_error(_request: Request, error: SwitchError) -> JSONResponse:
        return JSONResponse({"error": "switch", "message": str(error)}, 502)

    @app.exception_handler(TimeoutError)
    async def timeout(_request: Request, _error: TimeoutError) -> JSONResponse:
        return JSONResponse({"error": "timeout", "message": "the operation is still under way"}, 504)

    @app.get("/v1/status")
    def status() -> dict[str, Any]:
        """Whether the controller works, and how busy it is."""
        return shell.describe()

    @app.get("/v1/elements")
    def elements() -> dict[str, Any]:
        """The elements, with their state and free memory."""
        state = shell.state
        return {
            "elements": [
                {
                    "name": e.name,
                    "id": e.id,
                    "kind": e.kind,
                    "media": e.media,
                    "port": e.port,
                    "state": str(e.liveness),
                    "suspected": e.id in state.suspected,
                    "fenced": e.fenced,
                    "fenced_by": e.fenced_by,
                    "pages": e.pages,
                    "free_pages": state.free_pages(e.id) if e.kind == "memory" else 0,
                    "processes": sum(p.element == e.id for p in state.processes.values()),
                }
                for e in sorted(state.elements.values(), key=lambda e: e.id)
            ]
        }

    @app.get("/v1/processes")
    def processes(request: Request) -> dict[str, Any]:
        """The processes, with their memory; of those that the token acts for, if it is one of processes."""
        state, own = shell.state, acting(shell, request)
        owned: dict[int, list[Allocation]] = {}
        for a in sorted(state.allocations.values(), key=lambda a: a.va):
            owned.setdefault(a.pid, []).append(a)
        return {
            "processes": [
                {
                    "pid": p.pid,
                    "name": p.name,
                    "element": state.elements[p.element].name,
                    "bytes": sum(a.size for a in owned.get(p.pid, [])),
                    "allocations": [_allocation(a, shell) for a in owned.get(p.pid, [])],
                }
                for p in sorted(state.processes.values(), key=lambda p: p.pid)
                if own is None or p.pid in own
            ]
        }

    @app.get("/v1/addresses")
    def list_addresses() -> dict[str, Any]:
        """The service addresses, and who has them."""
        state = shell.state
        return {
            "addresses": [
                {
                    "address": str(IPv4Address(a.address)),
                    "pid": a.pid,
                    "element": state.elements[a.element].name,
                    "group": a.group,
                }
                for a in sorted(state.addresses.values(), key=lambda a: a.address)
            ]
        }

    @app.post("/v1/redirect")
    def redirect(body: Redirect) -> dict[str, Any]:
        """Give a service address to a process, whoever has it; when this returns, the top-of-rack switch sends there."""
        return shell.request(lambda token: events.AddressRequest(token, int(body.address), body.pid))

    @app.delete("/v1/addresses/{address}")
    def release(address: IPv4Address) -> dict[str, Any]:
        """Take a service address from whoever has it; any process may take it then."""
        return shell.request(lambda token: events.AddressReleaseRequest(token, int(address)))

    carry_out = Carrier(shell)
    app.include_router(memory_routes(shell, carry_out))
    app.include_router(monitor_routes(shell))
    app.include_router(migrate_routes(shell, carry_out))
    app.include_router(token_routes(shell, tokens))

    @app.get("/v1/map")
    def switch_map() -> dict[str, Any]:
        """V2P and protection entries as the switch holds them, and whether the store agrees."""
        from controller.core import entries

        wanted = {e for e in entries.all_entries(shell.state) if e.table in ("translation", "protection")}
        rows = []
        for entry in shell.switch_map():
            match = dict(entry.match)
            va = match["va"]
            assert isinstance(va, tuple)
            pages = 1 << (64 - va[1] - 12) if va[1] <= 52 else 0
            row = {"table": entry.table, "va": va[0], "prefix_length": va[1], "pages": pages, "action": entry.action}
            row |= {"pid": match["pid"]} if "pid" in match else {}
            row |= dict(entry.params)
            row["in_store"] = entry in wanted
            wanted.discard(entry)
            rows.append(row)
        rows.sort(key=lambda r: (str(r["table"]), r["va"], r["prefix_length"]))
        return {"entries": rows, "missing": len(wanted), "agrees": not wanted and all(r["in_store"] for r in rows)}

    @app.get("/v1/counters")
    def counters(
        kind: Annotated[list[Counted] | None, Query(description="what to count; all of it unless it is said")] = None,
        pid: Annotated[
            list[Annotated[int, Field(ge=0, le=0xFFFF)]] | None,
            Query(
                max_length=MOST_PIDS,
                description="whose traffic; that of all processes that there are, unless it is said",
            ),
        ] = None,
    ) -> dict[str, Any]:
        """The switch's counters: what is not zero. Only cells that are asked for, or of what exists, are read."""
        kinds = get_args(Counted) if kind is None else kind
        found: dict[str, Any] = {}
        if "verdicts" in kinds:
            verdicts = shell.switch.read_counter("verdicts")
            found["verdicts"] = {verdict_name(i): packets for i, (packets, _) in sorted(verdicts.items())}
        if "processes" in kinds:
            processes_ = shell.switch.read_counter("process_traffic", shell.state.processes if pid is None else pid)
            found["processes"] = {str(i): {"packets": p, "bytes": b} for i, (p, b) in sorted(processes_.items())}
        if "elements" in kinds:
            names = {e.id: e.name for e in shell.state.elements.values()}
            elements_ = shell.switch.read_counter("element_traffic", names)
            found["elements"] = {names[i]: {"packets": p, "bytes": b} for i, (p, b) in sorted(elements_.items())}
        if "protection" in kinds:
            found["protection"] = [
                {"match": dict(entry.match), "action": entry.action, "packets": packets, "bytes": size}
                for entry, packets, size in shell.switch.read_direct_counter("protection")
            ]
        return found

    @app.get("/v1/events")
    def events_since(since: int = 0) -> dict[str, Any]:
        """Events after number ``since``."""
        return {"events": shell.log.since(since)}

    @app.get("/v1/events/follow")
    def follow(since: int = 0) -> StreamingResponse:
        """Events as they happen, one JSON object a line."""

        async def lines() -> AsyncIterator[str]:
            last = since
            while True:
                found = await asyncio.to_thread(shell.log.since, last, 1.0)
                for event in found:
                    last = event["id"]
                    yield json.dumps(event) + "\n"
                if not found:
                    yield "\n"  # keeps the connection, and notices that it is gone

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    registry = CollectorRegistry()
    registry.register(_Collector(shell))

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Prometheus metrics."""
        return PlainTextResponse(generate_latest(registry).decode(), media_type="text/plain; version=0.0.4")

    return app


def _allocation(a: Allocation, shell: Shell) -> dict[str, Any]:
    names = {e.id: e.name for e in shell.state.elements.values()}
    return {
        "va": a.va,
        "bytes": a.size,
        "status": str(a.status),
        "generation": max(s.generation for s in a.segments),
        "elements": sorted({names[s.element] for s in a.segments} | {names[o.element] for o in a.overrides}),
        "segments": [
            {
                "va": s.va,
                "pages": s.pages,
                "element": names[s.element],
                "pid": s.pid,
                "prefix_length": blocks.prefix_length(s.pages),
            }
            for s in a.segments
        ],
        "overrides": [
            {"va": o.va, "pages": o.pages, "element": names[o.element], "kind": str(o.kind), "pid": o.pid}
            for o in a.overrides
        ],
    }


class _Collector:
    """Reads the shell when Prometheus asks."""

    def __init__(self, shell: Shell):
        self.shell = shell

    def collect(self) -> Any:
        """All metrics."""
        shell = self.shell
        for name, value in vars(shell.statistics).items():
            yield CounterMetricFamily(
                f"rackmmu_controller_{name}", f"Controller: {name.replace('_', ' ')}", value=value
            )
        yield GaugeMetricFamily("rackmmu_processes", "Processes", value=len(shell.state.processes))
        yield GaugeMetricFamily("rackmmu_allocations", "Allocations", value=len(shell.state.allocations))
        alive = GaugeMetricFamily("rackmmu_element_alive", "Whether an element is alive", labels=["element"])
        free = GaugeMetricFamily("rackmmu_free_bytes", "Free memory of an element", labels=["element"])
        for e in shell.state.elements.values():
            alive.add_metric([e.name], float(e.liveness == "alive"))
            if e.kind == "memory":
                free.add_metric([e.name], shell.state.free_pages(e.id) * PAGE_SIZE)
        yield alive
        yield free
