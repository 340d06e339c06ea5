"""A client of ``tests/e2e/register.py``: a request a line from standard input; prints the answer, ``reset`` or ``silence``."""

from __future__ import annotations

import socket
import sys


def main() -> None:
    connection: socket.socket | None = None
    for line in sys.stdin:
        try:
            if connection is None:
                connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 60)
                reader = connection.makefile("r")
            connection.sendall(line.encode())
            answer = reader.readline().strip() or "reset"
        except TimeoutError:
            answer = "silence"
        except OSError:
            answer = "reset"
        if answer in ("reset", "silence"):
            connection = None
        print(answer, flush=True)


if __name__ == "__main__":
    main()
