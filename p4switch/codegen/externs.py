"""C for v1model's extern functions and the methods of its extern instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p4switch.codegen import packing
from p4switch.codegen.arithmetic import Value
from p4switch.codegen.names import c_string, format_text
from p4switch.codegen.statements import PIPELINE, StatementGenerator
from p4switch.codegen.types import show
from p4switch.compiler import ir

_ALGORITHMS = ("crc32", "crc32_custom", "crc16", "crc16_custom", "random", "identity", "csum16", "xor16")
_PAYLOAD_LIMIT = 65536
BIT64 = ir.Bits(width=64)


@dataclass(frozen=True)
class Bytes:
    """A byte string in C: a pointer and a length in bytes."""

    pointer: str
    length: str
    capacity: int


class ExternGenerator(StatementGenerator):
    """Calls of externs."""

    def call_extern(self, statement: ir.CallExtern) -> None:
        """A call of an extern function or method."""
        if statement.foreign:
            self.refuse(
                f"extern {statement.name!r}", "it is none of v1model's, and the switch has no implementation of it"
            )
        if statement.result is not None:
            self.refuse(statement.name, "v1model's externs return nothing")
        if statement.instance is not None:
            self.call_method(statement.instance, statement.name, statement.args)
            return
        functions: dict[str, tuple[tuple[int, ...], Callable[[Sequence[ir.Expression]], None]]] = {
            "mark_to_drop": ((0, 1), self.mark_to_drop),
            "hash": ((5,), self.hash),
            "random": ((3,), self.random),
            "digest": ((2,), self.digest),
            "verify_checksum": ((4,), lambda a: self.verify_checksum(a, False)),
            "verify_checksum_with_payload": ((4,), lambda a: self.verify_checksum(a, True)),
            "update_checksum": ((4,), lambda a: self.update_checksum(a, False)),
            "update_checksum_with_payload": ((4,), lambda a: self.update_checksum(a, True)),
            "clone": ((2,), lambda a: self.clone(a, None)),
            "clone_preserving_field_list": ((3,), lambda a: self.clone(a[:2], a[2])),
            "resubmit_preserving_field_list": ((1,), lambda a: self.again("resubmit", a[0])),
            "recirculate_preserving_field_list": ((1,), lambda a: self.again("recirculate", a[0])),
            "truncate": ((1,), self.truncate),
            "assert": ((1,), lambda a: self.check("assert", a[0])),
            "assume": ((1,), lambda a: self.check("assume", a[0])),
            "log_msg": ((1, 2), self.log_msg),
        }
        if statement.name not in functions:
            known = ", ".join(functions)
            self.refuse(f"extern function {statement.name!r}", f"it is not supported; supported are {known}")
        counts, generate = functions[statement.name]
        self.arguments(statement.name, statement.args, counts)
        generate(statement.args)

    def arguments(self, name: str, args: Sequence[ir.Expression], counts: tuple[int, ...]) -> None:
        """Refuse a wrong number of arguments."""
        if len(args) not in counts:
            self.refuse(name, f"it takes {' or '.join(map(str, counts))} arguments, {len(args)} given")

    # --------------------------------------------------------------------------------------------------- forwarding

    def requests(self, name: str) -> str:
        """The prefix of a statement that records a request for the runtime."""
        if self.block == "function":
            return "if (rq != NULL) "
        if self.block not in PIPELINE:
            self.refuse(name, f"it is possible in ingress and egress, not in {self.block}")
        return ""

    def mark_to_drop(self, args: Sequence[ir.Expression]) -> None:
        """``mark_to_drop``: the drop port, and no multicast."""
        target = self.target(args[0]).code if args else "(*sm)"
        if args and not self.types.is_standard_metadata(args[0].type):
            self.refuse("mark_to_drop", f"it takes standard metadata, found {show(args[0].type)}")
        self.code(f"{target}.egress_spec = P4_DROP_PORT;", f"{target}.mcast_grp = 0;")
        where = f"{self.loc.file}:{self.loc.line}" if self.loc is not None else self.block
        self.trace("mark_to_drop", where)

    def trace(self, event: str, detail: str) -> None:
        """A line of the trace of packets."""
        self.code(f'if (P4_UNLIKELY(p4prog_tracing(env))) p4prog_trace(env, "{event}", {c_string(detail)});')

    def field_list(self, index: ir.Expression | None) -> int:
        """The number that this program gives a field list; 0 keeps nothing."""
        if index is None:
            return 0
        if not isinstance(index, ir.Const):
            self.refuse("field list", "its index must be a compile-time constant")
        return self.context.field_list_number.get(str(index.number), 0)

    def clone(self, args: Sequence[ir.Expression], index: ir.Expression | None) -> None:
        """``clone``; the last call of a packet counts."""
        when = self.requests("clone")
        session = self.as_bit32(args[1], "clone session")
        with self.code.block(when.strip()):
            self.code("rq->clone = true;", f"rq->clone_session = {session};")
            self.code(f"rq->clone_field_list = {self.field_list(index)}u;")

    def again(self, what: str, index: ir.Expression) -> None:
        """``resubmit`` and ``recirculate``."""
        when = self.requests(what)
        with self.code.block(when.strip()):
            self.code(f"rq->{what} = true;", f"rq->{what}_field_list = {self.field_list(index)}u;")

    def truncate(self, args: Sequence[ir.Expression]) -> None:
        """``truncate``: the smallest length of all calls counts."""
        when = self.requests("truncate")
        length = self.as_bit32(args[0], "length")
        with self.code.block(when.strip()):
            self.code(f"const uint32_t length = {length};")
            self.code("if (!rq->has_truncate || length < rq->truncate_length) rq->truncate_length = length;")
            self.code("rq->has_truncate = true;")

    def digest(self, args: Sequence[ir.Expression]) -> None:
        """``digest``: the fields as they are now, each in whole bytes."""
        data = args[1]
        index = next((i for i, d in enumerate(self.context.program.digests) if d.type == data.type), None)
        if index is None:
            self.refuse("digest", f"the program declares no digest of {show(data.type)}")
        with self.code.block():
            scalars = self.pack_scalars([v for v in self.flatten_values(data) if self.fixed(v, "digest")])
            slots, _, size = packing.byte_slots([w for w, _ in scalars])
            self.code(f"uint8_t message[{size or 1}] __attribute__((aligned(8)));")
            self.code.extend(
                packing.write(self.types, "message", list(zip(slots, [c for _, c in scalars], strict=True)))
            )
            self.code(f"p4prog_digest_send(env, {index}u, message);")

    def fixed(self, value: Value, what: str) -> bool:
        """Refuse varbits where sizes are fixed."""
        if isinstance(value.type, ir.Varbit):
            self.refuse(what, "a varbit is not possible in it")
        return True

    # ------------------------------------------------------------------------------------------------ data as bytes

    def flatten_values(self, expr: ir.Expression) -> list[Value]:
        """The scalars and varbits that an expression consists of, validity ignored."""
        if isinstance(expr, ir.StructExpr):
            return [value for f in expr.fields for value in self.flatten_values(f)]
        if isinstance(expr.type, ir.Struct | ir.Header):
            whole = self.path(expr)
            return [self.load(Value(code, type_)) for code, type_ in self.types.flatten(whole.type, whole.code)]
        value = self.path(expr) if isinstance(expr.type, ir.Varbit) else self.value(expr)
        if not isinstance(value.type, ir.Bits | ir.Bool | ir.Error | ir.Enum | ir.Varbit):
            self.refuse(f"value of {show(value.type)}", "it has no fixed layout in bytes")
        return [value]

    def data_bytes(self, expr: ir.Expression) -> Bytes:
        """The bits of an expression one after the other, zeros up to a whole byte: what hashes and checksums cover.

        An invalid header in it contributes nothing.
        """
        parts: list[tuple[str | None, Value]] = []
        self._data_parts(expr, None, parts)
        buffer = self.name("data")
        if all(when is None and not isinstance(v.type, ir.Varbit) for when, v in parts):
            scalars = self.pack_scalars([v for _, v in parts])
            slots, bits = packing.bit_slots([w for w, _ in scalars])
            size = (bits + 7) // 8
            self.code(f"uint8_t {buffer}[{size or 1}] __attribute__((aligned(8)));")
            self.code.extend(packing.write(self.types, buffer, list(zip(slots, [c for _, c in scalars], strict=True))))
            return Bytes(buffer, f"{size}u", size)
        limit = 0
        for _, v in parts:
            limit += v.type.max_width if isinstance(v.type, ir.Varbit) else self.types.scalar_width(v.type)
        position, size = self.name("bit"), (limit + 7) // 8 + 1
        self.code(f"uint8_t {buffer}[{size}] = {{0}};", f"uint32_t {position} = 0;")
        for when, value in parts:
            with self.code.block(f"if ({when})" if when else ""):
                if isinstance(value.type, ir.Varbit):
                    self.code(f"p4_put_bytes({buffer}, {position}, {value.code}.data, {value.code}.bits / 8);")
                    self.code(f"{position} += {value.code}.bits;")
                    continue
                ((width, code),) = self.pack_scalars([value])
                call = "p4_put_bits" if width <= 64 else "p4_put_bits128" if width <= 128 else "p4w_put"
                args = (
                    f"{buffer}, {position}, {width}u, {code}"
                    if width <= 128
                    else f"{code}.l, {buffer}, {position}, {width}u"
                )
                if width:
                    self.code(f"{call}({args});", f"{position} += {width}u;")
        return Bytes(buffer, f"(({position} + 7) / 8)", size)

    def _data_parts(self, expr: ir.Expression, when: str | None, parts: list[tuple[str | None, Value]]) -> None:
        if isinstance(expr, ir.StructExpr) and isinstance(expr.type, ir.Struct):
            for f in expr.fields:
                self._data_parts(f, when, parts)
        elif isinstance(expr.type, ir.Struct | ir.Header):
            self._place_parts(self.path(expr), when, parts)
        else:
            parts.extend((when, value) for value in self.flatten_values(expr))

    def _place_parts(self, place: Value, when: str | None, parts: list[tuple[str | None, Value]]) -> None:
        match place.type:
            case ir.Header():
                valid = f"{place.code}.valid"
                for code, type_ in self.types.flatten(place.type, place.code):
                    parts.append((valid, self.load(Value(code, type_))))
            case ir.Struct():
                for f in self.types.composite(place.type).fields:
                    self._place_parts(Value(f"{place.code}.{f.c_name}", f.type), when, parts)
            case ir.Bits() | ir.Bool() | ir.Error() | ir.Enum() | ir.Varbit():
                parts.append((when, self.load(place)))
            case _:
                self.refuse(f"value of {show(place.type)}", "it has no fixed layout in bytes")

    # ------------------------------------------------------------------------------------------- hashes and checksums

    def algorithm(self, expr: ir.Expression) -> str:
        """The name of a hash algorithm."""
        if not isinstance(expr, ir.Const) or not isinstance(expr.type, ir.Enum):
            self.refuse("hash algorithm", "it must be a constant of HashAlgorithm")
        members = self.types.enum_members(expr.type.name)
        self.constant(expr)
        name = members[expr.number]
        if name not in _ALGORITHMS:
            self.refuse(f"hash algorithm {name!r}", f"v1model has {', '.join(_ALGORITHMS)}")
        return name

    def digest_of(self, data: Bytes, algorithm: str, with_payload: bool) -> Value:
        """A variable with the raw hash of bytes, of 64 bits."""
        raw = self.name("raw")
        if algorithm == "csum16":
            total = f"p4_csum_add(0, {data.pointer}, {data.length}, false)"
            if with_payload:
                total = f"p4_csum_add({total}, rest->data, rest->length, {data.length} & 1)"
            self.code(f"const uint64_t {raw} = p4_csum_end({total});")
            return Value(raw, BIT64)
        pointer, length = data.pointer, data.length
        if with_payload:
            whole, size = self.name("whole"), self.name("size")
            self.code(f"uint8_t {whole}[{data.capacity + _PAYLOAD_LIMIT}];")
            self.code(f"const uint32_t {size} = rest->length < {_PAYLOAD_LIMIT}u ? rest->length : {_PAYLOAD_LIMIT}u;")
            self.code(f"memcpy({whole}, {pointer}, {length});", f"memcpy({whole} + {length}, rest->data, {size});")
            pointer, length = whole, f"{length} + {size}"
        name = f"P4PROG_HASH_{algorithm.upper()}"
        self.code(f"const uint64_t {raw} = p4prog_hash(env, {name}, {pointer}, {length});")
        return Value(raw, BIT64)

    def hash(self, args: Sequence[ir.Expression]) -> None:
        """``hash``: base + H(data) mod max; a max of zero gives base."""
        result, base, limit = self.target(args[0]), self.value(args[2]), self.value(args[4])
        type_ = args[0].type
        if not all(isinstance(t, ir.Bits) for t in (type_, base.type, limit.type)):
            self.refuse("hash", "its result, base and max are numbers")
        assert isinstance(type_, ir.Bits) and isinstance(limit.type, ir.Bits)
        with self.code.block():
            raw = self.digest_of(self.data_bytes(args[3]), self.algorithm(args[1]), False)
            wide = ir.Bits(width=max(64, limit.type.width))
            rest = self.arithmetic.binary("%", self.arithmetic.resize(raw, wide), self.arithmetic.resize(limit, wide))
            sum_ = self.arithmetic.binary("+", self.arithmetic.resize(base, type_), self.arithmetic.resize(rest, type_))
            self.store(result, Value(sum_.code, type_))

    def checksum_payload(self, with_payload: bool) -> None:
        """Refuse payload where there is none."""
        if with_payload and self.block not in ("verify_checksum", "compute_checksum"):
            self.refuse("checksum with payload", f"it is possible in the checksum controls, not in {self.block}")

    def verify_checksum(self, args: Sequence[ir.Expression], with_payload: bool) -> None:
        """``verify_checksum``: sets checksum_error when the checksum differs."""
        self.checksum_payload(with_payload)
        cond, found = self.typed(args[0], ir.Bool(), "condition"), self.value(args[2])
        if not isinstance(found.type, ir.Bits):
            self.refuse("checksum", f"it is a number, found {show(found.type)}")
        with self.code.block(f"if ({cond.code})"):
            raw = self.digest_of(self.data_bytes(args[1]), self.algorithm(args[3]), with_payload)
            right = self.arithmetic.resize(raw, found.type)
            self.code(f"if ({self.arithmetic.equal(right, found, negate=True).code}) sm->checksum_error = 1;")

    def update_checksum(self, args: Sequence[ir.Expression], with_payload: bool) -> None:
        """``update_checksum``."""
        self.checksum_payload(with_payload)
        cond = self.typed(args[0], ir.Bool(), "condition")
        type_ = args[2].type
        if not isinstance(type_, ir.Bits):
            self.refuse("checksum", f"it is a number, found {show(type_)}")
        with self.code.block(f"if ({cond.code})"):
            raw = self.digest_of(self.data_bytes(args[1]), self.algorithm(args[3]), with_payload)
            self.store(self.target(args[2]), self.arithmetic.resize(raw, type_))

    def random(self, args: Sequence[ir.Expression]) -> None:
        """``random``: evenly from lo to hi; lo when hi is less."""
        result, lo, hi = self.target(args[0]), self.value(args[1]), self.value(args[2])
        type_ = args[0].type
        if not isinstance(type_, ir.Bits):
            self.refuse("random", f"its result is a number, found {show(type_)}")
        self.expect(lo.type, type_, "lower bound of random")
        self.expect(hi.type, type_, "upper bound of random")
        if type_.width <= 64:
            call = f"p4_between(p4prog_random(env), {lo.code}, {hi.code})"
            self.store(result, Value(self.arithmetic.resize(Value(call, BIT64), type_).code, type_))
            return
        drawn = Value(self.temporary(Value("p4prog_random(env)", BIT64)), BIT64)
        for _ in range((type_.width - 1) // 64):
            more = self.temporary(Value("p4prog_random(env)", BIT64))
            drawn = self.arithmetic.concat(drawn, Value(more, BIT64))
        plain = ir.Bits(width=type_.width)
        drawn = Value(self.temporary(self.arithmetic.resize(drawn, plain)), plain)
        low, high = Value(lo.code, plain), Value(hi.code, plain)
        span = self.arithmetic.binary(
            "+", self.arithmetic.binary("-", high, low), self.arithmetic.constant(1, type_.width)
        )
        span = Value(self.temporary(span), plain)
        offset = self.arithmetic.binary("%", drawn, span)
        whole = self.arithmetic.equal(span, self.arithmetic.constant(0, type_.width))
        backwards = self.arithmetic.compare("<", high, low)
        zero = self.zero_value(plain)
        choice = f"({backwards.code} ? {zero} : {whole.code} ? {drawn.code} : {offset.code})"
        self.store(result, Value(self.arithmetic.binary("+", low, Value(choice, plain)).code, type_))

    # --------------------------------------------------------------------------------------------------- diagnostics

    def check(self, what: str, cond: ir.Expression) -> None:
        """``assert`` and ``assume``: a failure is logged, the packet goes on."""
        test = self.typed(cond, ir.Bool(), "condition")
        where = f" at {self.loc.file}:{self.loc.line}" if self.loc is not None else ""
        text = c_string(format_text(f"{what} failed{where}"))
        self.code(f"if (P4_UNLIKELY(!{test.code})) p4prog_log(env, {text});")

    def log_msg(self, args: Sequence[ir.Expression]) -> None:
        """``log_msg``: each ``{}`` stands for the next value."""
        if not isinstance(args[0], ir.StringConst):
            self.refuse("log_msg", "its format must be a string literal")
        pieces = args[0].value.split("{}")
        values = self.flatten_values(args[1]) if len(args) == 2 else []
        text = format_text(pieces[0])
        printed: list[str] = []
        for position, piece in enumerate(pieces[1:]):
            if position < len(values):
                conversion, codes = self.printable(values[position])
                text += conversion
                printed.extend(codes)
            else:
                text += "{}"
            text += format_text(piece)
        self.code(f"p4prog_log(env, {', '.join([c_string(text), *printed])});")

    def printable(self, value: Value) -> tuple[str, list[str]]:
        """A printf conversion and its arguments: decimal up to 64 bits, hexadecimal beyond."""
        self.fixed(value, "log_msg")
        type_ = value.type
        if not isinstance(type_, ir.Bits):
            return "%u", [f"(unsigned){value.code}"]
        if type_.width <= 64:
            whole = self.arithmetic.resize(value, ir.Bits(width=64, signed=type_.signed))
            return (
                ("%lld", [f"(long long){whole.code}"])
                if type_.signed
                else ("%llu", [f"(unsigned long long){whole.code}"])
            )
        whole = Value(self.temporary(value), type_)
        codes = []
        for high in range((type_.width - 1) // 64 * 64, -1, -64):
            part = self.arithmetic.slice(whole, min(high + 63, type_.width - 1), high)
            codes.append(f"(unsigned long long){part.code}")
        return "0x%llx" + "%016llx" * (len(codes) - 1), codes

    # ------------------------------------------------------------------------------------------------------- methods

    def call_method(self, instance: str, method: str, args: Sequence[ir.Expression]) -> None:
        """A method of an extern instance; in a function only when ingress or egress calls it."""
        with self.code.block(self.requests(f"{instance}.{method}").strip()):
            self.method(instance, method, args)

    def method(self, instance: str, method: str, args: Sequence[ir.Expression]) -> None:
        """The method itself."""
        kinds = ("counter", "direct_counter", "meter", "direct_meter", "register")
        index, extern = self.context.extern(instance, kinds, self.loc)
        key = (extern.kind, method)
        counts = {
            ("counter", "count"): 1,
            ("direct_counter", "count"): 0,
            ("meter", "execute_meter"): 2,
            ("direct_meter", "read"): 1,
            ("register", "read"): 2,
            ("register", "write"): 2,
        }
        if key not in counts:
            names = ", ".join(m for kind, m in counts if kind == extern.kind)
            self.refuse(f"{instance}.{method}", f"a {extern.kind} has {names}")
        self.arguments(f"{instance}.{method}", args, (counts[key],))
        if key == ("counter", "count"):
            self.code(f"p4prog_count(env, {index}u, {self.index64(self.value(args[0]))}, sm->packet_length);")
        elif key == ("meter", "execute_meter"):
            cell = self.index64(self.value(args[0]))
            self.store_colour(args[1], f"p4prog_meter(env, {index}u, {cell}, sm->packet_length)")
        elif key == ("direct_meter", "read"):
            owner = self.context.table_index.get(extern.table or "")
            self.store_colour(args[0], "0u" if owner is None else f"p4prog_direct_meter(env, {owner}u)")
        elif extern.kind == "register":
            self.register(index, extern, method, args)
        # A direct counter counts by itself, in the lookup.

    def store_colour(self, target: ir.Expression, code: str) -> None:
        """Store what a meter said: a number, or the member of an enum at its place."""
        colour = Value(self.temporary(Value(code, ir.Bits(width=32))), ir.Bits(width=32))
        if isinstance(target.type, ir.Enum):
            self.store(self.target(target), Value(colour.code, target.type))
            return
        if not isinstance(target.type, ir.Bits):
            self.refuse("meter", f"its result is a number, found {show(target.type)}")
        self.store(self.target(target), self.arithmetic.resize(colour, target.type))

    def register(self, index: int, extern: ir.Extern, method: str, args: Sequence[ir.Expression]) -> None:
        """``register.read`` and ``write``."""
        if extern.type is None:
            self.refuse(f"register {extern.name!r}", "it has no element type")
        read = method == "read"
        with self.code.block():
            value = self.name("value")
            given = self.typed(args[0 if read else 1], extern.type, "value of a register")
            self.code(f"{self.types.value_type(extern.type)} {value} = {given.code};")
            flat = [Value(code, type_) for code, type_ in self.types.flatten(extern.type, value)]
            scalars = self.pack_scalars([self.load(v) for v in flat if self.fixed(v, "register")])
            bits = sum(w for w, _ in scalars)
            size = (bits + 7) // 8
            slots, _ = packing.bit_slots([w for w, _ in scalars], 8 * size - bits)
            self.code(f"uint8_t cell[{size or 1}] __attribute__((aligned(8)));")
            codes = [c for _, c in scalars]
            # An index out of range leaves the destination as it is: what is read into holds its value already.
            self.code.extend(packing.write(self.types, "cell", list(zip(slots, codes, strict=True))))
            cell = self.index64(self.value(args[1 if read else 0]))
            self.code(f"p4prog_register_{method}(env, {index}u, {cell}, cell);")
            if read:
                for place, slot in zip(flat, slots, strict=True):
                    code = packing.read(self.types, "cell", slot, size)
                    self.code(f"{place.code} = {self.from_bits(code, place.type).code};")
                self.store(self.target(args[0]), Value(value, extern.type))
