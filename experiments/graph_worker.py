"""A worker of ``apps.graph`` as a program. Driven like ``experiments.worker``."""

from __future__ import annotations

import sys

from apps.graph.worker import GraphWorker
from experiments.job_worker import main

if __name__ == "__main__":
    sys.exit(main(__doc__, GraphWorker))
