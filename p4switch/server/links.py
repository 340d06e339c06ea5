"""Which ports the device has and which of them are up, for watch ports of group members."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)
_SIOCGIFFLAGS = 0x8913
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_RTMGRP_LINK = 1
_CHECK_SECONDS = 1.0  # in case a message of the kernel was lost


class Links:
    """The ports of a device with their interfaces' state. A port is up while its interface is up and has a carrier."""

    def __init__(self, interfaces: Mapping[int, str] | None = None):
        self._interfaces = dict(interfaces or {})
        self._up = {port: _is_up(name) for port, name in self._interfaces.items()}
        self._stop_read, self._stop_write = -1, -1
        self._thread: threading.Thread | None = None

    def exists(self, port: int) -> bool:
        """Whether the device has this port."""
        return port in self._interfaces

    def is_up(self, port: int) -> bool:
        """Whether a port's interface is up and has a carrier."""
        return self._up.get(port, False)

    def ports(self) -> list[int]:
        """The ports there are."""
        return sorted(self._interfaces)

    def start(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` (in a thread of its own) whenever a port has gone up or down."""
        if not self._interfaces:
            return
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._watch, args=(changed,), name="links", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        if self._thread is None:
            return
        os.close(self._stop_write)
        self._thread.join()
        os.close(self._stop_read)
        self._thread = None

    def _watch(self, changed: Callable[[], None]) -> None:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.bind((0, _RTMGRP_LINK))
            while True:
                ready, _, _ = select.select([kernel.fileno(), self._stop_read], [], [], _CHECK_SECONDS)
                if self._stop_read in ready:
                    return
                if kernel.fileno() in ready:
                    try:
                        kernel.recv(65536)
                    except OSError:  # messages were lost: look anyway
                        log.debug("link messages were lost")
                now = {port: _is_up(name) for port, name in self._interfaces.items()}
                if now != self._up:
                    self._up = now
                    changed()


def _is_up(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        request = struct.pack("16sH14x", interface.encode(), 0)
        try:
            flags = struct.unpack("16xH14x", fcntl.ioctl(asker, _SIOCGIFFLAGS, request))[0]
        except OSError:  # it is gone
            return False
    return bool(flags & _IFF_UP and flags & _IFF_RUNNING)
