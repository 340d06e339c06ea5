"""Tables against a naive model: a Python list that is searched from end to end."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p4switch.dataplane.binding import Code, DataplaneError, Entry, Op, Switch, Update
from p4switch.dataplane.layout import Field, MatchKind
from tests.p4switch.dataplane.conftest import Bench, Looked

TABLES = ["exact", "wide", "long", "tiny", "lpm", "lpm_exact", "lpm_odd", "ternary", "range"]


@dataclass(frozen=True)
class ModelEntry:
    values: tuple[int, ...]
    masks: tuple[int, ...]
    priority: int
    value: int
    order: int


def field_matches(field: Field, value: int, mask: int, key: int) -> bool:
    if field.kind == MatchKind.RANGE:
        return value <= key <= mask
    return (key & mask) == value


def model_lookup(fields: Sequence[Field], entries: Sequence[ModelEntry], key: tuple[int, ...]) -> ModelEntry | None:
    """Priority first, then (tables without priorities) the longest prefix, then the oldest."""
    found = [e for e in entries if all(map(field_matches, fields, e.values, e.masks, key))]

    def rank(entry: ModelEntry) -> tuple[int, int, int]:
        prefix = sum(m.bit_count() for f, m in zip(fields, entry.masks, strict=True) if f.kind == MatchKind.LPM)
        return entry.priority, prefix if entry.priority == 0 else 0, -entry.order

    return max(found, key=rank, default=None)


@st.composite
def key_value(draw: st.DrawFn, field: Field) -> int:
    """Few distinct values, so that entries overlap and lookups hit; sometimes any value."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.integers(0, field.maximum))
    small = draw(st.integers(0, 3))
    return small | (draw(st.integers(0, 3)) << max(field.width - 2, 0)) & field.maximum


@st.composite
def match(draw: st.DrawFn, field: Field) -> tuple[int, int]:
    value = draw(key_value(field)) & field.maximum
    if field.kind == MatchKind.EXACT:
        return value, field.maximum
    if field.kind == MatchKind.RANGE:
        other = draw(key_value(field)) & field.maximum
        return min(value, other), max(value, other)
    if field.kind == MatchKind.LPM:
        length = draw(st.one_of(st.integers(0, field.width), st.sampled_from([0, 1, 8, field.width])))
        mask = field.maximum ^ (field.maximum >> min(length, field.width))
    elif field.kind == MatchKind.OPTIONAL:
        mask = draw(st.sampled_from([0, field.maximum]))
    else:
        mask = (
            draw(st.sampled_from([0, 1, 3, field.maximum, field.maximum ^ 1, 3 << (field.width - 2)])) & field.maximum
        )
    return value & mask, mask


@st.composite
def scenario(
    draw: st.DrawFn, fields: Sequence[Field], has_priority: bool
) -> list[tuple[str, tuple[tuple[int, int], ...], int]]:
    """Steps: ("insert", matches, priority), ("delete", ...), ("modify", ...), ("look", values, 0)."""
    one_match = st.tuples(*[match(f) for f in fields])
    one_key = st.tuples(*[key_value(f).map(lambda v, f=f: (v & f.maximum, 0)) for f in fields])  # type: ignore[misc]
    priority = st.integers(1, 5) if has_priority else st.just(0)
    change = st.tuples(st.sampled_from(["insert", "insert", "insert", "delete", "modify"]), one_match, priority)
    look = st.tuples(st.just("look"), one_key, st.just(0))
    return draw(st.lists(st.one_of(change, change, look), min_size=1, max_size=60))


@pytest.mark.parametrize("name", TABLES)
def test_against_model(name: str, program_file: Path) -> None:
    with Switch(seed=3) as switch:
        layout = switch.load(program_file)
        table = layout.tables[name]
        fields = table.keys.fields

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(scenario(fields, table.has_priority))
        def run(steps: list[tuple[str, tuple[tuple[int, int], ...], int]]) -> None:
            bench = Bench(switch, switch.load(program_file))
            entries: list[ModelEntry] = []
            known: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
            for number, (step, pairs, priority) in enumerate(steps):
                values, masks = tuple(v for v, _ in pairs), tuple(m for _, m in pairs)
                if step != "insert" and step != "look" and known and number % 3:
                    values, masks, priority = known[number % len(known)]
                if step == "look":
                    expected = model_lookup(fields, entries, values)
                    looked = bench.lookup(name, *values)
                    assert looked == (Looked(True, 1, expected.value) if expected else Looked(False, 0, 0))
                    continue
                same = [e for e in entries if (e.values, e.masks, e.priority) == (values, masks, priority)]
                op = {"insert": Op.INSERT, "delete": Op.DELETE, "modify": Op.MODIFY}[step]
                result = bench.apply(bench.update(op, name, values, masks, number, priority))
                if step == "insert":
                    assert result.code == (Code.EXISTS if same else Code.OK)
                    if not same:
                        entries.append(ModelEntry(values, masks, priority, number, number))
                        known.append((values, masks, priority))
                    continue
                assert result.code == (Code.OK if same else Code.NOT_FOUND)
                for entry in same:
                    at = entries.index(entry)
                    changed = ModelEntry(entry.values, entry.masks, entry.priority, number, entry.order)
                    entries[at : at + 1] = [changed] if step == "modify" else []
            stored = {
                (table.keys.unpack(e.key), table.keys.unpack(e.mask), e.priority) for e in switch.entries(table.index)
            }
            assert stored == {(e.values, e.masks, e.priority) for e in entries}
            assert switch.entry_count(table.index) == len(entries)
            # Every entry's own lowest key is looked up too, so that no example is without hits.
            for entry in entries:
                expected = model_lookup(fields, entries, entry.values)
                assert expected is not None
                assert bench.lookup(name, *entry.values) == Looked(True, 1, expected.value)

        run()


def snapshot(switch: Switch, tables: Sequence[int]) -> list[Entry]:
    """Everything a table holds, without the time since the last hit."""
    held = [e for t in tables for e in switch.entries(t)] + [switch.default_entry(t) for t in tables]
    return sorted((replace(e, since_hit_ns=0) for e in held), key=lambda e: (e.handle, e.key, e.mask, e.priority))


@pytest.mark.parametrize("name", ["exact", "lpm", "ternary", "range"])
def test_all_or_none(name: str, program_file: Path) -> None:
    """A batch that fails leaves everything as it was: entries, data, handles and counters."""
    with Switch(seed=4) as switch:
        table = switch.load(program_file).tables[name]
        fields = table.keys.fields
        priority = st.integers(1, 3) if table.has_priority else st.just(0)
        few = st.tuples(*[match(f) for f in fields])
        operations = st.sampled_from([Op.INSERT, Op.MODIFY, Op.DELETE, Op.SET_DEFAULT, Op.RESET_DEFAULT])

        @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(few, priority), min_size=1, max_size=8), st.data())
        def run(entries: list[tuple[tuple[tuple[int, int], ...], int]], data: st.DataObject) -> None:
            bench = Bench(switch, switch.load(program_file))

            def update(op: Op, which: tuple[tuple[tuple[int, int], ...], int], value: int) -> Update:
                pairs, rank = which
                values, masks = tuple(v for v, _ in pairs), tuple(m for _, m in pairs)
                return bench.update(op, name, values, masks, value, rank)

            switch.apply([update(Op.INSERT, e, n) for n, e in enumerate(entries)])
            for pairs, _ in entries:
                bench.lookup(name, *[v for v, _ in pairs])
            before = snapshot(switch, [table.index])
            steps = data.draw(st.lists(st.tuples(operations, st.sampled_from(entries)), min_size=1, max_size=10))
            batch = [update(op, which, 100 + n) for n, (op, which) in enumerate(steps)]
            results = switch.apply(batch, all_or_none=True)
            codes = [r.code for r in results]
            if all(code == Code.OK for code in codes):
                # The same batch with a failure at its end is taken back completely.
                before = snapshot(switch, [table.index])
                held = list(switch.entries(table.index))
                batch = [Update(Op.DELETE, table.index, e.key, e.mask, e.priority) for e in held]
                batch += [
                    update(Op.INSERT, entries[0], 7),
                    update(Op.MODIFY, entries[0], 8),
                    update(Op.DELETE, entries[0], 9),
                ]
                batch += [update(Op.SET_DEFAULT, entries[0], 10), replace(batch[-1], table=99)]
                codes = [r.code for r in switch.apply(batch, all_or_none=True)]
            failed = next(n for n, code in enumerate(codes) if code != Code.OK)
            assert codes[failed] in (Code.EXISTS, Code.NOT_FOUND, Code.INVALID)
            assert all(code == Code.STATE for code in codes[failed + 1 :])
            assert snapshot(switch, [table.index]) == before

        run()


@pytest.mark.parametrize("name", ["exact", "lpm", "ternary", "range"])
def test_transaction(name: str, program_file: Path) -> None:
    """Changes of several calls are taken back to a mark, in whatever order they came; what is before the mark stays."""
    with Switch(seed=5) as switch:
        table = switch.load(program_file).tables[name]
        fields = table.keys.fields
        priority = st.integers(1, 3) if table.has_priority else st.just(0)
        few = st.tuples(st.tuples(*[match(f) for f in fields]), priority)
        operations = st.sampled_from([Op.INSERT, Op.INSERT, Op.MODIFY, Op.DELETE, Op.SET_DEFAULT, Op.RESET_DEFAULT])

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(few, min_size=1, max_size=5), st.data())
        def run(entries: list[tuple[tuple[tuple[int, int], ...], int]], data: st.DataObject) -> None:
            bench = Bench(switch, switch.load(program_file))
            steps = data.draw(st.lists(st.tuples(operations, st.sampled_from(entries)), min_size=2, max_size=12))
            batches = [
                [bench.update(op, name, tuple(v for v, _ in pairs), tuple(m for _, m in pairs), n, rank)]
                for n, (op, (pairs, rank)) in enumerate(steps)
            ]
            kept = data.draw(st.integers(0, len(batches)))
            with switch.transaction() as mark:
                for batch in batches[:kept]:
                    switch.apply(batch)
                between = snapshot(switch, [table.index])
                undo = mark()
                for batch in batches[kept:]:
                    switch.apply(batch, all_or_none=data.draw(st.booleans()))
                undo()
                assert snapshot(switch, [table.index]) == between
            assert snapshot(switch, [table.index]) == between
            assert switch.entry_count(table.index) == len(list(switch.entries(table.index)))

        run()


def test_transaction_holds_packets_up(bench: Bench) -> None:
    """Nobody else gets in meanwhile, and everybody does afterwards."""
    done = threading.Event()
    other = threading.Thread(target=lambda: (bench.switch.inject(0, bytes(64)), done.set()))
    with bench.switch.transaction():
        other.start()
        assert not done.wait(0.1)
        bench.switch.inject(0, bytes(64))  # its own thread does
    assert done.wait(60)
    other.join()


def test_transactions_do_not_nest(bench: Bench, program_file: Path) -> None:
    with bench.switch.transaction(), pytest.raises(DataplaneError), bench.switch.transaction():
        pass
    bench.switch.load(program_file)
    with Switch() as empty, pytest.raises(DataplaneError) as caught, empty.transaction():
        pass
    assert caught.value.code is Code.STATE


def test_adopt(bench: Bench, program_file: Path) -> None:
    """A program moves with everything it holds; the other switch is left without."""
    bench.apply(bench.update(Op.INSERT, "exact", (1,), value=5))
    with Switch() as other:
        other.load(program_file)
        before = snapshot(bench.switch, [t.index for t in bench.layout.tables.values()])
        layout = other.adopt(bench.switch)
        assert snapshot(other, [t.index for t in layout.tables.values()]) == before
        moved = Bench(other, layout)
        assert moved.lookup("exact", 1).data == 5
        with pytest.raises(DataplaneError):
            bench.switch.inject(0, bytes(64))
        with pytest.raises(DataplaneError):
            other.adopt(bench.switch)
        assert moved.lookup("exact", 1).data == 5


@pytest.mark.parametrize("name", ["exact", "lpm", "ternary"])
def test_many_entries(bench: Bench, name: str) -> None:
    """30,000 entries in and out; what they cost is measured by `make bench`."""
    table = bench.table(name)
    count = 30_000

    def updates(op: Op) -> None:
        for chunk in range(0, count, 3000):
            batch = []
            for n in range(chunk, chunk + 3000):
                if name == "exact":
                    batch.append(bench.update(op, name, (n * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF,), None, n))
                elif name == "lpm":
                    length = 8 + n % 25
                    mask = 0xFFFFFFFF ^ (0xFFFFFFFF >> length)
                    value = (n * 0x9E3779B1) & mask
                    batch.append(bench.update(op, name, (value,), (mask,), n))
                else:
                    mask = 0xFFFFFFFF ^ (1 << n % 16)
                    batch.append(bench.update(op, name, (n << 16 & mask | n >> 16, 0), (mask, 0), n, priority=n + 1))
            results = bench.switch.apply(batch)
            expected = {Code.OK} if name != "lpm" else {Code.OK, Code.EXISTS, Code.NOT_FOUND}
            assert {r.code for r in results} <= expected

    updates(Op.INSERT)
    stored = bench.switch.entry_count(table.index)
    assert stored == count or (name == "lpm" and stored > 20_000)
    assert bench.switch.table_bytes(table.index) < stored * 600
    updates(Op.DELETE)
    assert bench.switch.entry_count(table.index) == 0


@pytest.mark.parametrize("name", ["ternary", "range"])
def test_many_masks_against_model(bench: Bench, name: str) -> None:
    """More entries than a block of bit vectors has, with random masks and ranges, on the way up and down again."""
    rng = random.Random(name)
    table = bench.table(name)
    fields = table.keys.fields
    entries: dict[tuple[tuple[int, ...], tuple[int, ...], int], ModelEntry] = {}

    def random_match(field: Field) -> tuple[int, int]:
        value = rng.getrandbits(field.width)
        if field.kind == MatchKind.RANGE:
            return value, min(field.maximum, value + rng.choice([0, 1, 7, 15, 16, 40, 300, 5000, field.maximum]))
        if field.kind == MatchKind.EXACT:
            return value & 3, field.maximum
        if field.kind == MatchKind.LPM:
            mask = field.maximum ^ (field.maximum >> rng.randrange(field.width + 1))
        elif field.kind == MatchKind.OPTIONAL:
            mask = rng.choice([0, 0, field.maximum])
        else:
            mask = rng.getrandbits(field.width) & rng.getrandbits(field.width) & rng.getrandbits(field.width)
        return value & mask, mask

    def check(count: int) -> None:
        for _ in range(count):
            key = tuple(rng.getrandbits(f.width) & (3 if f.kind == MatchKind.EXACT else f.maximum) for f in fields)
            if rng.random() < 0.7 and entries:  # near an entry
                values, masks, _ = rng.choice(list(entries))
                key = tuple(
                    rng.choice([v, m]) if f.kind == MatchKind.RANGE else v | (k & ~m)
                    for f, v, m, k in zip(fields, values, masks, key, strict=True)
                )
            expected = model_lookup(fields, list(entries.values()), key)
            assert bench.lookup(name, *key) == (Looked(True, 1, expected.value) if expected else Looked(False, 0, 0))

    for number in range(1400):
        pairs = [random_match(f) for f in fields]
        values, masks = tuple(v for v, _ in pairs), tuple(m for _, m in pairs)
        priority = rng.randrange(1, 40)
        if (values, masks, priority) in entries:
            continue
        assert bench.apply(bench.update(Op.INSERT, name, values, masks, number, priority)).code == Code.OK
        entries[values, masks, priority] = ModelEntry(values, masks, priority, number, number)
        if number % 100 == 99:
            check(20)
    while entries:
        for which in rng.sample(list(entries), min(len(entries), 200)):
            assert bench.apply(bench.update(Op.DELETE, name, which[0], which[1], 0, which[2])).code == Code.OK
            del entries[which]
        check(20)
