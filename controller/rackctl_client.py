"""What ``rackctl`` needs to talk to the API, and to show what it said."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from controller.tokens import TokenError, of_running_rack, read_token
from protocol.rack import RUN_ROOT


class CliError(Exception):
    """Something to tell the user in one line."""


class Begun(Exception):
    """A request is under way that is not waited for; ``answer`` is what was said of it."""

    def __init__(self, answer: dict[str, Any]):
        self.answer = answer
        super().__init__(f"request {answer['request']} is under way")


class Client:
    """The API, with errors as one line."""

    def __init__(self, url: str, token: str = ""):
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, timeout: float | None = 30, **options: Any) -> Any:
        """A request; its decoded answer. Raises CliError, Begun."""
        try:
            reply = httpx.request(method, self.url + path, timeout=timeout, headers=self.headers, **options)
        except httpx.HTTPError as error:
            raise CliError(f"no controller at {self.url} ({error}): is a rack running? (`make up`)") from None
        if reply.status_code == 202:
            raise Begun(reply.json())
        if reply.is_success:
            return reply.json()
        try:
            body = reply.json()
        except ValueError:
            body = {}
        detail = body.get("message") or json.dumps(body.get("detail", reply.text))
        if reply.status_code == 401:
            detail = (
                "no good token: give --token-file, or set RACKCTL_TOKEN; on the rack's machine its operator's is found"
            )
        raise CliError(f"refused ({body.get('error', reply.status_code)}): {detail}")

    def follow(self, since: int, each: Callable[[dict[str, Any]], None]) -> None:
        """Call ``each`` with every event, for ever."""
        try:
            path = f"{self.url}/v1/events/follow?since={since}"
            with httpx.stream("GET", path, timeout=None, headers=self.headers) as reply:
                if not reply.is_success:
                    raise CliError(f"refused ({reply.status_code}): {reply.read().decode(errors='replace')}")
                for line in reply.iter_lines():
                    if line:
                        each(json.loads(line))
        except httpx.HTTPError as error:
            raise CliError(f"the controller at {self.url} has gone: {error}") from None


def find_token(url: str, file: Path | None) -> str:
    """The token to bear: of the file, of the environment, or of the rack that runs here with this API."""
    try:
        if file is not None:
            return read_token(file)
        if os.environ.get("RACKCTL_TOKEN"):
            return os.environ["RACKCTL_TOKEN"].strip()
        found = of_running_rack(url, RUN_ROOT)
        return read_token(found) if found is not None else ""
    except PermissionError as error:
        raise CliError(f"{error.filename} is not yours to read: use sudo, --token-file or RACKCTL_TOKEN") from None
    except (OSError, TokenError) as error:
        raise CliError(f"no token: {error}") from None


def show(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table on the terminal."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


def many(count: int, what: str) -> str:
    """``1 page``, ``2 pages``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def human(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:g} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
