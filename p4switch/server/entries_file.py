"""Files of P4Runtime updates, as p4c and ``compile --entries-out`` write them (specification, "P4Runtime Entries files")."""

from __future__ import annotations

from pathlib import Path

from finsy.proto import p4r
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from p4switch.server.device import Device
from p4switch.server.errors import Code, P4RuntimeError

TEXT = (".txt", ".txtpb", ".textproto")


def read(file: Path) -> p4r.WriteRequest:
    """A WriteRequest, as text (``.txt``, ``.txtpb``, ``.textproto``) or binary. Raises ValueError, OSError."""
    request = p4r.WriteRequest()
    try:
        if file.suffix in TEXT:
            text_format.Parse(file.read_text(), request)
        else:
            request.ParseFromString(file.read_bytes())
    except (text_format.ParseError, DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: no P4Runtime WriteRequest: {error}") from None
    return request


def install(device: Device, file: Path) -> int:
    """Carry out the updates of a file; returns their number. Raises ValueError for the first that is refused, OSError.

    A file may list what the program holds from the start: its const entries are left alone, its initial ones are set to what the
    file says.
    """
    request = read(file)
    results = device.write_entries([u for u in request.updates if not u.entity.table_entry.is_const])
    wanted = [u for u in request.updates if not u.entity.table_entry.is_const]
    for position, (update, error) in enumerate(zip(wanted, results, strict=True)):
        if error is not None and error.code is Code.ALREADY_EXISTS:
            error = _replace(device, update)
        if error is not None:
            raise ValueError(f"{file}, update {position}: {error}")
    return len(request.updates)


def _replace(device: Device, update: p4r.Update) -> P4RuntimeError | None:
    changed = p4r.Update()
    changed.CopyFrom(update)
    changed.type = p4r.Update.MODIFY
    return device.write_entries([changed])[0]
