"""Flow analysis of expressions: what they read, what their calls write, what a condition says about headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from p4switch.compiler import ast
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.source_text import text_of
from p4switch.compiler.warn import shapes as s
from p4switch.compiler.warn.names import LoopVar, Names, children, silenced
from p4switch.compiler.warn.shapes import Record, Shapes, Stack
from p4switch.compiler.warn.state import Place, State, Validity, is_invalid, is_valid, join_branches

MAX_STEPS = 50_000  # statements and calls followed in one block; beyond it nothing is said of the block

Report = Callable[[str, Loc, str], None]


class TooLarge(Exception):
    """The block takes too long to follow."""


def span(expr: ast.Expr) -> Loc:
    """The place of a whole path such as ``a.b[1].c``: from its first character to the end of its last name."""
    end = expr.loc
    start = expr
    while isinstance(start, ast.Dot | ast.IndexExpr | ast.SliceExpr):
        start = start.base
    first = start.loc
    if isinstance(start, ast.Call):
        return expr.loc
    if (first.file, first.line) != (end.file, end.line):
        return first
    return Loc(first.file, first.line, first.column, max(end.column + end.length - first.column, 1))


class Values:
    """Evaluates expressions over ``state``, which is None where no path leads. Statements are in a later part."""

    def __init__(self, names: Names, shapes: Shapes, report: Report):
        self.names = names
        self.shapes = shapes
        self._report = report
        self.state: State | None = State()
        self.quiet = 0
        self.steps = 0
        self.muted: list[str] = []

    def report(self, kind: str, loc: Loc, message: str) -> None:
        """Warn, unless this pass only looks for a fixed point or ``@noWarn`` stands around it."""
        if not self.quiet and kind not in self.muted:
            self._report(kind, loc, message)

    def step(self) -> None:
        """Count the work. Raises TooLarge."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise TooLarge

    @contextmanager
    def silently(self) -> Iterator[None]:
        """Without reports."""
        self.quiet += 1
        try:
            yield
        finally:
            self.quiet -= 1

    @contextmanager
    def inside(self, declaration: ast.Declaration) -> Iterator[None]:
        """Within a declaration, whose ``@noWarn("kind")`` hold for all in it."""
        kinds = silenced(declaration.annotations)
        self.muted += kinds
        try:
            yield
        finally:
            del self.muted[len(self.muted) - len(kinds) :]

    # ---------------------------------------------------------------------------------------------------------- places

    def places(self, expr: ast.Expr) -> list[Place]:
        """Where the l-value may lie: one place, or all that an unknown index may mean; none for other expressions."""
        match expr:
            case ast.Name():
                declaration = self.names.of(expr)
                return [(id(declaration),)] if isinstance(declaration, ast.VarDecl | ast.ParamDecl | LoopVar) else []
            case ast.Dot(base=base, member=member):
                shape = self.shapes.of(base)
                if isinstance(shape, Record) and member in shape.fields:
                    return [(*p, member) for p in self.places(base)]
                if isinstance(shape, Stack) and member in ("next", "last"):
                    return [(*p, i) for p in self.places(base) for i in range(shape.size)]
            case ast.IndexExpr(base=base, index=index):
                shape = self.shapes.of(base)
                if not isinstance(shape, Stack):
                    return self.places(base)
                at = self.shapes.constant(index)
                indices = range(shape.size) if at is None else [at] if 0 <= at < shape.size else []
                return [(*p, i) for p in self.places(base) for i in indices]
            case ast.SliceExpr(base=base):
                return self.places(base)
        return []

    def written(self, places: list[Place], shape: s.Shape) -> None:
        """All leaves of the places have a value now."""
        if self.state is not None and self.state.unwritten:
            for place in places:
                self.state.unwritten.difference_update((*place, *leaf) for leaf in shape.leaves)

    def fresh(self, declaration: ast.Declaration, unwritten: bool, validity: Validity) -> None:
        """A variable or parameter comes into being."""
        if self.state is None:
            return
        place: Place = (id(declaration),)
        shape = self.shapes.of_declaration(declaration)
        for leaf in shape.leaves:
            if unwritten:
                self.state.unwritten.add((*place, *leaf))
            else:
                self.state.unwritten.discard((*place, *leaf))
        self.set_all([place], shape, validity)

    def set_all(self, places: list[Place], shape: s.Shape, validity: Validity) -> None:
        """The validity of all headers in the places."""
        if self.state is not None:
            for header in shape.headers:
                for place in places:
                    self.state.validity[(*place, *header)] = validity

    def set_header(self, expr: ast.Expr, validity: Validity) -> None:
        """The validity of one header; in a union the others are then invalid."""
        if self.state is None:
            return
        places = self.places(expr)
        if len(places) > 1 and validity is not Validity.YES:
            validity = Validity.UNKNOWN
        if isinstance(expr, ast.Dot):
            union = self.shapes.of(expr.base)
            if isinstance(union, Record) and union.kind == "header_union":
                others = Validity.NO if len(places) == 1 else Validity.UNKNOWN
                self.set_all([p[:-1] for p in places], union, others)
        self.set_all(places, self.shapes.of(expr), validity)

    def copy_validity(self, target: list[Place], shape: s.Shape, value: ast.Expr | None) -> None:
        """An assignment of ``value`` to ``target`` makes headers in it valid or invalid."""
        if self.state is None or not shape.headers:
            return
        match value:
            case ast.InvalidExpr():
                self.set_all(target, shape, Validity.NO if len(target) == 1 else Validity.UNKNOWN)
                return
            case ast.RecordExpr() | ast.ListExpr() if isinstance(shape, Record) and shape.kind == "header":
                self.set_all(target, shape, Validity.YES)
                return
            case ast.RecordExpr(fields=fields) if isinstance(shape, Record):
                for name, part in fields:
                    if name in shape.fields:
                        self.copy_validity([(*p, name) for p in target], shape.fields[name], part)
                return
            case ast.ListExpr(items=items) if isinstance(shape, Record):
                for name, part in zip(shape.fields, items, strict=False):
                    self.copy_validity([(*p, name) for p in target], shape.fields[name], part)
                return
            case ast.Name() | ast.Dot() | ast.IndexExpr():
                self.copy_places(target, shape, self.places(value))
                return
        self.set_all(target, shape, Validity.UNKNOWN)

    def copy_places(self, target: list[Place], shape: s.Shape, source: list[Place]) -> None:
        """The headers of ``target`` become what those of ``source`` are."""
        if self.state is None:
            return
        for header in shape.headers:
            found = {self.state.of((*p, *header)) for p in source}
            validity = found.pop() if len(found) == 1 and len(target) == 1 else Validity.UNKNOWN
            for place in target:
                self.state.validity[(*place, *header)] = validity

    # ----------------------------------------------------------------------------------------------------------- reads

    def read(self, expr: ast.Expr | None) -> None:
        """Evaluate an expression."""
        if expr is None or self.state is None:
            return
        match expr:
            case ast.Name() | ast.Dot() | ast.IndexExpr() | ast.SliceExpr():
                self.read_path(expr)
            case ast.Call():
                self.call(expr)
            case ast.BinaryExpr(op="&&" | "||") | ast.Ternary():
                self.read_condition(expr)
            case _:
                for part in children(expr):
                    if isinstance(part, ast.Expr):
                        self.read(part)

    def read_condition(self, expr: ast.BinaryExpr | ast.Ternary) -> None:
        """An expression of which a part is not always evaluated."""
        before = self.state
        assert before is not None
        if isinstance(expr, ast.Ternary):
            yes, no = self.condition(expr.cond)
            self.state = yes
            self.read(expr.then)
            yes, self.state = self.state, no
            self.read(expr.otherwise)
            no = self.state
        else:
            yes, no = self.condition(expr)
        self.state = join_branches(before, yes, no)

    def read_path(self, expr: ast.Expr) -> None:
        """Read an l-value, or a member or index of a value."""
        self.follow(expr)
        places = self.places(expr)
        if not places or self.state is None:
            return
        upcoming = self.next_element(expr)
        if upcoming is not None:
            self.report(
                "uninitialized-use", span(upcoming), f"'{text_of(upcoming)}' is read before anything was put there"
            )
            return
        shape = self.shapes.of(expr.base if isinstance(expr, ast.SliceExpr) else expr)
        missing = [leaf for leaf in shape.leaves if all(self._unwritten(p, leaf, expr) for p in places)]
        if not missing:
            return
        text = text_of(expr)
        if missing == [()]:
            self.report("uninitialized-use", span(expr), f"'{text}' may not have a value yet")
        else:
            parts = ", ".join(".".join(map(str, leaf)) for leaf in missing[:4])
            parts += ", ..." if len(missing) > 4 else ""
            self.report("uninitialized-use", span(expr), f"parts of '{text}' may not have a value yet: {parts}")

    def next_element(self, expr: ast.Expr) -> ast.Expr | None:
        """``stack.next`` in a path."""
        part: ast.Expr = expr
        while isinstance(part, ast.Dot | ast.IndexExpr | ast.SliceExpr):
            if isinstance(part, ast.Dot) and part.member == "next" and isinstance(self.shapes.of(part.base), Stack):
                return part
            part = part.base
        return None

    def _unwritten(self, place: Place, leaf: s.Path, expr: ast.Expr) -> bool:
        """Whether a leaf may lack a value; one of a header that a copy finds invalid does not count."""
        assert self.state is not None
        full = (*place, *leaf)
        if full not in self.state.unwritten:
            return False
        return not leaf or is_valid(self.state.validity.get(full[:-1], Validity.YES))

    def follow(self, expr: ast.Expr) -> None:
        """What stands inside a path: indices, headers whose fields are reached, a value that is no variable."""
        match expr:
            case ast.Dot(base=base):
                self.follow(base)
                shape = self.shapes.of(base)
                if isinstance(shape, Record) and shape.kind == "header":
                    self.check_header(base)
            case ast.IndexExpr(base=base, index=index):
                self.follow(base)
                self.read(index)
            case ast.SliceExpr(base=base, hi=hi, lo=lo):
                self.follow(base)
                self.read(hi)
                self.read(lo)
            case ast.Name() | ast.TypeExpr():
                pass
            case _:
                self.read(expr)

    def check_header(self, header: ast.Expr) -> None:
        """A field of this header is read or written."""
        places = self.places(header)
        if self.state is None or not places:
            return
        found = {self.state.of(p) for p in places}
        if all(is_invalid(v) for v in found):
            self.report("invalid-header", span(header), f"header '{text_of(header)}' is not valid here")
        elif found <= {Validity.NO, Validity.GUARDED_NO, Validity.MAYBE}:
            self.report("invalid-header", span(header), f"header '{text_of(header)}' is not valid here on every path")

    # ------------------------------------------------------------------------------------------------------ conditions

    def condition(self, expr: ast.Expr) -> tuple[State | None, State | None]:
        """Evaluate a condition: the states where it holds and where it does not."""
        if self.state is None:
            return None, None
        constant = self.shapes.constant(expr)
        if isinstance(constant, bool):
            return (self.state, None) if constant else (None, self.state)
        match expr:
            case ast.UnaryExpr(op="!", arg=arg):
                yes, no = self.condition(arg)
                return no, yes
            case ast.BinaryExpr(op="&&" | "||" as op, left=left, right=right):
                before = self.state
                yes, no = self.condition(left)
                self.state = yes if op == "&&" else no
                then, otherwise = self.condition(right)
                if op == "&&":
                    return then, join_branches(before, no, otherwise)
                return join_branches(before, yes, then), otherwise
            case ast.Call(function=ast.Dot(base=header, member="isValid"), args=[]):
                return self.guard(header)
            case ast.Dot(base=ast.Call() as call, member="hit" | "miss" as member):
                hit, miss = self.table_result(call)
                return (hit, miss) if member == "hit" else (miss, hit)
        self.read(expr)
        return self.state, None if self.state is None else self.state.copy()

    def guard(self, header: ast.Expr) -> tuple[State | None, State | None]:
        """``header.isValid()``."""
        self.follow(header)
        assert self.state is not None
        yes, no = self.state.copy(), self.state.copy()
        places = self.places(header)
        shape = self.shapes.of(header)
        if isinstance(shape, Record) and shape.kind == "header":
            for place in places:
                if not is_valid(yes.of(place)):
                    yes.validity[place] = Validity.GUARDED_YES
                if len(places) == 1 and not is_invalid(no.of(place)):
                    no.validity[place] = Validity.GUARDED_NO
        else:  # of a union: some member is valid
            for place in places:
                for member in shape.headers:
                    yes.validity[(*place, *member)] = Validity.UNKNOWN
        return yes, no

    # ----------------------------------------------------------------------------------------------------------- calls

    def call(self, expr: ast.Call) -> None:
        """Evaluate a call with all that it does."""
        raise NotImplementedError

    def table_result(self, call: ast.Call) -> tuple[State | None, State | None]:
        """Evaluate ``table.apply()``: the states after a hit and after a miss."""
        raise NotImplementedError
