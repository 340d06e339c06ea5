"""``python -m bench`` end to end, small: every part gives its figures, and nothing is left behind. Speed is its own to say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from finsy.proto import p4r

from bench import __main__ as command
from bench import report, testbed, workload
from bench.client import Names
from p4switch.compiler import ir, p4info
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from p4switch.server import pipeline
from p4switch.server.device import Device

ROOT = Path(__file__).parents[2]
SMALL = ("--quick", "--entries", "60", "--seconds", "0.05", "--round-trips", "50")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=560, check=False)


def figures(directory: Path, part: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((directory / f"{part}.json").read_text())["figures"]
    for figure in found:
        assert figure["part"] == part
        assert isinstance(figure["value"], int | float)
        if figure["goal"]:
            assert figure["verdict"] in ("met", "missed")
    return found


@needs_root
def test_small_run(tmp_path: Path) -> None:
    done = run_bench(*SMALL, "--only", "loss", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    own = figures(tmp_path, "loss")
    lost = [f for f in own if f["what"] == "frames lost"]
    assert len(lost) == 4
    assert all(0 <= f["value"] < 1_000_000 for f in lost)  # type: ignore[operator]
    everything = json.loads((tmp_path / "all.json").read_text())
    assert everything["figures"] == own
    assert (everything["quick"], everything["entries"]) == (True, 60)
    assert everything["machine"]["cpus"] >= 1
    assert "frames lost" in done.stdout
    summary = (tmp_path / "summary.md").read_text().splitlines()
    assert len(summary) == 2 + sum(f["goal"] is not None for f in own)
    assert all(line.count("|") == 8 for line in summary)
    assert not (tmp_path / "writes.json").exists()


@needs_root
def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C amid a measurement: namespaces and processes go, nothing is written."""
    line = [sys.executable, "-m", "bench", *SMALL, "--repetitions", "1000", "--only", "loss", "--out", str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        own = f"{testbed.PREFIX}{process.pid}-"
        end = time.monotonic() + 120
        while f"{own}0-dst" not in testbed.run("ip", "netns", "list"):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert own not in testbed.run("ip", "netns", "list")
    assert not list(tmp_path.iterdir())


@needs_root
def test_what_a_killed_benchmark_left_is_removed() -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    name = f"{testbed.PREFIX}{dead.pid}-0-mid"
    testbed.run("ip", "netns", "add", name)
    with testbed.testbed() as own:
        assert name in testbed.clean_up()
        names = testbed.run("ip", "netns", "list")
        assert name not in names
        assert own.middle in names


def test_children_die_with_their_parent() -> None:
    child = (
        "from bench.testbed import Process; import os, signal; p = Process(['sh', '-c', 'echo ready; exec sleep 60']); "
    )
    kill = "print(p.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", child + kill], capture_output=True, text=True, cwd=ROOT, check=False)
    pid = int(done.stdout)
    end = time.monotonic() + 120
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "speed"], "no part 'speed'; there are forwarding, pipeline, compile, writes, loss, memory"),
        (["--repetitions", "0"], "expected a number above 0, found '0'"),
        (["--entries", "1000000"], "expected a number from 60 to 50000, found '1000000'"),
    ],
)
def test_options_are_checked(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(words)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


def test_verdicts() -> None:
    baseline, samples = [100.0, 50.0, 200.0], [90.0, 30.0, 150.0]
    ratios = report.against(samples, baseline)
    assert ratios == [0.9, 0.6, 0.75]
    figure = report.Figure("p", "w", "s", "u", samples, {}, "b", ratios, report.Goal(">=", 0.8))
    assert (figure.value, figure.ratio, figure.verdict) == (90.0, 0.75, "missed")
    on_value = report.Figure("p", "w", "s", "u", samples, {}, "b", ratios, report.Goal("<=", 90, absolute=True))
    assert on_value.verdict == "met"
    assert report.Figure("p", "w", "s", "u", samples).verdict == ""


@pytest.mark.parametrize("name", workload.WORKLOADS)
@pytest.mark.parametrize("full", [False, True])
def test_every_frame_of_a_workload_is_forwarded(name: str, full: bool) -> None:
    """Else a benchmark would measure drops. Entries beyond those of full tables change no frame's way."""
    work = workload.WORKLOADS[name](600)
    program = compile_source(work.program).program
    info = p4info.build(program)
    names = Names(info)
    with Switch(cpu_port=workload.CPU_PORT) as switch:
        device = Device(0, switch)
        device.load(pipeline.compile_config(info, ir.dumps(program), None))
        rows = list(work.all_rows(full))
        for series, count in work.full.items():
            rows += work.rows(series, work.full[series] if full else count, 60)
        updates = [p4r.Update(type=p4r.Update.INSERT, entity=p4r.Entity(table_entry=names.entry(r))) for r in rows]
        assert not any(device.write_entries(updates))
        for size in workload.SIZES:
            for flows in workload.FLOWS:
                frames = work.frames(size, flows, full)
                assert len(set(frames)) == flows
                for frame in frames:
                    assert [o.port for o in switch.process(workload.LEFT_PORT, frame)] == [workload.RIGHT_PORT]
            assert [o.port for o in switch.process(workload.RIGHT_PORT, work.reply(size))] == [workload.LEFT_PORT]
