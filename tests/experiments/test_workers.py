"""Processes that experiments drive: one that does not answer is not waited for without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.workers import Worker, WorkerError


class Rack:
    """What a worker needs of a rack; ``prefix`` runs instead of the worker's program."""

    def __init__(self, out: Path, *prefix: str):
        self.out, self._prefix = out, prefix
        (out / "logs").mkdir()

    def element_run_dir(self, _element: str) -> Path:
        return self.out

    def namespace(self, _element: str) -> list[str]:
        return list(self._prefix)


def test_a_worker_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="w1 has not answered for 0 s"):
        Worker(Rack(tmp_path, "sh", "-c", "exec sleep 60"), "c1", "w1", patience=0.2)  # type: ignore[arg-type]


def test_a_worker_that_dies_has_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="w1 has died: no memory"):
        Worker(Rack(tmp_path, "sh", "-c", "echo no memory >&2"), "c1", "w1", patience=60.0)  # type: ignore[arg-type]
