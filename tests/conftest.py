"""What holds for all tests."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does: speed is measured in benchmarks, not asserted here.
settings.register_profile("all", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("all")

# Programs that tests start and interrupt would ignore it, as they inherit it, when the tests run in a shell's background.
signal.signal(signal.SIGINT, signal.default_int_handler)
