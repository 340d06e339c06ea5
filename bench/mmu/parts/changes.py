"""How long it takes to revoke a range, to fence its owner's element, and how many changes a second the controller makes."""

from __future__ import annotations

import threading
import time

from bench.mmu.setting import KIB, MIB, Setting, size_text
from bench.report import Figure, against
from protocol.wire import PAGE_SIZE

PART = "changes"
ROOT = True
CLIENTS = 8


def _sizes(setting: Setting) -> tuple[int, ...]:
    return (4 * KIB, MIB, 64 * MIB) if setting.quick else (4 * KIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB, 256 * MIB)


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return setting.repetitions * 2


def run(setting: Setting) -> list[Figure]:
    """The figures. Sizes take turns within a repetition; ratios are to the smallest."""
    element = setting.rack.rack.compute[1].name
    worker = setting.worker(element, "owner")
    sizes = _sizes(setting)
    revoke: dict[int, list[float]] = {s: [] for s in sizes}
    fence: dict[int, list[float]] = {s: [] for s in sizes}
    rates: dict[str, list[float]] = {}
    other = setting.worker(setting.rack.rack.compute[0].name, "other")
    setting.rack.post("/v1/unfence", {"element": element})  # the first of everything is slow
    setting.rack.post("/v1/revoke", {"va": worker.call("alloc", size=PAGE_SIZE)["va"]})
    for _ in range(setting.repetitions):
        setting.step(f"{PART}: revoke and fence")
        for size in sizes:
            taken = worker.call("alloc", size=size)["va"]
            fence[size].append(_timed(setting, "/v1/fence", {"element": element}))
            setting.rack.post("/v1/unfence", {"element": element})
            revoke[size].append(_timed(setting, "/v1/revoke", {"va": taken, "pages": size // PAGE_SIZE}))
            setting.rack.post("/v1/free", {"va": taken})
        setting.step(f"{PART}: rates")
        for name, rate in _rates(setting, worker.pid, other.pid).items():
            rates.setdefault(name, []).append(rate)
    worker.close()
    other.close()
    figures = []
    for what, taken_ms in (("revoke", revoke), ("fence the owner's element", fence)):
        base = taken_ms[sizes[0]]
        for size in sizes:
            ratios = against(taken_ms[size], base) if size != sizes[0] else ()
            baseline = size_text(sizes[0]) if size != sizes[0] else ""
            figures.append(Figure(PART, what, size_text(size), "ms", taken_ms[size], {}, baseline, ratios))
    figures += [Figure(PART, name, "4 KiB", "/s", samples) for name, samples in rates.items()]
    return figures


def _timed(setting: Setting, path: str, body: dict[str, object]) -> float:
    """Milliseconds until the controller's acknowledgement, as a client of its API sees it."""
    start = time.perf_counter()
    setting.rack.post(path, body)
    return (time.perf_counter() - start) * 1e3


def _rates(setting: Setting, owner: int, other: int) -> dict[str, float]:
    """Changes a second of single pages, one after the other and by several clients at once. All include durable commits."""
    count = 20 if setting.quick else 60
    found: dict[str, float] = {}
    for clients in (1, CLIENTS):
        vas: list[int] = []

        def alloc(vas: list[int] = vas) -> None:
            vas.append(setting.rack.post("/v1/alloc", {"pid": owner, "size": PAGE_SIZE})["va"])

        who = "1 client" if clients == 1 else f"{clients} clients"
        found[f"alloc, {who}"] = _rate(count, clients, alloc)
        for what, body in (("grant", {"to": other}), ("revoke", {})):
            left = list(vas)

            def act(what: str = what, body: dict[str, int] = body, left: list[int] = left) -> None:
                setting.rack.post(f"/v1/{what}", {"va": left.pop(), **body})

            found[f"{what}, {who}"] = _rate(count, clients, act)
        found[f"free, {who}"] = _rate(count, clients, lambda vas=vas: setting.rack.post("/v1/free", {"va": vas.pop()}))
    return found


def _rate(count: int, clients: int, act: object) -> float:
    assert callable(act)
    each = -(-count // clients)
    errors: list[Exception] = []

    def client() -> None:
        try:
            for _ in range(each):
                act()
        except Exception as error:  # raised again below
            errors.append(error)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return each * clients / (time.perf_counter() - start)
