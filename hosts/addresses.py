"""Service addresses on a compute element: it answers to those that its processes have, and to nobody's ARP requests for them."""

from __future__ import annotations

import subprocess


class AddressError(RuntimeError):
    """The element's network stack would not have the address."""


def add(address: str) -> None:
    """Answer to an address; once more changes nothing. Raises AddressError."""
    # On the loopback interface, which is not asked for addresses from outside (arp_ignore and arp_announce are set).
    command = ["ip", "address", "replace", f"{address}/32", "dev", "lo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AddressError(f"{' '.join(command)}: {done.stderr.strip()}")
