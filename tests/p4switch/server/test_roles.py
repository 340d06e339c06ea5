"""Roles: an election for each, what a role may write and read, who gets which notifications."""

from __future__ import annotations

import grpc
import pytest
from finsy.proto import p4r

from p4switch.server.arbitration import ROLES, Arbitration, Notice
from p4switch.server.errors import Code, P4RuntimeError
from tests.p4switch.server.conftest import Client, Program, Running, refused
from tests.p4switch.server.entries import INSERT, action, entry, exact, lpm, packet, role_config, update

# ------------------------------------------------------------------------------------------------- the state machine


def said(notices: list[Notice]) -> dict[object, tuple[Code, int | None]]:
    return {n.stream: (n.code, n.election_id) for n in notices}


def test_promotion_on_leaving() -> None:
    elections = Arbitration()
    assert said(elections.update("a", 5)) == {"a": (Code.OK, 5)}
    assert said(elections.update("b", 3)) == {"b": (Code.ALREADY_EXISTS, 5)}
    assert said(elections.leave("a")) == {"b": (Code.OK, 3)}
    assert elections.check_write("", 0, 3).primary == "b"


def test_monotonic_elections() -> None:
    """The specification's rule: only the highest id ever seen, or a higher one, is primary."""
    elections = Arbitration(monotonic=True)
    elections.update("a", 5)
    elections.update("b", 3)
    assert said(elections.leave("a")) == {"b": (Code.NOT_FOUND, 5)}
    with pytest.raises(P4RuntimeError):
        elections.check_write("", 0, 3)
    assert said(elections.update("c", 4)) == {"c": (Code.NOT_FOUND, 5)}
    assert said(elections.update("c", 5)) == {"b": (Code.ALREADY_EXISTS, 5), "c": (Code.OK, 5)}
    # Stepping down leaves nobody.
    assert said(elections.update("c", 1)) == {"b": (Code.NOT_FOUND, 5), "c": (Code.NOT_FOUND, 5)}


def test_without_an_election_id_one_waits() -> None:
    elections = Arbitration()
    assert said(elections.update("a", None)) == {"a": (Code.NOT_FOUND, None)}
    assert said(elections.update("b", None)) == {"b": (Code.NOT_FOUND, None)}
    assert said(elections.update("c", 0)) == {
        "a": (Code.ALREADY_EXISTS, 0),
        "b": (Code.ALREADY_EXISTS, 0),
        "c": (Code.OK, 0),
    }
    with pytest.raises(P4RuntimeError):
        elections.check_write("", 0, None)


def test_the_new_primary_hears_it_last() -> None:
    elections = Arbitration()
    for stream, number in (("a", 1), ("b", 2), ("c", 3)):
        notices = elections.update(stream, number)
        assert notices[-1].stream == stream


def test_roles_elect_apart() -> None:
    elections = Arbitration()
    elections.update("a", 5, "x")
    elections.update("b", 5, "y")
    elections.update("c", 5)
    elections.update("d", 5, "", 7)
    for stream, name, number in (("a", "x", 0), ("b", "y", 0), ("c", "", 0), ("d", "", 7)):
        assert elections.check_write(name, number, 5).primary == stream


def test_the_number_of_roles_is_bounded() -> None:
    """Roles that nobody is connected for make room; when there are none, a new role is refused."""
    elections = Arbitration()
    for number in range(ROLES + 10):
        elections.update(number, 1, f"role-{number}")
        elections.leave(number)
    assert len(elections.roles) == ROLES
    for number in range(ROLES - 1):
        elections.update(number, 1, f"busy-{number}")
    with pytest.raises(P4RuntimeError) as caught:
        elections.update("one more", 1, "another")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert elections.role_of("one more") is None
    elections.update("one more", 1)  # the default role is always there


# ------------------------------------------------------------------------------------------------------- over gRPC


def table(program: Program, name: str, key: p4r.FieldMatch, chosen: str, *values: bytes) -> p4r.Update:
    return update(INSERT, table_entry=entry(program, name, key, action=action(program, chosen, *values)))


def test_writes_and_reads_within_a_role(client: Client, program: Program) -> None:
    stream = client.stream()
    config = role_config(
        exclusive=["lpm_table"], shared=[program.id("tables", "idle_table")], read_only=["EntitiesIngress.exact_table"]
    )
    answer = stream.arbitrate(1, role="routes", config=config).arbitration
    assert (answer.role.name, answer.role.config) == ("routes", config)
    routes = client.acting("routes")
    mine = table(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), "forward", b"\1")
    shared = table(program, "idle_table", exact(1, b"\1"), "forward", b"\1")
    other = table(program, "exact_table", exact(1, b"\1"), "metered", b"\1")
    assert routes.codes(mine, other, shared) == [0, 7, 0]
    client.write(other)  # the default role may do everything
    seen = [e.table_entry.table_id for e in routes.read(p4r.Entity(table_entry=p4r.TableEntry()))]
    assert sorted(seen) == sorted(program.id("tables", n) for n in ("lpm_table", "idle_table", "exact_table"))
    counters = routes.read(p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry()))
    assert [c.direct_counter_entry.table_entry.table_id for c in counters] == [program.id("tables", "exact_table")]
    everything = client.read(p4r.Entity(table_entry=p4r.TableEntry()))
    assert len(everything) > len(seen)
    # Atomic batches stay within the role, too.
    another = table(program, "lpm_table", lpm(1, b"\x0b\0\0\0", 8), "forward", b"\1")
    assert routes.codes(another, other, atomicity=p4r.WriteRequest.DATAPLANE_ATOMIC) == [10, 7]
    assert len(routes.read(p4r.Entity(table_entry=entry(program, "lpm_table")))) == 1


def test_an_election_id_is_good_for_its_role_only(client: Client, program: Program) -> None:
    client.stream().arbitrate(9, role="a", config=role_config(shared=["lpm_table"]))
    write = table(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), "forward", b"\1")
    for stranger in (client.acting("", election_id=9), client.acting("a", election_id=1)):
        assert refused(grpc.StatusCode.PERMISSION_DENIED, lambda who=stranger: who.write(write)) == "Not primary"  # type: ignore[misc]
    client.acting("a", election_id=9).write(write)


def test_a_role_without_config_has_full_access(client: Client, program: Program) -> None:
    client.stream().arbitrate(2, role="helper")
    helper = client.acting("helper", election_id=2)
    helper.write(table(program, "exact_table", exact(1, b"\1"), "metered", b"\1"))
    helper.set_pipeline(p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT, program.pipeline())
    client.stream().arbitrate(3, role_id=12)
    request = client.write_request(table(program, "exact_table", exact(1, b"\1"), "metered", b"\1"))
    request.role_id, request.election_id.low = 12, 3
    client.stub.Write(request)


def test_packets_go_to_the_roles_that_want_them(client: Client, running: Running) -> None:
    default, wants, some, none = client.streams[0], client.stream(), client.stream(), client.stream()
    wants.arbitrate(1, role="wants", config=role_config(receives_packet_ins=True, sends_packet_outs=True))
    some.arbitrate(1, role="some", config=role_config(receives_packet_ins=True, packet_in_filter={"reason": 7}))
    none.arbitrate(1, role="none", config=role_config())
    running.switch.inject(3, packet(14, number=6))
    running.switch.inject(3, packet(14, number=7))
    for stream in (default, wants):
        assert [stream.next().packet.payload for _ in range(2)] == [packet(14, number=6), packet(14, number=7)]
    assert some.next().packet.payload == packet(14, number=7)
    message = p4r.PacketOut(payload=b"out")
    message.metadata.add(metadata_id=1, value=b"\5")
    wants.send(packet=message)
    while not (outputs := running.switch.outputs()):
        pass
    assert [o.port for o in outputs] == [5]
    assert none.answers.empty()
    assert some.answers.empty()


def test_notifications_go_to_the_roles_that_may_read(client: Client, running: Running, program: Program) -> None:
    digest = program.id("digests", "learned_t")
    client.write(update(INSERT, digest_entry=p4r.DigestEntry(digest_id=digest)))
    learns, idles = client.stream(), client.stream()
    learns.arbitrate(1, role="learns", config=role_config(read_only=[digest]))
    idles.arbitrate(1, role="idles", config=role_config(shared=["idle_table"]))
    running.switch.inject(3, packet(11, address=1))
    assert learns.next().digest.digest_id == digest
    assert client.streams[0].next().digest.digest_id == digest
    written = entry(
        program, "idle_table", exact(1, b"\1"), action=action(program, "forward", b"\1"), idle_timeout_ns=60_000_000
    )
    client.acting("idles").write(update(INSERT, table_entry=written))
    assert idles.next().idle_timeout_notification.table_entry[0].match == written.match
    assert learns.answers.empty()


def test_names_of_a_config_that_came_before_the_pipeline(bare: Client, program: Program) -> None:
    """Names are looked up once there is a P4Info."""
    bare.stream().arbitrate(1)
    bare.stream().arbitrate(1, role="early", config=role_config(shared=["lpm_table"]))
    bare.set_pipeline(p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT, program.pipeline())
    early = bare.acting("early")
    early.write(table(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), "forward", b"\1"))
    assert early.codes(table(program, "idle_table", exact(1, b"\1"), "forward", b"\1")) == [7]


def test_a_new_primary_brings_its_config(client: Client, program: Program) -> None:
    first, second = client.stream(), client.stream()
    first.arbitrate(1, role="r", config=role_config(shared=["lpm_table"]))
    second.arbitrate(2, role="r", config=role_config(shared=["idle_table"]))
    assert first.next().arbitration.role.config == role_config(shared=["idle_table"])
    acting = client.acting("r", election_id=2)
    assert acting.codes(table(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), "forward", b"\1")) == [7]
    assert acting.codes(table(program, "idle_table", exact(1, b"\1"), "forward", b"\1")) == [0]
