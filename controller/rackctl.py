"""``rackctl``: the controller's command line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any
from urllib.parse import quote

from controller.rackctl_client import Begun, Client, CliError, find_token, human, many, show
from controller.rackctl_options import parser
from controller.rackctl_progress import of_drain, of_pages, shown
from protocol.capability import Capability, mint, pack
from protocol.wire import PAGE_SIZE

TOKEN_LIFE = 60  # seconds
_LONG = ("free", "grant", "migrate", "protect", "revoke", "steal")
_PERMISSIONS = {"r": 1, "w": 2, "rw": 3}


def status(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Whether the controller works."""
    data = client.call("GET", "/v1/status")
    rows = [(k.replace("_", " "), v) for k, v in data.items() if k not in ("statistics", "switch", "tor", "error")]
    words = {True: "connected", False: "NOT connected", None: "none"}
    rows += [
        ("switch", f"{data['switch']['address']}, {words[data['switch']['connected']]}"),
        ("top-of-rack switch", words[data["tor"]["connected"]]),
    ]
    rows += [(k.replace("_", " "), v) for k, v in data["statistics"].items()]
    return data, lambda: show("controller", ("", ""), rows)


def elements(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Compute and memory elements."""
    data = client.call("GET", "/v1/elements")
    rows = [
        (
            e["name"],
            e["id"],
            e["kind"] if e["media"] == "none" else f"{e['kind']} ({e['media']})",
            e["port"],
            e["state"] + ", suspected" * e["suspected"] + f", fenced by {e['fenced_by']}" * e["fenced"],
            human(e["free_pages"] * 4096) + " of " + human(e["pages"] * 4096) if e["pages"] else "",
            e["processes"] or "",
        )
        for e in data["elements"]
    ]
    return data, lambda: show("elements", ("name", "id", "kind", "port", "state", "free", "processes"), rows)


def processes(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Processes and their memory."""
    data = client.call("GET", "/v1/processes")
    rows = []
    for p in data["processes"]:
        memory = [f"{a['va']:#x} {human(a['bytes'])} on {', '.join(a['elements'])}" for a in p["allocations"]]
        rows.append((p["pid"], p["name"], p["element"], human(p["bytes"]), "\n".join(memory)))
    return data, lambda: show("processes", ("pid", "name", "on", "memory", "allocations"), rows)


def alloc(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Allocate memory for a process."""
    permissions = _PERMISSIONS[arguments.permissions]
    body = {"pid": arguments.pid, "size": arguments.size, "permissions": permissions, "media": arguments.media}
    body |= {"group": arguments.group, "reassignable": not arguments.not_reassignable, "cached": arguments.cached}
    body |= {"element": arguments.element, "near": arguments.near, "strict": arguments.strict}
    data = client.call("POST", "/v1/alloc", json=body | {"placement": arguments.placement})
    text = f"{human(data['size'])} at {data['va']:#x} in {many(data['segments'], 'segment')} on {', '.join(data['elements'])}"
    return data, lambda: print(text)


def waited(arguments: argparse.Namespace) -> dict[str, bool]:
    """What a body says of whether its request is waited for."""
    return {"wait": False} if arguments.no_wait else {}


def request(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """What has become of a request that was not waited for."""
    data = client.call("GET", f"/v1/requests/{quote(arguments.number, safe='')}")
    if "error" in data:
        text = f"refused ({data['error']}): {data['message']}"
    else:
        text = f"done: {json.dumps(data['result'])}" if data["done"] else "under way"
    return data, lambda: print(text)


def operations(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """What is under way, and how far."""
    data = client.call("GET", "/v1/operations")
    rows = [
        (o["kind"], f"{o['va']:#x}", o["pages"] or "", o["moved"] if o["kind"] == "migrate" else "", o["waiting"])
        for o in data["operations"]
    ]
    columns = ("operation", "at", "pages", "moved", "acknowledgements waited for")
    return data, lambda: show("operations under way", columns, rows)


def free(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Free memory."""
    body = {"va": arguments.va} | ({} if arguments.size is None else {"size": arguments.size})
    data = client.call("POST", "/v1/free", json=body | waited(arguments))
    return data, lambda: print(f"freed {many(data['pages'], 'page')} at {data['va']:#x}")


def revoke(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Take pages away from their owner."""
    data = client.call("POST", "/v1/revoke", json={"va": arguments.va, "pages": arguments.pages} | waited(arguments))
    return data, lambda: print(f"revoked {many(data['pages'], 'page')} at {data['va']:#x} from process {data['owner']}")


def migrate(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Move pages to another memory element while their owner goes on."""
    body = {"va": arguments.va, "pages": arguments.pages, "target": arguments.target}
    data = client.call("POST", "/v1/migrate", json=body | waited(arguments), timeout=None)
    where = f" to {arguments.target}" if arguments.target else ""
    return data, lambda: print(f"moved {many(data['pages'], 'page')} at {data['va']:#x}{where}")


def drain(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Move everything that a memory element holds to others."""
    data = client.call("POST", "/v1/drain", json={"element": arguments.element}, timeout=None)
    left = f"; {many(data['left'], 'page')} are there still" if data["left"] else ""
    return data, lambda: print(f"moved {many(data['pages'], 'page')} from {data['element']}{left}")


def grant(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Give pages of one process to another."""
    body = {"va": arguments.va, "pages": arguments.pages, "to": arguments.pid}
    body |= waited(arguments)
    data = client.call("POST", "/v1/grant", json=body | {"permissions": _PERMISSIONS[arguments.permissions]})
    text = f"{many(data['pages'], 'page')} at {data['va']:#x} went from process {data['source']} to {data['owner']}"
    return data, lambda: print(text)


def groups(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Groups of processes that may take one another's memory."""
    data = client.call("GET", "/v1/groups")
    rows = [(g["id"], g["name"], f"{g['needed']} of {g['total']}" if g["total"] else "") for g in data["groups"]]
    return data, lambda: show("groups", ("id", "name", "shares"), rows)


def group_create(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Make a group; its secret, or the shares of it, are told this once."""
    needed, total = arguments.shares
    data = client.call("POST", "/v1/groups", json={"name": arguments.name, "needed": needed, "total": total})
    told = [f"share {share}" for share in data.get("shares", [])] or [f"secret {data.get('secret')}"]
    return data, lambda: print("\n".join([f"group {data['id']} {data['name']}", *told]))


def steal(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Take pages of one process for another, by the secret of their group or enough shares of it."""
    if arguments.secret is not None:
        given: Capability = mint(arguments.secret, arguments.group, arguments.pid, int(time.time()) + TOKEN_LIFE)
    else:
        given = tuple(arguments.share)
    body = {"va": arguments.va, "pages": arguments.pages, "source": arguments.source, "to": arguments.pid}
    body |= {"group": arguments.group, "permissions": _PERMISSIONS[arguments.permissions]}
    data = client.call("POST", "/v1/steal", json=body | {"capability": pack(given).hex()} | waited(arguments))
    text = f"{many(data['pages'], 'page')} at {data['va']:#x} went from process {data['source']} to {data['owner']}"
    return data, lambda: print(text)


def protect(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Change what the owner of pages may do with them."""
    body = {"va": arguments.va, "pages": arguments.pages, "permissions": _PERMISSIONS[arguments.permissions]}
    data = client.call("POST", "/v1/protect", json=body | waited(arguments))
    return data, lambda: print(f"{many(data['pages'], 'page')} at {data['va']:#x} are {arguments.permissions} now")


def stat(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """What is at an address, and how far on it is alike."""
    data = client.call("GET", f"/v1/stat?va={arguments.va}")
    rights = ["-", "r", "w", "rw"][data["permissions"]]
    text = f"{many(data['pages'], 'page')} at {data['va']:#x}: {data['kind']}, process {data['owner']}, {rights}, "
    return data, lambda: print(text + f"on {data['element']} ({data['media']}), generation {data['generation']}")


def fence(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Fence an element off, or let it in again."""
    data = client.call("POST", f"/v1/{arguments.command}", json={"element": arguments.element})
    return data, lambda: print(f"{arguments.element} is {'fenced' if data['fenced'] else 'not fenced any more'}")


def addresses(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Service addresses, and who has them."""
    data = client.call("GET", "/v1/addresses")
    rows = [(a["address"], a["pid"], a["element"], a["group"] or "") for a in data["addresses"]]
    return data, lambda: show("service addresses", ("address", "pid", "element", "group"), rows)


def redirect(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Send what is for a service address to the element of a process."""
    data = client.call("POST", "/v1/redirect", json={"address": arguments.address, "pid": arguments.pid})
    before = f"; process {data['before']} had it" if data["before"] not in (0, data["pid"]) else ""
    return data, lambda: print(f"{data['address']} goes to process {data['pid']} on {data['element']}{before}")


def monitor(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Thresholds of the rack monitor; set those that are given."""
    given = {"heartbeat_ms": arguments.heartbeat, "suspect_ms": arguments.suspect, "fail_ms": arguments.fail}
    wanted = {name: value for name, value in given.items() if value is not None}
    data = client.call("POST", "/v1/monitor", json=wanted) if wanted else client.call("GET", "/v1/monitor")
    text = f"a heartbeat every {data['heartbeat_ms']:g} ms; suspected after {data['suspect_ms']:g} ms of silence, "
    return data, lambda: print(text + f"failed after {data['fail_ms']:g} ms")


def poison(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Mark pages as bad, or heal them."""
    bad = arguments.command == "poison"
    place = {"va": arguments.at} if arguments.element is None else {"element": arguments.element, "pa": arguments.at}
    data = client.call("POST", "/v1/poison", json=place | {"pages": arguments.pages, "bad": bad})
    where = ", ".join(data["elements"])
    return data, lambda: print(f"{many(data['pages'], 'page')} of {where} {'bad' if bad else 'good again'}")


def bad_pages(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Pages that are marked as bad."""
    data = client.call("GET", "/v1/poison")
    rows = [(b["element"], f"{b['pa']:#x}", b["pages"]) for b in data["bad"]]
    return data, lambda: show("bad pages", ("element", "physical address", "pages"), rows)


def watch(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Have a process told when another one of its group is cut off for good."""
    body = {"pid": arguments.pid, "group": arguments.group, "source": arguments.source}
    data = client.call("POST", "/v1/watches", json=body)
    whom = f"process {data['source']}" if data["source"] else "every process with memory"
    return data, lambda: print(
        f"watch {data['watch']}: process {data['pid']} stands by for {whom} of group {data['group']}"
    )


def unwatch(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Forget a watch."""
    data = client.call("DELETE", f"/v1/watches/{arguments.watch}")
    return data, lambda: print(f"watch {data['watch']} is forgotten")


def watches(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Who stands by for whom."""
    data = client.call("GET", "/v1/watches")
    rows = [(w["watch"], w["pid"], w["source"] or "any", w["group"]) for w in data["watches"]]
    return data, lambda: show("standbys", ("watch", "pid", "for process", "group"), rows)


def tokens(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Who may use the API."""
    data = client.call("GET", "/v1/tokens")
    rows = []
    for t in data["tokens"]:
        made, expires = (
            datetime.fromtimestamp(x).isoformat(" ", "seconds") if x else "" for x in (t["made"], t["expires"])
        )
        rows.append((t["id"], t["name"], t["role"], ", ".join(map(str, t["pids"])), made, expires))
    return data, lambda: show("tokens", ("id", "name", "role", "processes", "made", "expires"), rows)


def token_create(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Make a token; it is told this once."""
    body = {"name": arguments.name, "role": arguments.role, "pids": arguments.pid, "seconds": arguments.seconds}
    data = client.call("POST", "/v1/tokens", json=body)
    return data, lambda: print(data["token"])


def token_revoke(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Revoke a token: its next request is refused."""
    data = client.call("DELETE", f"/v1/tokens/{quote(arguments.id, safe='')}")
    return data, lambda: print(f"token {data['id']} is revoked")


def release(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Take a service address from whoever has it."""
    data = client.call("DELETE", f"/v1/addresses/{arguments.address}")
    return data, lambda: print(f"{data['address']} is free; process {data['pid']} had it")


def switch_map(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """V2P and protection tables as the switch holds them."""
    data = client.call("GET", "/v1/map")
    names = {e["id"]: e["name"] for e in client.call("GET", "/v1/elements")["elements"]}
    rows = []
    for e in data["entries"]:
        what = e["action"]
        if what == "map_page":
            what = f"{names.get(e['element'], e['element'])} at {(e['va'] + e['offset']) % (1 << 64):#x}"
        elif what == "allow":
            what = f"{['-', 'r', 'w', 'rw'][e['permissions'] & 3]}, generation {e['generation']}"
        where = f"{e['va']:#x}/{e['prefix_length']}"
        rows.append(
            (e["table"], where, human(e["pages"] * 4096), e.get("pid", ""), what, "" if e["in_store"] else "NO")
        )

    def render() -> None:
        show("the switch's tables", ("table", "va", "size", "pid", "entry", "in store"), rows)
        print("switch and store agree" if data["agrees"] else f"switch and store DIFFER ({data['missing']} missing)")

    return data, render


def counters(client: Client, _arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """The switch's counters."""
    data = client.call("GET", "/v1/counters")

    def render() -> None:
        show("packets by verdict", ("verdict", "packets"), data["verdicts"].items())
        for what in ("processes", "elements"):
            rows = [(name, c["packets"], human(c["bytes"])) for name, c in data[what].items()]
            show(what, ("", "packets", "bytes"), rows)

    return data, render


def events(client: Client, arguments: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """What has happened."""
    data = client.call("GET", f"/v1/events?since={arguments.since}")

    def render() -> None:
        for event in data["events"]:
            print_event(event)

    return data, render


def print_event(event: dict[str, Any]) -> None:
    """One event on a line."""
    rest = " ".join(
        f"{k}={v:#x}" if k == "va" else f"{k}={v}" for k, v in event.items() if k not in ("id", "time", "event")
    )
    moment = datetime.fromtimestamp(event["time"]).isoformat(sep=" ", timespec="milliseconds")
    print(f"{event['id']:6} {moment} {event['event']} {rest}", flush=True)


_COMMANDS: dict[str, Callable[[Client, argparse.Namespace], tuple[Any, Callable[[], None]]]] = {
    "status": status,
    "elements": elements,
    "processes": processes,
    "alloc": alloc,
    "free": free,
    "map": switch_map,
    "revoke": revoke,
    "migrate": migrate,
    "drain": drain,
    "grant": grant,
    "groups": groups,
    "group-create": group_create,
    "steal": steal,
    "protect": protect,
    "stat": stat,
    "request": request,
    "operations": operations,
    "fence": fence,
    "unfence": fence,
    "addresses": addresses,
    "redirect": redirect,
    "release": release,
    "monitor": monitor,
    "poison": poison,
    "unpoison": poison,
    "bad-pages": bad_pages,
    "watch": watch,
    "unwatch": unwatch,
    "watches": watches,
    "tokens": tokens,
    "token-create": token_create,
    "token-revoke": token_revoke,
    "counters": counters,
    "events": events,
}


def waiting(client: Client, arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """Show how far a command is that may take long."""
    if arguments.command == "drain":
        return shown(of_drain(client, arguments.element))
    if arguments.command in _LONG and not arguments.no_wait:
        pages = (arguments.size or 0) // PAGE_SIZE if arguments.command == "free" else arguments.pages
        return shown(of_pages(client, arguments.va, pages))
    return nullcontext()


def main() -> int:
    """Entry point; exit status 0, 1 when refused or unreachable, 2 for wrong usage."""
    arguments = parser(_COMMANDS).parse_args()
    try:
        client = Client(arguments.api, find_token(arguments.api, arguments.token_file))
        if arguments.command == "events" and arguments.follow:
            client.follow(
                arguments.since, (lambda e: print(json.dumps(e), flush=True)) if arguments.json else print_event
            )
            return 0
        with waiting(client, arguments):
            data, render = _COMMANDS[arguments.command](client, arguments)
    except Begun as begun:
        print(json.dumps(begun.answer, indent=2) if arguments.json else begun)
        return 0
    except CliError as error:
        print(f"rackctl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps(data, indent=2))
    else:
        render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
