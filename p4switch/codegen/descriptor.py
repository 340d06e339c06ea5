"""C for the descriptor: what a program tells the runtime about its tables, actions, externs, digests and value sets."""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.codegen import packing
from p4switch.codegen.code import Code
from p4switch.codegen.context import Context
from p4switch.codegen.errors import CodegenError
from p4switch.codegen.names import c_string
from p4switch.codegen.types import show
from p4switch.compiler import ir

_HASHES = ("crc32", "crc32_custom", "crc16", "crc16_custom", "random", "identity", "csum16", "xor16")


def to_bytes(numbers: Sequence[tuple[int, int]]) -> bytes:
    """(number, width in bits) pairs one after the other, each in whole bytes, network byte order."""
    return b"".join((n & ((1 << w) - 1)).to_bytes((w + 7) // 8, "big") for n, w in numbers)


def byte_array(data: bytes) -> str:
    """A C initialiser of bytes; at least one."""
    return "{" + ", ".join(str(b) for b in data or b"\0") + "}"


class DescriptorGenerator:
    """Writes the arrays of the descriptor."""

    def __init__(self, context: Context, code: Code):
        self.context = context
        self.types = context.types
        self.program = context.program
        self.code = code

    def generate(self, max_header_bytes: int) -> None:
        """All arrays, and ``p4prog_main``."""
        actions = self.array(
            "p4prog_action", "actions", [self.action(i, n) for i, n in enumerate(self.context.action_names)]
        )
        tables = self.array("p4prog_table", "tables", [self.table(i, t) for i, t in enumerate(self.program.tables)])
        externs = self.array("p4prog_extern", "externs", [self.extern(e) for e in self.program.externs])
        digests = self.array(
            "p4prog_digest", "digests", [self.digest(i, d) for i, d in enumerate(self.program.digests)]
        )
        sets = [self.value_set(i, v) for i, v in enumerate(self.program.value_sets)]
        value_sets = self.array("p4prog_value_set", "value_sets", sets)
        with self.code.block('__attribute__((visibility("default"))) const p4prog_program p4prog_main =', "};"):
            self.code(".abi_version = P4PROG_ABI_VERSION,", f".name = {c_string(self.program.name)},")
            for name, (pointer, count) in {
                "actions": actions,
                "tables": tables,
                "externs": externs,
                "digests": digests,
                "value_sets": value_sets,
                "errors": ("error_names", len(self.program.errors)),
            }.items():
                self.code(f".{name} = {pointer}, .n_{name} = {count},")
            self.code(".ctx_size = sizeof(p4_ctx),", f".max_header_bytes = {max_header_bytes},")
            self.code(".parse = parse, .ingress = ingress, .egress = egress, .deparse = deparse,")
            self.code(".copy_field_list = copy_field_list, .reset_metadata = reset_metadata,")

    def array(self, c_type: str, name: str, items: Sequence[str]) -> tuple[str, int]:
        """A constant array; returns its name, or NULL when it is empty, and its length."""
        if not items:
            return "NULL", 0
        with self.code.block(f"static const {c_type} {name}[] =", "};"):
            for item in items:
                self.code(f"{item},")
        return name, len(items)

    def width(self, type_: ir.Type, what: str, loc: ir.Location | None = None) -> int:
        """Bits of a scalar of the control plane."""
        if not isinstance(type_, ir.Bits | ir.Bool | ir.Error | ir.Enum):
            raise CodegenError(what, f"the control plane has no values of type {show(type_)}", loc)
        return self.types.scalar_width(type_)

    def action(self, index: int, name: str) -> str:
        """A row of actions."""
        declaration = next(a for a in self.program.actions if a.name == name)
        data = [p for p in declaration.params if p.direction == "data"]
        widths = [self.width(p.type, f"parameter {p.name!r} of action {name!r}", declaration.loc) for p in data]
        _, offsets, size = packing.byte_slots(widths)
        rows = [f"{{{c_string(p.control_name)}, {w}, {o}}}" for p, w, o in zip(data, widths, offsets, strict=True)]
        params, count = self.array("p4prog_param", f"params_{index}", rows)
        return f"{{{c_string(name)}, {params}, {count}, {size}}}"

    def keys(self, name: str, fields: Sequence[ir.KeyField], what: str) -> tuple[str, int, int]:
        """An array of key fields; returns its name, its length and the size of a key in bytes."""
        widths = [self.width(f.type, f"key {f.name!r} of {what}") for f in fields]
        _, offsets, size = packing.byte_slots(widths)
        rows = [
            f"{{{c_string(f.name)}, {w}, {o}, P4PROG_{f.kind.upper()}}}"
            for f, w, o in zip(fields, widths, offsets, strict=True)
        ]
        pointer, count = self.array("p4prog_key_field", name, rows)
        return pointer, count, size

    # ----------------------------------------------------------------------------------------------------------- tables

    def action_data(self, call: ir.ActionCallConst, table: ir.Table) -> bytes:
        """The action data of constant arguments."""
        action = self.context.action(table.control, call.action, table.loc)
        data = [p for p in action.params if p.direction == "data"]
        if len(data) != len(call.args):
            what = f"action {call.action!r} in table {table.name!r}"
            raise CodegenError(what, f"it takes {len(data)} arguments, {len(call.args)} given", table.loc)
        numbers = []
        for p, argument in zip(data, call.args, strict=True):
            if argument.type != p.type:
                what = f"argument {p.name!r} of {call.action!r} in table {table.name!r}"
                raise CodegenError(what, f"it is {show(argument.type)}, expected {show(p.type)}", table.loc)
            numbers.append((argument.number, self.width(p.type, f"parameter {p.name!r}")))
        return to_bytes(numbers)

    def action_number(self, call: ir.ActionCallConst, table: ir.Table) -> int:
        """The index of an action that must be among the table's."""
        if all(ref.name != call.action for ref in table.actions):
            names = ", ".join(ref.name for ref in table.actions)
            raise CodegenError(f"action {call.action!r}", f"table {table.name!r} has {names}", table.loc)
        return self.context.action_index[call.action]

    def table(self, index: int, table: ir.Table) -> str:
        """A row of tables."""
        keys, n_keys, key_size = self.keys(f"keys_{index}", table.keys, f"table {table.name!r}")
        numbers = [str(self.context.action_index[ref.name]) for ref in table.actions]
        actions, n_actions = self.array("uint32_t", f"table_actions_{index}", numbers)
        default = self.action_number(table.default_action, table)
        default_data = byte_array(self.action_data(table.default_action, table))
        self.code(f"static const uint8_t default_data_{index}[] = {default_data};")
        entries, n_entries = self.entries(index, table)
        attached = (
            self.attached(table.implementation, ("action_profile", "action_selector"), table),
            self.attached(table.counter, ("direct_counter",), table),
            self.attached(table.meter, ("direct_meter",), table),
        )
        return (
            f"{{{c_string(table.name)}, {keys}, {n_keys}, {key_size}, {actions}, {n_actions}, {table.size & 0xFFFFFFFF}u, "
            f"{default}, default_data_{index}, {_bool(table.const_default)}, {entries}, {n_entries}, "
            f"{_bool(table.const_entries)}, {', '.join(map(str, attached))}, {_bool(table.idle_timeout)}}}"
        )

    def attached(self, name: str | None, kinds: tuple[str, ...], table: ir.Table) -> int:
        """The index of an extern that belongs to a table, -1 for none."""
        return -1 if name is None else self.context.extern(name, kinds, table.loc)[0]

    def entries(self, index: int, table: ir.Table) -> tuple[str, int]:
        """Const and initial entries."""
        rows = []
        exact = all(field.kind == "exact" for field in table.keys)
        for position, entry in enumerate(table.entries):
            key, mask = self.entry_key(table, entry)
            names = {}
            for part, data in (("key", key), ("mask", mask), ("data", self.action_data(entry.action, table))):
                names[part] = f"entry_{part}_{index}_{position}"
                if part != "mask" or not exact:
                    self.code(f"static const uint8_t {names[part]}[] = {byte_array(data)};")
            if exact:
                names["mask"] = "NULL"
            action = self.action_number(entry.action, table)
            if not -(1 << 31) <= entry.priority < 1 << 31:
                raise CodegenError(
                    f"entry of table {table.name!r}", f"priority {entry.priority} is no int32", entry.loc
                )
            rows.append(
                f"{{{names['key']}, {names['mask']}, {names['data']}, {action}, {entry.priority}, {_bool(entry.is_const)}}}"
            )
        return self.array("p4prog_entry", f"entries_{index}", rows)

    def entry_key(self, table: ir.Table, entry: ir.Entry) -> tuple[bytes, bytes]:
        """Key and mask of an entry; the mask of a range is its upper bound, of a selector field nothing."""
        fields = table.keys
        keys: list[ir.Keyset] = list(entry.keys)
        if len(keys) != len(fields):
            supplied = iter(keys)
            keys = [ir.AnyKey() if f.kind == "selector" else next(supplied, ir.AnyKey()) for f in fields]
            if len(entry.keys) != sum(f.kind != "selector" for f in fields):
                what = f"entry of table {table.name!r}"
                raise CodegenError(what, f"it has {len(entry.keys)} keys, the table {len(fields)}", entry.loc)
        values, masks = [], []
        for field, key in zip(fields, keys, strict=True):
            width = self.width(field.type, f"key {field.name!r} of table {table.name!r}")
            value, mask = self.entry_field(table, entry, field, key, width)
            values.append((value, width))
            masks.append((mask, width))
        return to_bytes(values), to_bytes(masks)

    def entry_field(
        self, table: ir.Table, entry: ir.Entry, field: ir.KeyField, key: ir.Keyset, width: int
    ) -> tuple[int, int]:
        """Value and mask, or lower and upper bound, of one field of an entry."""
        ones = (1 << width) - 1
        what = f"key {field.name!r} of an entry of table {table.name!r}"
        match key:
            case ir.AnyKey() if field.kind != "exact":
                return 0, ones if field.kind == "range" else 0
            case ir.ValueKey(value=value):
                self.check_key(value, field, what, entry)
                number = value.number & ones
                return number, number if field.kind == "range" else ones
            case ir.MaskKey(value=value, mask=mask) if field.kind in ("ternary", "lpm"):
                self.check_key(value, field, what, entry)
                number = mask.number & ones
                if field.kind == "lpm" and (~number & ones) & ((~number & ones) + 1):
                    raise CodegenError(what, "the mask of an lpm key is a prefix", entry.loc)
                return value.number & number, number
            case ir.RangeKey(lo=lo, hi=hi) if field.kind == "range":
                self.check_key(lo, field, what, entry)
                self.check_key(hi, field, what, entry)
                return lo.number & ones, hi.number & ones
        raise CodegenError(what, f"{type(key).__name__} is not possible for a {field.kind} field", entry.loc)

    @staticmethod
    def check_key(value: ir.Const, field: ir.KeyField, what: str, entry: ir.Entry) -> None:
        """Refuse a constant of another type."""
        if value.type != field.type:
            raise CodegenError(what, f"it is {show(value.type)}, expected {show(field.type)}", entry.loc)

    # ------------------------------------------------------------------------------------------------------------ others

    def extern(self, extern: ir.Extern) -> str:
        """A row of externs."""
        unit = (extern.unit or "packets").upper()
        width = 0
        if extern.type is not None:
            flat = [t for _, t in self.types.flatten(extern.type, "")]
            width = sum(self.width(t, f"register {extern.name!r}") for t in flat)
        algorithm = extern.algorithm or "crc32"
        if algorithm not in _HASHES:
            raise CodegenError(
                f"{extern.kind} {extern.name!r}", f"algorithm {algorithm!r} is none of {', '.join(_HASHES)}"
            )
        if not 0 <= extern.size < 1 << 32:
            raise CodegenError(f"{extern.kind} {extern.name!r}", f"its size {extern.size} is not from 0 to 2^32 - 1")
        return (
            f"{{{c_string(extern.name)}, P4PROG_{extern.kind.upper()}, UINT64_C({extern.size}), P4PROG_{unit}, {width}, "
            f"P4PROG_HASH_{algorithm.upper()}, {extern.width & 0xFFFFFFFF}u}}"
        )

    def digest(self, index: int, digest: ir.Digest) -> str:
        """A row of digests."""
        names = self.field_names(digest.type, "")
        widths = [self.width(t, f"digest {digest.name!r}") for _, t in names]
        _, offsets, size = packing.byte_slots(widths)
        rows = [f"{{{c_string(n)}, {w}, {o}}}" for (n, _), w, o in zip(names, widths, offsets, strict=True)]
        fields, count = self.array("p4prog_param", f"digest_fields_{index}", rows)
        return f"{{{c_string(digest.name)}, {size}, {fields}, {count}}}"

    def field_names(self, type_: ir.Type, prefix: str) -> list[tuple[str, ir.Type]]:
        """Dotted names and types of the scalars in a value."""
        if isinstance(type_, ir.Struct | ir.Header):
            result = []
            for f in self.types.composite(type_).fields:
                result.extend(self.field_names(f.type, f"{prefix}.{f.name}" if prefix else f.name))
            return result
        return [(prefix, type_)]

    def value_set(self, index: int, value_set: ir.ValueSet) -> str:
        """A row of value sets."""
        what = f"value set {value_set.name!r}"
        keys, count, size = self.keys(f"value_set_keys_{index}", value_set.fields, what)
        return f"{{{c_string(value_set.name)}, {keys}, {count}, {size}, {value_set.size & 0xFFFFFFFF}u}}"


def _bool(value: bool) -> str:
    return "true" if value else "false"
