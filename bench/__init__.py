"""The switch against a bare AF_PACKET forwarder and the Linux bridge, on the same machine in one run. ``python -m bench``."""
