"""P4Info from the IR, with p4c's ids, aliases and order (P4Runtime specification, section 6).

An id is a type prefix and 24 bits of a hash of the name, so that it stays the same while the program changes elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from finsy.proto import p4i
from finsy.proto import p4t as types_pb
from google.protobuf import text_format

from p4switch.compiler import ir

PREFIX = {
    "action": 0x01,
    "table": 0x02,
    "value_set": 0x03,
    "controller_header": 0x04,
    "action_profile": 0x11,
    "counter": 0x12,
    "direct_counter": 0x13,
    "meter": 0x14,
    "direct_meter": 0x15,
    "register": 0x16,
    "digest": 0x17,
}
_MATCH = {
    "exact": p4i.MatchField.EXACT,
    "lpm": p4i.MatchField.LPM,
    "ternary": p4i.MatchField.TERNARY,
    "range": p4i.MatchField.RANGE,
    "optional": p4i.MatchField.OPTIONAL,
}
_HEADER = "# proto-file: p4/config/v1/p4info.proto\n# proto-message: p4.config.v1.P4Info\n\n"
# Annotations that P4Info carries in other ways, or that only steer the compiler.
_HIDDEN = frozenset(("name", "id", "brief", "description", "defaultonly", "tableonly", "match"))
_PACKAGE = ("name", "version", "organization", "contact", "url")
_PLATFORM = (
    "multicast_group_table_size",
    "multicast_group_table_total_replicas",
    "multicast_group_table_max_replicas_per_entry",
)


def jenkins_one_at_a_time(name: str) -> int:
    """The 32-bit hash of a name's bytes from which ids are made."""
    h = 0
    for byte in name.encode():
        h = (h + byte) & 0xFFFFFFFF
        h = (h + (h << 10)) & 0xFFFFFFFF
        h ^= h >> 6
    h = (h + (h << 3)) & 0xFFFFFFFF
    h ^= h >> 11
    return (h + (h << 15)) & 0xFFFFFFFF


def build(program: ir.Program) -> p4i.P4Info:
    """The P4Info of a program."""
    return _Builder(program).build()


def to_text(info: p4i.P4Info) -> str:
    """P4Info as protobuf text, with p4c's heading."""
    return _HEADER + str(text_format.MessageToString(info))


def _note(notes: Iterable[ir.Annotation], name: str) -> ir.Annotation | None:
    return next((a for a in notes if a.name == name), None)


def _string(note: ir.Annotation) -> str:
    return (note.body or "").strip().strip('"')


def _pairs(note: ir.Annotation | None) -> list[tuple[str, str]]:
    """``key = value, ...`` in the body of an annotation."""
    parts = (part.partition("=") for part in ((note.body if note else None) or "").split(","))
    return [(key.strip(), value.strip()) for key, _, value in parts if value.strip()]


def _structured(target: Any, note: ir.Annotation) -> None:
    """A structured annotation (P4Runtime specification, section 6.1.3)."""

    def fill(expression: Any, value: str | bool | int) -> None:
        if isinstance(value, str):
            expression.string_value = value
        elif isinstance(value, bool):
            expression.bool_value = value
        else:
            expression.int64_value = value

    target.name = note.name
    if isinstance(note.values, dict):
        for key, value in note.values.items():
            pair = target.kv_pair_list.kv_pairs.add(key=key)
            fill(pair.value, value)
    for value in note.values or [] if isinstance(note.values, list) else []:
        fill(target.expression_list.expressions.add(), value)


_SELECTOR_NOTES = frozenset({"max_group_size", "selector_size_semantics", "max_member_weight"})  # they have fields


def _controlled_actions(program: ir.Program) -> tuple[set[str], set[str]]:
    """Names of the actions of tables, and of those that a control calls directly.

    An action that only other actions call is part of them (p4c inlines it).
    """
    in_tables = {ref.name for table in program.tables for ref in table.actions}
    called: set[str] = set()
    for control in (
        program.ingress,
        program.egress,
        program.verify_checksum,
        program.compute_checksum,
        program.deparser,
    ):
        called |= {node.action for node in ir.walk(control.body) if isinstance(node, ir.CallAction)}
    variants = {action.name: action.variant_of for action in program.actions}
    return in_tables, {variants.get(name) or name for name in called}


class _Builder:
    def __init__(self, program: ir.Program):
        self.program = program
        self.info = p4i.P4Info()
        self.enums = {e.name: e for e in program.enums}
        self.new_types = {n.name: n for n in program.new_types}
        self.structs = {s.name: s for s in program.structs}
        self.headers = {h.name: h for h in program.headers}
        self.actions: dict[str, ir.Action] = {}
        self.table_actions, called = _controlled_actions(program)
        for action in program.actions:
            if action.name in self.table_actions | called and _note(action.annotations, "hidden") is None:
                self.actions.setdefault(action.name, action)
        self.tables = [table for table in program.tables if not _hidden(table)]
        self.externs = [
            extern
            for extern in program.externs
            if _note(extern.annotations, "hidden") is None
            and not (extern.kind.startswith("direct_") and extern.table is None)  # p4c drops those of no table
        ]
        self.ids = self._assign_ids()
        self.aliases = self._assign_aliases()

    # ------------------------------------------------------------------------------------------------------------- ids

    def _entities(self) -> list[tuple[str, str, list[ir.Annotation], str]]:
        """(type, name, annotations, name that is hashed) of everything with an id."""
        program = self.program
        result = [("table", x.name, x.annotations, x.name) for x in self.tables]
        result += [("action", x.name, x.annotations, x.name) for x in self.actions.values()]
        for extern in self.externs:
            kind = "action_profile" if extern.kind == "action_selector" else extern.kind
            result.append((kind, extern.name, extern.annotations, extern.name))
        result += [("value_set", x.name, x.annotations, x.name) for x in program.value_sets]
        result += [("digest", x.name, x.annotations, x.name) for x in program.digests]
        for header in program.controller_headers:
            result.append(("controller_header", header.name, [], self._header_name(header)))
        return result

    def _header_name(self, header: ir.ControllerHeader) -> str:
        return self.headers[header.header].source_name or header.header

    def _assign_ids(self) -> dict[tuple[str, str], int]:
        ids: dict[tuple[str, str], int] = {}
        taken: set[int] = set()
        rest = []
        for kind, name, notes, hashed in self._entities():
            note = _note(notes, "id")
            if note is None:
                rest.append((kind, name, hashed))
                continue
            number = int((note.body or "0").strip(), 0)
            number = number if number >> 24 else PREFIX[kind] << 24 | number
            ids[kind, name] = number
            taken.add(number)
        for kind, name, hashed in sorted(rest, key=lambda e: e[2].encode()):
            h = jenkins_one_at_a_time(hashed)
            while (PREFIX[kind] << 24 | h & 0xFFFFFF) in taken:
                h = (h + 1) & 0xFFFFFFFF
            number = PREFIX[kind] << 24 | h & 0xFFFFFF
            ids[kind, name] = number
            taken.add(number)
        return ids

    def _assign_aliases(self) -> dict[str, str]:
        """The shortest dot-suffix that no other name shares."""
        names = {name for _, name, _, _ in self._entities()}
        suffixes: dict[str, set[str]] = {}
        for name in names:
            parts = name.split(".")
            for i in range(len(parts)):
                suffixes.setdefault(".".join(parts[i:]), set()).add(name)
        aliases = {}
        for name in names:
            parts = name.split(".")
            candidates = [".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)]
            aliases[name] = next((c for c in candidates if len(suffixes[c]) == 1), name)
        return aliases

    def _preamble(self, target: Any, kind: str, name: str, notes: list[ir.Annotation]) -> None:
        preamble = target.preamble
        preamble.id, preamble.name, preamble.alias = self.ids[kind, name], name, self.aliases[name]
        self._annotate(preamble, notes)

    @staticmethod
    def _annotate(target: Any, notes: list[ir.Annotation]) -> None:
        for note in notes:
            if note.name in ("brief", "description") and hasattr(target, "doc"):
                setattr(target.doc, note.name, _string(note))
            elif note.name in _HIDDEN or note.name == "source_name":
                continue
            elif note.values is not None:
                _structured(target.structured_annotations.add(), note)
            else:
                target.annotations.append(f"@{note.name}" + (f"({note.body})" if note.body is not None else ""))

    # ----------------------------------------------------------------------------------------------------------- tables

    def build(self) -> p4i.P4Info:
        """All parts."""
        info = self.info
        info.pkg_info.arch = self.program.arch
        self._package_info()
        for table in self.tables:
            self._table(info.tables.add(), table)
        for action in self.actions.values():
            self._action(info.actions.add(), action)
        for extern in self.externs:
            self._extern(extern)
        for header in self.program.controller_headers:
            self._controller_header(info.controller_packet_metadata.add(), header)
        for value_set in self.program.value_sets:
            self._value_set(info.value_sets.add(), value_set)
        for digest in self.program.digests:
            message = info.digests.add()
            self._preamble(message, "digest", digest.name, [])
            self._type_spec(message.type_spec, digest.type, None)
        info.type_info.SetInParent()
        return info

    def _package_info(self) -> None:
        """``@pkginfo`` and ``@platform_property`` of the package, and its other annotations."""
        info, notes = self.info.pkg_info, self.program.annotations
        for key, value in _pairs(_note(notes, "pkginfo")):
            if key in _PACKAGE:
                setattr(info, key, value.strip('"'))
        for key, value in _pairs(_note(notes, "platform_property")):
            if key in _PLATFORM:
                setattr(info.platform_properties, key, int(value, 0))
        self._annotate(info, [note for note in notes if note.name not in ("pkginfo", "platform_property")])

    def _table(self, message: Any, table: ir.Table) -> None:
        self._preamble(message, "table", table.name, table.annotations)
        for position, key in enumerate(table.keys, 1):
            if key.kind == "selector":
                continue
            field = message.match_fields.add()
            field.id = self._explicit_id(key.annotations, position)
            field.name = key.name
            field.match_type = _MATCH[key.kind]
            field.bitwidth = self._width(key.type, key.type_name)
            self._type_name(field, key.type_name)
            self._annotate(field, key.annotations)
        for ref in table.actions:
            if ref.name not in self.actions:
                continue
            action = message.action_refs.add()
            action.id = self.ids["action", ref.name]
            if ref.default_only:
                action.scope = p4i.ActionRef.DEFAULT_ONLY
                action.annotations.append("@defaultonly")
            elif ref.table_only:
                action.scope = p4i.ActionRef.TABLE_ONLY
                action.annotations.append("@tableonly")
            self._annotate(action, ref.annotations)
        self._default_action(message, table)
        if table.implementation:
            message.implementation_id = self.ids["action_profile", table.implementation]
        for kind, name in (("direct_counter", table.counter), ("direct_meter", table.meter)):
            if name:
                message.direct_resource_ids.append(self.ids[kind, name])
        message.size = table.size
        if table.idle_timeout:
            message.idle_timeout_behavior = p4i.Table.NOTIFY_CONTROL
        if table.entries or table.const_entries:
            message.is_const_table = table.const_entries
            message.has_initial_entries = bool(table.entries)

    def _default_action(self, message: Any, table: ir.Table) -> None:
        default = table.default_action
        number = self.ids.get(("action", default.action))
        if number is None:
            return
        if table.const_default:
            message.const_default_action_id = number
        initial = message.initial_default_action
        initial.action_id = number
        params = [p for p in self.actions[default.action].params if p.direction == "data"]
        for position, (value, param) in enumerate(zip(default.args, params, strict=True), 1):
            argument = initial.arguments.add()
            argument.param_id = self._explicit_id(param.annotations, position)
            width = self._width(value.type, None)
            argument.value = (value.number & ((1 << width) - 1)).to_bytes(max(1, (width + 7) // 8), "big")

    @staticmethod
    def _explicit_id(notes: list[ir.Annotation], position: int) -> int:
        note = _note(notes, "id")
        return position if note is None else int((note.body or "0").strip(), 0)

    def _width(self, type_: ir.Type, type_name: str | None) -> int:
        """P4Info's bit width; 0 for types that are translated to strings."""
        new = self.new_types.get(type_name or "")
        if new is not None and new.translation is not None:
            return new.translation[1]
        if isinstance(type_, ir.Bits):
            return type_.width
        return 1 if isinstance(type_, ir.Bool) else 32

    def _type_name(self, message: Any, name: str | None) -> None:
        if name is None:
            return
        if name in self.new_types:
            message.type_name.name = name
            self._note_new_type(self.new_types[name])
        elif name in self.enums and self.enums[name].underlying is not None:
            self._note_enum(self.enums[name])

    def _action(self, message: Any, action: ir.Action) -> None:
        self._preamble(message, "action", action.name, action.annotations)
        # Where only the program calls it, it gives all arguments itself.
        data = [p for p in action.params if p.direction == "data" and action.name in self.table_actions]
        for position, param in enumerate(data, 1):
            target = message.params.add()
            target.id = self._explicit_id(param.annotations, position)
            target.name = param.control_name
            target.bitwidth = self._width(param.type, param.type_name)
            self._type_name(target, param.type_name)
            self._annotate(target, param.annotations)

    # ---------------------------------------------------------------------------------------------------------- externs

    def _extern(self, extern: ir.Extern) -> None:
        info, name, notes = self.info, extern.name, extern.annotations
        message: Any
        if extern.kind in ("counter", "direct_counter"):
            message = info.counters.add() if extern.kind == "counter" else info.direct_counters.add()
            message.spec.unit = {
                "packets": p4i.CounterSpec.PACKETS,
                "bytes": p4i.CounterSpec.BYTES,
                "packets_and_bytes": p4i.CounterSpec.BOTH,
            }[extern.unit or "packets"]
        elif extern.kind in ("meter", "direct_meter"):
            message = info.meters.add() if extern.kind == "meter" else info.direct_meters.add()
            message.spec.unit = p4i.MeterSpec.BYTES if extern.unit == "bytes" else p4i.MeterSpec.PACKETS
        elif extern.kind == "register":
            message = info.registers.add()
            assert extern.type is not None
            self._type_spec(message.type_spec, extern.type, extern.type_name)
        else:
            message = info.action_profiles.add()
            tables = [t.name for t in self.tables if t.implementation == name]
            message.table_ids.extend(self.ids["table", t] for t in tables)
            if extern.kind == "action_selector":
                message.with_selector = True
                limit = _note(notes, "max_group_size")
                message.max_group_size = int((limit.body or "0").strip(), 0) if limit else 0
                semantics, weight = _note(notes, "selector_size_semantics"), _note(notes, "max_member_weight")
                if semantics is not None and _string(semantics) == "sum_of_members":
                    message.sum_of_members.SetInParent()
                    if weight is not None:
                        message.sum_of_members.max_member_weight = int((weight.body or "0").strip(), 0)
                elif semantics is not None:
                    message.sum_of_weights.SetInParent()
            notes = [note for note in notes if note.name not in _SELECTOR_NOTES]
        kind = "action_profile" if extern.kind == "action_selector" else extern.kind
        self._preamble(message, kind, name, notes)
        if extern.kind in ("direct_counter", "direct_meter"):
            if extern.table is not None:
                message.direct_table_id = self.ids["table", extern.table]
        else:
            message.size = extern.size
        if extern.index_type_name is not None and hasattr(message, "index_type_name"):
            message.index_type_name.name = extern.index_type_name
            if extern.index_type_name in self.new_types:
                self._note_new_type(self.new_types[extern.index_type_name])

    def _controller_header(self, message: Any, header: ir.ControllerHeader) -> None:
        composite = self.headers[header.header]
        message.preamble.id = self.ids["controller_header", header.name]
        message.preamble.name = message.preamble.alias = header.name
        self._annotate(message.preamble, composite.annotations)
        for position, (name, field) in enumerate(self._leaves(composite, ""), 1):
            target = message.metadata.add()
            target.id = self._explicit_id(field.annotations, position)
            target.name = name
            target.bitwidth = self._width(field.type, field.type_name)
            self._type_name(target, field.type_name)
            self._annotate(target, field.annotations)

    def _leaves(self, composite: ir.Composite, prefix: str) -> Iterator[tuple[str, ir.Field]]:
        """The fields of a header, those of its structs by their paths."""
        for field in composite.fields:
            if isinstance(field.type, ir.Struct):
                yield from self._leaves(self.structs[field.type.name], f"{prefix}{field.name}.")
            else:
                yield prefix + field.name, field

    def _value_set(self, message: Any, value_set: ir.ValueSet) -> None:
        self._preamble(message, "value_set", value_set.name, value_set.annotations)
        for position, key in enumerate(value_set.fields, 1):
            field = message.match.add()
            field.id = self._explicit_id(key.annotations, position)
            field.name = key.name
            field.bitwidth = self._width(key.type, key.type_name)
            field.match_type = _MATCH[key.kind]
            self._type_name(field, key.type_name)
            self._annotate(field, key.annotations)
        message.size = value_set.size

    # ------------------------------------------------------------------------------------------------------------ types

    def _type_spec(self, spec: Any, type_: ir.Type, type_name: str | None) -> None:
        if type_name in self.new_types:
            spec.new_type.name = type_name
            self._note_new_type(self.new_types[type_name])
            return
        if type_name in self.enums:
            enum = self.enums[type_name]
            if enum.underlying is not None:
                spec.serializable_enum.name = type_name
                self._note_enum(enum)
                return
        match type_:
            case ir.Bits(width=width, signed=signed):
                (spec.bitstring.int if signed else spec.bitstring.bit).bitwidth = width
            case ir.Varbit(max_width=width):
                spec.bitstring.varbit.max_bitwidth = width
            case ir.Bool():
                spec.bool.SetInParent()
            case ir.Error():
                spec.error.SetInParent()
                if not self.info.type_info.HasField("error"):
                    self.info.type_info.error.members.extend(self.program.errors)
            case ir.Enum(name=name):
                spec.enum.name = name
                for member in self.enums[name].members:
                    if member not in [m.name for m in self.info.type_info.enums[name].members]:
                        self.info.type_info.enums[name].members.add(name=member)
            case ir.Header(name=name):
                spec.header.name = name
                self._note_composite(self.info.type_info.headers, self.headers[name])
            case ir.Struct(name=name):
                composite = self.structs[name]
                if composite.source_name is None:  # a tuple
                    for field in composite.fields:
                        self._type_spec(spec.tuple.members.add(), field.type, field.type_name)
                    return
                spec.struct.name = name
                self._note_composite(self.info.type_info.structs, composite)
            case _:
                raise ValueError(f"P4Info has no type for {type_}")

    def _note_composite(self, container: Any, composite: ir.Composite) -> None:
        if composite.name in container:
            return
        target = container[composite.name]
        for field in composite.fields:
            member = target.members.add()
            member.name = field.name
            if isinstance(member.type_spec, types_pb.P4BitstringLikeTypeSpec):
                assert isinstance(field.type, ir.Bits)
                (member.type_spec.int if field.type.signed else member.type_spec.bit).bitwidth = field.type.width
            else:
                self._type_spec(member.type_spec, field.type, field.type_name)

    def _note_enum(self, enum: ir.EnumDecl) -> None:
        container = self.info.type_info.serializable_enums
        if enum.name in container or enum.underlying is None:
            return
        target = container[enum.name]
        target.underlying_type.bitwidth = enum.underlying.width
        size = max(1, (enum.underlying.width + 7) // 8)
        for member, value in zip(enum.members, enum.values, strict=True):
            target.members.add(
                name=member, value=(int(value) & ((1 << enum.underlying.width) - 1)).to_bytes(size, "big")
            )

    def _note_new_type(self, new: ir.NewType) -> None:
        container = self.info.type_info.new_types
        if new.name in container:
            return
        target = container[new.name]
        self._annotate(target, [note for note in new.annotations if note.name != "p4runtime_translation"])
        if new.translation is None:
            self._type_spec(target.original_type, new.base, None)
            return
        uri, width = new.translation
        target.translated_type.uri = uri
        if width:
            target.translated_type.sdn_bitwidth = width
        else:
            target.translated_type.sdn_string.SetInParent()


def _hidden(table: ir.Table) -> bool:
    return _note(table.annotations, "hidden") is not None
