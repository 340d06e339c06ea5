"""A worker of ``apps.mapreduce`` as a program. Driven like ``experiments.worker``."""

from __future__ import annotations

import sys

from apps.dataflow.peer import PATIENT
from apps.mapreduce.worker import JobWorker
from experiments import worker
from hosts.process import Process


def main() -> int:
    """Serve commands."""
    parser = worker.options(__doc__)
    parser.add_argument("--address", required=True, help="of this element on the rack's IP network")
    arguments = parser.parse_args()
    with Process.create(arguments.run_dir, arguments.name, PATIENT) as process:
        worker.serve(JobWorker(process, arguments.address), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
