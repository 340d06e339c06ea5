"""A client of a controller's API, of a rack or of the fabric between racks, as its operator."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPResponse
from typing import Any


class Api:
    """The API at a port of this machine. Each call raises urllib.error.HTTPError on a refusal, URLError when nobody listens."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"
        self.token = ""  # the operator's; there is one when what is behind the API is being booted

    def open(self, path: str, body: object = None, method: str = "GET", timeout: float = 5) -> HTTPResponse:
        """The response, to be read by the caller; ``body`` is sent as JSON, ``timeout`` is in seconds."""
        headers = {"Authorization": f"Bearer {self.token}"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        response = urllib.request.urlopen(request, timeout=timeout)
        assert isinstance(response, HTTPResponse)
        return response

    def get(self, path: str) -> Any:
        """GET, decoded."""
        with self.open(path) as reply:
            return json.load(reply)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST, decoded."""
        with self.open(path, body, "POST", timeout=30) as reply:
            return json.load(reply)

    def delete(self, path: str) -> Any:
        """DELETE, decoded."""
        with self.open(path, method="DELETE", timeout=30) as reply:
            return json.load(reply)
