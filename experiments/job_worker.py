"""A worker of ``apps.mapreduce`` as a program. Driven like ``experiments.worker``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from apps.dataflow.peer import PATIENT
from apps.mapreduce.worker import JobWorker
from experiments import worker
from hosts.process import Process


def main(description: str | None, make: Callable[[Process, str], object]) -> int:
    """Serve the commands of what is made of a process and the address of its element on the rack's IP network."""
    parser = worker.options(description)
    parser.add_argument("--address", required=True, help="of this element on the rack's IP network")
    arguments = parser.parse_args()
    with Process.create(arguments.run_dir, arguments.name, PATIENT) as process:
        worker.serve(make(process, arguments.address), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main(__doc__, JobWorker))
