"""The process API: remote memory for applications.

::

    with Process.create(run_dir="/run/...", name="kv") as process:
        region = process.alloc(64 << 20)
        process.write(region.va + 10, b"hello")
        process.read(region.va + 10, 5)

A process lives on one compute element and reaches memory elements through the Rack MMU switch, with virtual addresses that
are unique in the rack. Reads and writes of any length and alignment are split into requests of one page, sent in address
order and pipelined; when a call returns, all of it has taken effect. When it raises, a prefix has, and what lies behind the
failing page may have.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any

from hosts import addresses
from hosts import arguments as checked
from hosts.arguments import Region
from hosts.errors import Busy, RemoteMemoryError, RequestTimeout
from hosts.faults import Faults, FaultyWire
from hosts.link import Link, bpf_for_process
from hosts.notices import FAILURES, Contact, Notice
from hosts.records import CLOSED
from hosts.requester import Requester, RetryPolicy, Wire
from hosts.translations import Translation, Translations
from protocol import capability, wire
from protocol.capability import Capability
from protocol.wire import PAGE_SIZE, AllocFlag, Header, HintFlag, Media, NotifyCode, Op, Perm, Placement

__all__ = ["LocalOsError", "Notice", "Process", "Region", "RemoteMemoryError", "RetryPolicy", "Stat", "Takeover"]

ALLOCATED_A_SECOND = 64 << 20  # bytes: what takes longer to be zeroed, to be given out or back, is not waited for
MIGRATED_A_SECOND = 200  # pages: slower migrations are not waited for
SOCKET_NAME = "local-os.sock"
REJOIN_PAUSE, LONGEST_REJOIN_PAUSE = 0.05, 1.0  # seconds between attempts to find a local OS again
log = logging.getLogger(__name__)


class LocalOsError(RuntimeError):
    """The local OS of the compute element cannot be reached, or refused to create the process."""


@dataclass(frozen=True)
class Stat:
    """What is at an address: ``size`` bytes from ``va`` on that are alike."""

    va: int
    size: int
    owner: int
    permissions: Perm
    element: int
    media: Media
    group: int
    generation: int


@dataclass(frozen=True)
class Takeover:
    """Process ``source`` is cut off for good; ``ranges`` of it may be stolen with a capability of the group."""

    source: int
    group: int
    ranges: tuple[Region, ...]


class Process:
    """A process with remote memory. Thread-safe."""

    def __init__(
        self,
        pid: int,
        element: int,
        link: Wire,
        local_os: socket.socket | None,
        policy: RetryPolicy | None = None,
        translations: Translations | None = None,
        run_dir: Path | None = None,
    ):
        """``run_dir`` is where to find the local OS again when it has been restarted."""
        self.pid = pid
        self.element = element
        self.translations = translations
        self.requester = Requester(link, element, pid, policy, translations=translations)
        self._local_os = local_os
        self._run_dir = run_dir
        self._closed = threading.Event()
        self._joining = (
            threading.Lock()
        )  # for who has the last connection to the local OS, and is to say on it that this ends
        self._callbacks: list[tuple[frozenset[NotifyCode], Callable[[Notice], None]]] = []
        self._background = ThreadPoolExecutor(4, thread_name_prefix=f"process {pid}")
        self._counts: dict[str, int] = defaultdict(int)
        self._listener: threading.Thread | None = None
        if local_os is not None:
            self._listener = threading.Thread(target=self._listen, name=f"notices of process {pid}", daemon=True)
            self._listener.start()

    @classmethod
    def create(
        cls,
        run_dir: str | Path,
        name: str,
        policy: RetryPolicy | None = None,
        *,
        sigbus: bool = False,
        faults: Faults | None = None,
        translations: Translations | None = None,
    ) -> Process:
        """Create a process on the compute element whose local OS has this run directory.

        With ``sigbus`` the local OS sends this Unix process SIGBUS for every failure notice, the address in ``si_value``.
        ``faults`` are put before its link, for tests and experiments. ``translations`` is an empty cache for it, if it is to have
        one. Raises LocalOsError, or LinkError when the raw socket
        cannot be opened (it needs root).
        """
        path = Path(run_dir) / SOCKET_NAME
        local_os = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            local_os.connect(str(path))
            local_os.sendall(json.dumps({"create": name, "sigbus": sigbus}).encode() + b"\n")
            reader = local_os.makefile("rb", buffering=0)
            answer = json.loads(reader.readline() or b"{}")
        except OSError as error:
            local_os.close()
            raise LocalOsError(f"no local OS at {path}: {error.strerror}") from None
        if "pid" not in answer:
            local_os.close()
            raise LocalOsError(f"process {name!r} was not created: {answer.get('error', 'the local OS hung up')}")
        try:
            link = Link(answer["interface"], bpf_for_process(answer["pid"]))
        except OSError:
            local_os.close()
            raise
        faulty = link if faults is None else FaultyWire(link, faults)
        return cls(answer["pid"], answer["element"], faulty, local_os, policy, translations, path.parent)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process: its memory is freed."""
        self._background.shutdown(wait=False, cancel_futures=True)
        with self._joining:
            self._closed.set()
            local_os, self._local_os = self._local_os, None
        if self._run_dir is not None:  # should the local OS die before it has read this, the next one finds a file
            with contextlib.suppress(OSError):
                (self._run_dir / "processes" / f"{self.pid}{CLOSED}").touch()
        if local_os is not None:
            try:
                self._say_closed(local_os)
            except OSError:  # it has gone, and there may be another one already
                self._say_closed_again()
            local_os.close()
        self.requester.close()

    # ------------------------------------------------------------------------------------------------------- arguments

    def _packed(self, op: Op, va: int, form: struct.Struct, /, **values: int | bytes) -> bytes:
        return checked.packed(form, op, va, self.pid, **values)

    def _packed_pages(self, op: Op, region: Region, form: struct.Struct, **rest: int) -> bytes:
        pages = checked.whole_pages(region, op, self.pid)
        return checked.packed(form, op, region.va, self.pid, pages=pages, **rest)

    def _touched(self, op: Op, va: int, length: int) -> list[tuple[int, int]]:
        return checked.pages_touched(va, length, op, self.pid)

    # ---------------------------------------------------------------------------------------------------------- memory

    def alloc(
        self,
        size: int,
        permissions: Perm = Perm.RW,
        *,
        reassignable: bool = True,
        media: Media = Media.NONE,
        group: int = 0,
        cached: bool = False,
        element: str = "",
        near: Region | int = 0,
        strict: bool = False,
        placement: Placement = Placement.DEFAULT,
    ) -> Region:
        """Allocate at least ``size`` bytes, rounded up to pages, zeroed, at consecutive addresses.

        ``media`` NONE takes any. Members of ``group`` (0: of none) may steal the memory with a capability, unless it is not
        ``reassignable``. ``cached``: the switch keeps no translations of it, those who have it cache them (a process without a
        cache of translations finds it UNMAPPED).

        It is in the memory element that is named, or in that of the region or address that it is to be ``near`` to, if there is
        room, and with ``strict`` nowhere else; ``placement`` is the policy in other respects. Raises OutOfMemory, NotFound.
        """
        if cached and self.translations is None:
            raise ValueError(
                "a process without a cache of translations cannot use memory that the switch does not translate"
            )
        flags = group << wire.GROUP_SHIFT | (0 if reassignable else AllocFlag.NOT_REASSIGNABLE)
        flags |= AllocFlag.CACHED if cached else 0
        flags |= {Media.NONE: 0, Media.DRAM: AllocFlag.DRAM, Media.NVM: AllocFlag.NVM}[media]
        arguments = self._packed(Op.ALLOC, 0, wire.ALLOC_ARGS, size=size, permissions=permissions, flags=flags)
        address = near.va if isinstance(near, Region) else near
        if element or address or strict or placement is not Placement.DEFAULT:
            name = checked.name_of(element, Op.ALLOC, self.pid)
            flag = HintFlag.STRICT if strict else HintFlag(0)
            hint: dict[str, int | bytes] = {"near": address, "placement": placement, "flag": flag, "name": name}
            arguments += self._packed(Op.ALLOC, 0, wire.ALLOC_HINT, **hint)
        budget = self.requester.policy.budget + size / ALLOCATED_A_SECOND
        _, payload = self.requester.request(Header(Op.ALLOC, length=len(arguments)), arguments, budget)
        va, length, _, _ = wire.ALLOC_REPLY.unpack_from(payload)
        if cached:
            self._translate(Region(va, length))
        return Region(va, length)

    def _translate(self, region: Region) -> None:
        """Learn all translations of a region."""
        assert self.translations is not None
        va = region.va
        while va < region.va + region.size:
            found = self.translate(va)
            self.translations.learn(found)
            va = found.end

    def translate(self, va: int) -> Translation:
        """Where the page of an address is, and the pages behind it that follow it there; asked of the controller. Raises
        PermissionDenied when they are not this process's, NotFound, Busy."""
        reply, payload = self.requester.request(Header(Op.TRANSLATE, va=va))
        pages, pa, generation, element, _ = wire.TRANSLATE_REPLY.unpack_from(payload)
        return Translation(reply.va, pages * PAGE_SIZE, element, pa, generation)

    def _moved(self, va: int, size: int) -> None:
        """What is cached of these addresses is out of date."""
        if self.translations is not None:
            self.translations.invalidate(va, size)

    def free(self, region: Region | int, size: int | None = None) -> None:
        """Free a region, or ``size`` bytes (whole pages; None: the whole allocation) at an address. Raises NotFound."""
        va, size = (region.va, region.size) if isinstance(region, Region) else (region, size)
        length = 0 if size is None else checked.freed(va, size, self.pid)
        arguments = self._packed(Op.FREE, va, wire.FREE_ARGS, va=va, size=length)
        budget = self.requester.policy.budget + length / ALLOCATED_A_SECOND
        self.requester.request(Header(Op.FREE, va=va, length=len(arguments)), arguments, budget)
        self._moved(va, length)

    def read(self, va: int, length: int) -> bytes:
        """Read ``length`` bytes."""
        batch = [(Header(Op.READ, va=a, length=n), b"") for a, n in self._touched(Op.READ, va, length)]
        data = b"".join(payload for _, payload in self.requester.requests(batch))
        self._count("read", len(batch), length)
        return data

    def write(self, va: int, data: bytes | memoryview) -> None:
        """Write bytes."""
        self.write_all([(va, data)])

    def write_all(self, writes: Iterable[tuple[int, bytes | memoryview]]) -> None:
        """Write bytes at several addresses, in order and pipelined like one write. Where they overlap the outcome is open."""
        batch, size = [], 0
        for va, data in writes:
            view = memoryview(data).cast("B")
            touched = self._touched(Op.WRITE, va, len(view))
            batch += [(Header(Op.WRITE, va=a, length=n), bytes(view[a - va : a - va + n])) for a, n in touched]
            size += len(view)
        self.requester.requests(batch)
        self._count("write", len(batch), size)

    def cas(self, va: int, expected: int, desired: int) -> int:
        """Compare and swap a 64-bit word (at a multiple of 8); the old value. It was swapped if that equals ``expected``."""
        words = self._packed(Op.CAS, va, wire.CAS_ARGS, expected=expected, desired=desired)
        _, payload = self.requester.request(Header(Op.CAS, va=va, length=8), words)
        self._count("cas", 1, 8)
        return int(wire.WORD.unpack_from(payload)[0])

    def fetch_add(self, va: int, addend: int) -> int:
        """Add to a 64-bit word (modulo 2^64, at a multiple of 8); the old value."""
        payload = wire.WORD.pack(addend % (1 << 64))
        _, reply = self.requester.request(Header(Op.FETCH_ADD, va=va, length=8), payload)
        self._count("fetch_add", 1, 8)
        return int(wire.WORD.unpack_from(reply)[0])

    def checksums(self, va: int, length: int) -> list[int]:
        """CRC-32 of the bytes, computed where they are: one for each page that the range touches."""
        batch = [(Header(Op.CHECKSUM, va=a, length=n), b"") for a, n in self._touched(Op.CHECKSUM, va, length)]
        self._count("checksum", len(batch), length)
        return [int(wire.WORD.unpack_from(payload)[0]) for _, payload in self.requester.requests(batch)]

    # ------------------------------------------------------------------------------------------------ memory changes hands

    def grant(self, region: Region, to: int, permissions: Perm = Perm.RW) -> None:
        """Give whole pages to process ``to``: it has them at the same addresses, with their contents, when this returns; its
        local OS tells it. Accesses of this process fail from then on. Raises PermissionDenied when they are not its own,
        NoSuchProcess, Busy, NotFound."""
        arguments = self._packed_pages(Op.GRANT, region, wire.GRANT_ARGS, to=to, permissions=permissions)
        self.requester.request(Header(Op.GRANT, va=region.va, length=len(arguments)), arguments)
        self._moved(region.va, region.size)

    def grant_async(self, region: Region, to: int, permissions: Perm = Perm.RW) -> Future[None]:
        """The same, in the background. This process must not access the pages meanwhile."""
        return self._background.submit(self.grant, region, to, permissions)

    def steal(
        self, region: Region, source: int, capability_: Capability, group: int, permissions: Perm = Perm.RW
    ) -> None:
        """Take whole pages of process ``source``, running or not, at the same addresses, with what its last acknowledged write
        put there. Raises NotReassignable, BadCapability, ExpiredCapability, NoSuchProcess, PermissionDenied, NotFound, Busy."""
        rest = {"source": source, "permissions": permissions, "group": group}
        arguments = self._packed_pages(Op.STEAL, region, wire.STEAL_ARGS, **rest) + capability.pack(capability_)
        self.requester.request(Header(Op.STEAL, va=region.va, length=len(arguments)), arguments)

    def take_address(self, address: str, group: int = 0, capability_: Capability | None = None) -> None:
        """Have a service address: what is sent there comes to this process's element when this returns. Members of ``group`` (0:
        nobody) may take it over. One that another process has needs a capability of the group that this other one named.
        Raises PermissionDenied, BadCapability, ExpiredCapability, BadRequest, AddressError."""
        number = int(IPv4Address(address))
        arguments = self._packed(Op.TAKE_ADDRESS, 0, wire.TAKE_ADDRESS_ARGS, address=number, group=group)
        arguments += b"" if capability_ is None else capability.pack(capability_)
        # First the interface, so that nothing arrives that nobody answers.
        addresses.add(address)
        self.requester.request(Header(Op.TAKE_ADDRESS, length=len(arguments)), arguments)

    def migrate(self, region: Region, target: int = 0) -> int:
        """Have whole pages of this process move to memory element ``target`` (0: the controller chooses), at the same addresses,
        while it goes on using them; how many have moved. Accesses to some of them take some milliseconds longer meanwhile.
        Raises PermissionDenied, NotFound, Busy, OutOfMemory; ElementFailed when one fails, the pages that had not moved are
        where they were then."""
        arguments = self._packed_pages(Op.MIGRATE, region, wire.MIGRATE_ARGS, target=target)
        budget = self.requester.policy.budget + region.size / PAGE_SIZE / MIGRATED_A_SECOND
        header = Header(Op.MIGRATE, va=region.va, length=len(arguments))
        _, payload = self.requester.request(header, arguments, budget)
        self._moved(region.va, region.size)
        return int(wire.WORD.unpack_from(payload)[0])

    def revoke(self, region: Region) -> None:
        """Give up access to whole pages of this process: nobody has any when this returns, no write that is on its way takes
        effect. Their contents are kept until they are freed. Raises PermissionDenied, NotFound, Busy."""
        arguments = self._packed_pages(Op.REVOKE, region, wire.REVOKE_ARGS)
        self.requester.request(Header(Op.REVOKE, va=region.va, length=len(arguments)), arguments)
        self._moved(region.va, region.size)

    def fence(self, element: str, token: str) -> None:
        """Fence an element off, at the Rack MMU and at the top-of-rack switch, in the name of an operator whose token this is:
        when this returns, nothing the element does has an effect. That concerns all its processes, so no capability of a group
        is enough. The token is sent in clear, on this element's link. Raises PermissionDenied, NotFound."""
        self._fence(element, token, True)

    def unfence(self, element: str, token: str) -> None:
        """Let a fenced element in again. Raises PermissionDenied, NotFound, Busy."""
        self._fence(element, token, False)

    def _fence(self, element: str, token: str, fenced: bool) -> None:
        name = checked.name_of(element, Op.FENCE, self.pid)
        arguments = self._packed(Op.FENCE, 0, wire.FENCE_ARGS, fenced=int(fenced), element=name) + token.encode()
        self.requester.request(Header(Op.FENCE, length=len(arguments)), arguments)

    def protect(self, region: Region, permissions: Perm) -> None:
        """Change what this process may do with whole pages of its own. Raises PermissionDenied, NotFound, Busy."""
        arguments = self._packed_pages(Op.PROTECT, region, wire.PROTECT_ARGS, permissions=permissions)
        self.requester.request(Header(Op.PROTECT, va=region.va, length=len(arguments)), arguments)
        self._moved(region.va, region.size)

    def stat(self, va: int) -> Stat:
        """What is at an address. Raises NotFound."""
        _, payload = self.requester.request(Header(Op.STAT, va=va))
        pages, generation, owner, element, group, permissions, media = wire.STAT_REPLY.unpack_from(payload)
        start = va - va % PAGE_SIZE
        return Stat(start, pages * PAGE_SIZE, owner, Perm(permissions), element, Media(media), group, generation)

    # ---------------------------------------------------------------------------------------------------------- standing by

    def watch(self, group: int, capability_: Capability, source: int = 0) -> int:
        """Stand by for process ``source`` (0: for every one with memory of the group): :meth:`on_takeover` tells when it is cut
        off from the rack for good. Its element is fenced when it falls silent, because somebody stands by. The number of the
        watch, which lasts as long as this process. Raises BadCapability, ExpiredCapability, NoSuchProcess, Busy."""
        arguments = self._packed(Op.WATCH, 0, wire.WATCH_ARGS, source=source, group=group)
        arguments += capability.pack(capability_)
        reply, _ = self.requester.request(Header(Op.WATCH, length=len(arguments)), arguments)
        return reply.va

    def unwatch(self, watch: int) -> None:
        """Stand by no longer. Raises NotFound."""
        self.requester.request(Header(Op.UNWATCH, va=watch))

    def stealable(self, source: int, group: int) -> tuple[Region, ...]:
        """What this process may steal of one that it stands by for: each region within one allocation. Raises
        PermissionDenied."""
        found: list[Region] = []
        arguments = self._packed(Op.RANGES, 0, wire.RANGES_ARGS, source=source, group=group)
        start = 0
        while True:
            header = Header(Op.RANGES, va=start, length=len(arguments))
            _, payload = self.requester.request(header, arguments)
            start, count = wire.RANGES_REPLY.unpack_from(payload)
            listed = payload[wire.RANGES_REPLY.size : wire.RANGES_REPLY.size + count * wire.RANGE.size]
            found += [Region(va, pages * PAGE_SIZE) for va, pages in wire.RANGE.iter_unpack(listed)]
            if not start:
                return tuple(found)

    def on_takeover(self, callback: Callable[[Takeover], None]) -> None:
        """Call this, in a thread of its own, when a process that this one stands by for has crashed or its element is fenced off:
        it can neither write memory nor send to other racks any more."""

        def told(notice: Notice) -> None:
            while True:
                try:
                    ranges = self.stealable(notice.about, notice.group)
                    break
                except (RequestTimeout, Busy):  # the controller may be away: this is not to be missed for that
                    if self._closed.wait(1):
                        return
            callback(Takeover(notice.about, notice.group, ranges))

        self.on_notice(told, {NotifyCode.TAKEOVER})

    # ---------------------------------------------------------------------------------------------------------- notices

    def on_notice(
        self, callback: Callable[[Notice], None], codes: Iterable[NotifyCode] = frozenset(NotifyCode)
    ) -> None:
        """Call this, in a thread of its own, for every notice of the local OS with one of these codes."""
        self._callbacks.append((frozenset(codes), callback))

    def on_failure(self, callback: Callable[[Notice], None]) -> None:
        """Call this for every notice that memory is lost to this process, or its element is."""
        self.on_notice(callback, FAILURES)

    def on_grant(self, callback: Callable[[Notice], None]) -> None:
        """Call this when another process has granted memory to this one."""
        self.on_notice(callback, {NotifyCode.GRANTED})

    def set_contacts(self, contacts: Iterable[Contact]) -> None:
        """Whom the local OS tells of failures as well, and of this process's end unless it closes; it keeps them when the process
        is gone. Raises LocalOsError."""
        if self._local_os is None:
            raise LocalOsError("the process has no local OS")
        message = {"contacts": [{"host": c.host, "port": c.port} for c in contacts]}
        try:
            self._local_os.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LocalOsError(f"the local OS cannot be told: {error.strerror}") from None

    @staticmethod
    def _say_closed(local_os: socket.socket) -> None:
        local_os.sendall(b'{"close": true}\n')
        local_os.shutdown(socket.SHUT_RDWR)

    def _say_closed_again(self) -> None:
        if self._run_dir is not None:
            with contextlib.suppress(OSError):
                again = self._join()
                if again is not None:
                    with again:
                        self._say_closed(again)

    def _listen(self) -> None:
        local_os = self._local_os
        while local_os is not None:
            with contextlib.suppress(OSError):
                for line in local_os.makefile("rb"):
                    self._deliver(line)
            local_os = self._rejoin()

    def _rejoin(self) -> socket.socket | None:
        """The local OS has gone; the data path works on without it. Wait for the one after it; None when there is no need to."""
        pause = REJOIN_PAUSE
        while self._run_dir is not None and not self._closed.wait(pause):
            try:
                joined = self._join()
            except OSError:
                pause = min(2 * pause, LONGEST_REJOIN_PAUSE)
                continue
            with self._joining:
                if not self._closed.is_set():
                    self._local_os = joined
                    return joined
            if joined is not None:  # it was closed meanwhile, and could not join again itself to say so
                with joined, contextlib.suppress(OSError):
                    self._say_closed(joined)
        return None

    def _join(self) -> socket.socket | None:
        """A new connection to the local OS; None when it does not know this process. Raises OSError when there is none."""
        assert self._run_dir is not None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self._run_dir / SOCKET_NAME))
            connection.sendall(json.dumps({"rejoin": self.pid}).encode() + b"\n")
            line = connection.makefile("rb", buffering=0).readline()
        except OSError:
            connection.close()
            raise
        if not line:
            connection.close()
            raise ConnectionResetError("the local OS hung up")
        if b'"pid"' in line:
            return connection
        log.warning("process %d: the local OS does not know it any more: %s", self.pid, line)
        connection.close()
        return None

    def _deliver(self, line: bytes) -> None:
        try:
            notice = Notice.from_json(line)
        except ValueError as error:
            log.warning("process %d: notice not understood: %s", self.pid, error)
            return
        self._moved(notice.va, notice.pages * PAGE_SIZE)
        for codes, callback in self._callbacks:
            if notice.code in codes:
                try:
                    callback(notice)
                except Exception:  # an application's fault must not cost it, or other callbacks, later notices
                    log.exception("process %d: callback for %s raised", self.pid, notice)

    # ------------------------------------------------------------------------------------------------------- statistics

    def _count(self, what: str, operations: int, size: int) -> None:
        self._counts[f"{what} operations"] += operations
        self._counts[f"{what} bytes"] += size

    def statistics(self) -> dict[str, Any]:
        """Operations (requests of one page) and bytes by kind, retries, refusals, timeouts."""
        traffic = self.requester.traffic
        cache = {} if self.translations is None else asdict(self.translations.use)
        return {
            **self._counts,
            **{f"translation {what}": count for what, count in cache.items()},
            "requests": traffic.requests,
            "retries": traffic.retries,
            "refusals": traffic.refusals,
            "timeouts": traffic.timeouts,
        }
