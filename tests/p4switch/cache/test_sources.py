"""Compiling a source through the cache: the same as without, forgotten when anything changes that matters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p4switch import native, sources
from p4switch.compiler import ir, p4info
from p4switch.compiler.diagnostics import CompileError
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch

ROOT = Path(__file__).parents[3]
PROGRAM = """
#include <core.p4>
#include <v1model.p4>
#include "port.p4"
#ifndef TYPE
#define TYPE 0x800
#endif
header ethernet_t { bit<48> dst_addr; bit<48> src_addr; bit<16> ether_type; }
struct headers_t { ethernet_t ethernet; }
struct metadata_t { bit<8> never_used; }
parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.ethernet); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    bit<8> unwritten;
    apply { sm.egress_spec = PORT; if (hdr.ethernet.ether_type != TYPE || unwritten == 1) { mark_to_drop(sm); } }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr.ethernet); } }
V1Switch(P(), V(), I(), E(), V(), D()) main;
"""
COMPILE = (
    "import sys; from pathlib import Path; from p4switch import sources; sources._build_runtime = lambda: None;"
    "compiled = sources.compile_file(Path(sys.argv[1]));"
)
FRAME = bytes(12) + b"\x08\0"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "port.p4").write_text("#define PORT 3\n")
    path = tmp_path / "program.p4"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The compilations that were really done."""
    done: list[str] = []
    real = sources._compile

    def counted(text: str, path: Path, strict_bmv2: bool) -> sources.Compiled:
        done.append(path.name)
        return real(text, path, strict_bmv2)

    monkeypatch.setattr(sources, "_compile", counted)
    monkeypatch.setattr(sources, "_build_runtime", lambda: None)
    return done


def port(compiled: sources.Compiled, monkeypatch: pytest.MonkeyPatch) -> int:
    """Where the program sends a frame."""
    with monkeypatch.context() as usual:
        usual.delenv("P4SWITCH_CACHE")  # the runtime need not be built again
        with Switch() as switch:
            switch.load(compiled.shared_object)
            (output,) = switch.process(1, FRAME)
            return output.port


def test_a_hit_is_what_was_compiled(program: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sources.compile_file(program), sources.compile_file(program)
    assert compiles == ["program.p4"]
    assert first == second
    plain = compile_source(program)
    assert second.device_config == ir.dumps(plain.program)
    assert p4info.p4i.P4Info.FromString(second.p4info) == p4info.build(plain.program)
    assert list(second.warnings) == plain.diagnostics.messages
    assert any("unwritten" in warning.message for warning in second.warnings)
    assert port(second, monkeypatch) == 3


def test_what_matters_is_in_the_key(program: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sources.compile_file(program)
    (program.parent / "port.p4").write_text("#define PORT 4\n")
    changed = sources.compile_file(program)
    assert len(compiles) == 2
    assert port(changed, monkeypatch) == 4
    sources.compile_file(program, (), ["TYPE=0x86dd"])
    assert len(compiles) == 3
    elsewhere = program.with_name("other.p4")  # the name is in the program and in its diagnostics
    elsewhere.write_text(PROGRAM)
    sources.compile_file(elsewhere)
    assert len(compiles) == 4
    sources.compile_file(program, strict_bmv2=True)
    assert len(compiles) == 5
    monkeypatch.setattr(native, "toolchain", lambda: "another compiler")
    sources.compile_file(program)
    assert len(compiles) == 6


def test_the_toolchain_is_all_that_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("compiler", "codegen/include"):
        (tmp_path / folder).mkdir(parents=True)
    files = [tmp_path / "compiler" / "a.py", tmp_path / "codegen" / "b.py", tmp_path / "codegen" / "include" / "c.h"]
    for file in files:
        file.write_text("1")
    monkeypatch.setattr(native, "HERE", tmp_path)
    seen = [native.toolchain.__wrapped__()]
    for file in files:
        file.write_text("2")
        seen.append(native.toolchain.__wrapped__())
    monkeypatch.setattr(native, "program_identity", lambda: "gcc 99 -O9")
    seen.append(native.toolchain.__wrapped__())
    assert len(set(seen)) == 5


@pytest.mark.parametrize("victim", ["source-*", "*.so"])
def test_damaged_entries_are_made_again(
    program: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    sources.compile_file(program)
    (file,) = (program.parent / "cache").glob(victim)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    again = sources.compile_file(program)
    assert len(compiles) == 2
    assert port(again, monkeypatch) == 3


def test_refused_programs_are_not_kept(program: Path) -> None:
    program.write_text("control C() { apply { undefined = 1; } }")
    for _ in range(2):
        with pytest.raises(CompileError):
            sources.compile_file(program)
    assert not list((program.parent / "cache").glob("source-*"))


def test_configs(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sources.compile_file(program).device_config
    built: list[bytes] = []
    real = native._build_config
    monkeypatch.setattr(native, "_build_config", lambda data: (built.append(data), real(data))[1])
    first = native.build_config(config)
    assert native.build_config(config) == first
    assert built == [config]
    for wrong in (b"{", b"\xff", config[:-1], config.replace(b'"ingress"', b'"egress"', 1)):
        with pytest.raises(native.InvalidConfigError):
            native.build_config(wrong)
    first.unlink()
    assert native.build_config(config) == first
    assert first.exists()


def test_unusable_caches_are_told(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program.parent / "cache").mkdir()
    (program.parent / "cache").chmod(0o777)
    for call in (lambda: sources.compile_file(program), lambda: native.build_config(b"{}")):
        with pytest.raises(native.BuildError, match="only uid"):
            call()


def test_a_hit_needs_no_compiler(program: Path) -> None:
    """Not even its import, which takes longer than all else; and the runtime's declarations are not parsed again."""
    code = (
        COMPILE + "from p4switch.dataplane.native import ffi; ffi();"
        "print(*(m for m in ('p4switch.compiler.parser', 'p4switch.codegen', 'msgspec', 'cffi') if m in sys.modules))"
    )
    command = [sys.executable, "-c", code, str(program)]
    runs = [
        subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=400) for _ in range(2)
    ]
    assert runs[0].stdout.split()[0] == "p4switch.compiler.parser"
    assert runs[1].stdout.strip() == ""


def test_processes_at_once(program: Path) -> None:
    command = [sys.executable, "-c", COMPILE + "print(compiled)", str(program)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)]
    outputs = {process.communicate(timeout=400)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(outputs) == 1
    assert not list((program.parent / "cache").glob(".build-*"))
