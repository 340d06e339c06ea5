"""The control port of a replica or standby: TCP, a JSON object a line, each answered by one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from apps.paxos import frames

log = logging.getLogger(__name__)
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ControlError(RuntimeError):
    """A control request that cannot be carried out; the message says why."""


async def serve(address: str, handler: Handler) -> asyncio.Server:
    """Answer requests at this address by ``handler``, whose ControlErrors become ``{"error": text}``. Raises OSError."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await _answer(line, handler)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError) as error:
            log.info("a control connection ended: %s", error)
        finally:
            writer.close()

    host, port = frames.parse_address(address)
    return await asyncio.start_server(talk, host, port)


async def _answer(line: bytes, handler: Handler) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ControlError("expected a JSON object")
        return await handler(request)
    except ValueError as error:
        return {"error": f"not understood: {error}"}
    except TimeoutError:
        return {"error": "the replica does not answer"}
    except ControlError as error:
        return {"error": str(error)}


async def ask(address: str, request: dict[str, Any], timeout: float = 30.0) -> dict[str, Any]:
    """Ask a control port. Raises OSError, TimeoutError; ControlError when it refuses."""
    host, port = frames.parse_address(address)
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 22)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
    if not line:
        raise ControlError(f"{address} hung up")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer
