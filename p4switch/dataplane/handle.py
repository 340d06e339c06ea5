"""What every part of the binding needs: the library, the switch, errors as exceptions, the loaded program's layout."""

from __future__ import annotations

from p4switch.dataplane.layout import Layout
from p4switch.dataplane.native import CData, ffi, library
from p4switch.dataplane.records import Code, DataplaneError


class Handle:
    """A switch of the runtime, None once it is closed. Raises :class:`DataplaneError` when there is no memory for one."""

    def __init__(self, cpu_port: int, drop_port: int, seed: int):
        self._lib = library()
        self._ffi = ffi()
        self._layout: Layout | None = None
        self._handle: CData = self._lib.p4dp_create(cpu_port, drop_port, seed)
        if not self._handle:
            raise DataplaneError(Code.NO_MEMORY, "no memory for a switch")

    def _check(self, code: int, what: str, message: CData = None) -> None:
        if code < 0:
            detail = self._ffi.string(message).decode(errors="replace") if message is not None else ""
            raise DataplaneError(Code(code), f"{what}: {detail or self.error_text(code)}")

    def error_text(self, code: int) -> str:
        """What a code means, in a few words."""
        return str(self._ffi.string(self._lib.p4dp_error_text(code)).decode())

    def check(self, code: int, what: str) -> None:
        """Raise :class:`DataplaneError` for a negative code."""
        self._check(code, what)

    @property
    def native(self) -> tuple[CData, CData, CData]:
        """cffi's interface, the runtime's library and the switch, for the other modules of this package."""
        return self._ffi, self._lib, self._switch

    @property
    def _switch(self) -> CData:
        if not self._handle:
            raise DataplaneError(Code.STATE, "the switch is closed")
        return self._handle

    @property
    def layout(self) -> Layout:
        """The loaded program. Raises :class:`DataplaneError` (STATE) when there is none."""
        if self._layout is None:
            raise DataplaneError(Code.STATE, "no program is loaded")
        return self._layout

    def _check_data(self, action: int, data: bytes) -> None:
        actions = self.layout.actions
        if action < len(actions) and len(data) != actions[action].params.size:
            raise ValueError(
                f"action {actions[action].name}: data has {actions[action].params.size} bytes, not {len(data)}"
            )
