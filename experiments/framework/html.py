"""The report for people: one HTML file with everything in it, which opens in a browser without a server."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from experiments.framework import links
from experiments.framework.model import NETWORKS, Finding
from experiments.framework.runner import Result
from experiments.framework.summary import Group, groups, number

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; color: #1a1a1a;
background: #fff; } h1, h2, h3 { line-height: 1.2; } h2 { border-top: 1px solid #ccc; padding-top: 1em; margin-top: 2em;
} table { border-collapse: collapse; margin: .6em 0; font-size: 13px; } th, td { padding: .2em .7em; border-bottom: 1px
solid #ddd; text-align: left; vertical-align: top; } td.n { text-align: right; font-variant-numeric: tabular-nums;
white-space: nowrap; } .scroll { overflow-x: auto; } img { max-width: 100%; } .plots { display: flex; flex-wrap: wrap;
gap: 1em; } .plots img { width: 34em; } .yes { color: #06702e; } .no { color: #b00020; } .open { color: #7a5b00; }
.small { font-size: 13px; color: #555; } pre { white-space: pre-wrap; background: #f6f6f6; padding: .6em; }
"""
_MARKS = {True: ("yes", "holds"), False: ("no", "does not hold"), None: ("open", "cannot be told")}


def page(results: Sequence[Result], drawings: dict[str, list[Path]]) -> str:
    """The whole file; ``drawings`` are SVG files by name of the experiment."""
    sections = "".join(_section(result, drawings.get(result.experiment.name, [])) for result in results)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Rack MMU: experiments</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>Rack MMU: experiments</h1>
<p>Medians, with the least and greatest of the repetitions in brackets. What is compared took turns in one run on one machine:
ratios say more than times. Claims are those of “Disaggregation and the Application”.</p>
{_overview(results)}{sections}<h2>How counts are projected onto links</h2>{_link_table()}</body></html>
"""


def _table(head: Iterable[str], rows: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Cells are (class, HTML)."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f'<td class="{kind}">{text}</td>' for kind, text in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _overview(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        name = result.experiment.name
        claims = "<br>".join(f"{_mark(f)}: {escape(f.claim)}" for f in result.findings)
        rows.append(
            [
                ("", f'<a href="#{escape(name)}">{escape(name)}</a>'),
                ("", escape(result.experiment.title)),
                ("yes" if result.held else "no", "results right" if result.held else "FAILED"),
                ("", claims),
                ("n", f"{result.scale}, {result.seconds:.0f} s"),
            ]
        )
    return _table(("experiment", "", "verdict", "claims", "took"), rows)


def _mark(finding: Finding) -> str:
    kind, word = _MARKS[finding.held]
    return f'<span class="{kind}">{word}</span>'


def _section(result: Result, drawings: Sequence[Path]) -> str:
    experiment = result.experiment
    parts = [f'<h2 id="{escape(experiment.name)}">{escape(experiment.title)}</h2><p>{escape(experiment.about)}</p>']
    facts = ", ".join(f"{name} {value}" for name, value in result.setting.items())
    how = f"{experiment.name}: {result.scale}, seed {result.seed}, {result.repetitions} repetition(s), {result.seconds:.0f} s"
    parts.append(f'<p class="small">{escape(how)}; {escape(facts)}</p>')
    if not result.held:
        texts = "\n".join(result.problems) or "no rows"
        parts.append(
            f'<p class="no">FAILED</p><pre>{escape(texts)}</pre><p>Logs and captures: {escape(str(result.out))}</p>'
        )
    if experiment.claims:
        parts.append(_claims(result))
    images = "".join(f'<img alt="{escape(path.stem)}" src="{_inline(path)}">' for path in drawings)
    parts.append(f'<div class="plots">{images}</div>')
    found = groups(result.rows)
    if found:
        parts.append("<h3>Measured</h3>" + _measured(found))
    if any(group.counts for group in found):
        parts.append("<h3>Counted, and projected onto real links</h3>" + _projected(found))
    parts += [f'<p class="small">{escape(note)}</p>' for note in result.notes]
    return "".join(parts)


def _claims(result: Result) -> str:
    rows = []
    for claim in result.experiment.claims:
        own = [finding for finding in result.findings if finding.claim == claim.name]
        came_out = "<br>".join(f"{_mark(f)}: {escape(f.text)}" for f in own) or "not judged"
        rows.append(
            [("", escape(claim.name)), ("", f"{escape(claim.text)} (section {escape(claim.section)})"), ("", came_out)]
        )
    return _table(("claim", "the paper", "came out"), rows)


def _inline(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def _case(found: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(name for group in found for name in group.case))


def _measured(found: Sequence[Group]) -> str:
    cases = _case(found)
    values = list(dict.fromkeys(name for group in found for name in group.values))
    rows = [
        [
            *(("", escape(str(group.case.get(name, "")))) for name in cases),
            *(("n", str(group.values[name]) if name in group.values else "") for name in values),
        ]
        for group in found
    ]
    return _table([*cases, *values], rows)


def _projected(found: Sequence[Group]) -> str:
    counted = [group for group in found if group.counts]
    cases = _case(counted)
    networks = [network for network in NETWORKS if any(network in group.counts for group in counted)]
    head = [*cases]
    for network in networks:
        name = network.replace("_", " ")
        head += [f"{name}: round trips", f"{name}: messages", f"{name}: bytes"]
    head += [f"{link.name}, us" for link in links.INTERCONNECTS]
    rows = []
    for group in counted:
        row = [("", escape(str(group.case.get(name, "")))) for name in cases]
        for network in networks:
            traffic = group.counts.get(network)
            row += (
                [("n", number(traffic.round_trips)), ("n", number(traffic.messages)), ("n", number(traffic.size))]
                if traffic
                else [("n", "")] * 3
            )
        row += [("n", number(links.project(group.counts, link) * 1e6)) for link in links.INTERCONNECTS]
        rows.append(row)
    told = "; ".join(f"{network.replace('_', ' ')}: {NETWORKS[network]}" for network in networks)
    return f'<p class="small">{escape(told)}</p>' + _table(head, rows)


def _link_table() -> str:
    every = (*links.INTERCONNECTS, *links.RACK_NETWORKS, links.CROSS_RACK)
    rows = [
        [("", escape(link.name)), ("n", number(link.round_trip * 1e9)), ("n", number(link.bandwidth / links.GB))]
        for link in every
    ]
    text = escape((links.__doc__ or "").partition("\n\n")[2]).replace("\n\n", "</p><p>")
    chosen = escape(f"Projections take {links.RACK_NETWORKS[0].name!r} for the network of the rack.")
    return f"<p>{text}</p><p>{chosen}</p>" + _table(("link", "round trip, ns", "GB/s"), rows)
