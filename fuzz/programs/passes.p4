// For fuzzing: packets that come back and multiply. Clones of both kinds, resubmit, recirculate, multicast, truncation, digests,
// packet-in and packet-out, in any combination that the packet's own bits and the tables ask for.
#include <core.p4>
#include <v1model.p4>

@controller_header("packet_in") header packet_in_t { bit<9> ingress_port; bit<7> pad; }
@controller_header("packet_out") header packet_out_t { bit<9> egress_port; bit<7> pad; }
header order_t {
    bit<1> clone_in; bit<1> clone_out; bit<1> resubmit; bit<1> recirculate; bit<1> multicast; bit<1> cut; bit<1> report; bit<1> drop;
    bit<8> session; bit<8> group; bit<8> left;
}
struct headers_t { packet_in_t packet_in; packet_out_t packet_out; order_t order; order_t second; }
struct metadata_t { @field_list(1, 2) bit<8> passes; @field_list(2) bit<32> mark; bit<16> lost; }
struct report_t { bit<9> port; bit<8> passes; bit<32> mark; }

parser PassesParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { transition select(sm.ingress_port) { 64: from_controller; default: order; } }
    state from_controller { packet.extract(hdr.packet_out); transition order; }
    state order { packet.extract(hdr.order); transition select(hdr.order.left) { 0: accept; default: second; } }
    state second { packet.extract(hdr.second); transition accept; }
}

control PassesVerify(inout headers_t hdr, inout metadata_t meta) { apply { } }

control PassesIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action follow(bit<9> port) { sm.egress_spec = port; }
    action spread(bit<16> group) { sm.mcast_grp = group; }
    action discard() { mark_to_drop(sm); }
    action copy(bit<32> session) { clone_preserving_field_list(CloneType.I2E, session, 2); }
    table where {
        key = { hdr.order.group: lpm @name("group"); sm.instance_type: exact @name("instance_type"); }
        actions = { follow; spread; discard; copy; NoAction; }
        size = 128;
        default_action = NoAction;
    }
    apply {
        sm.egress_spec = (bit<9>) hdr.order.session;
        meta.passes = meta.passes + 1;
        meta.mark = meta.mark ^ sm.packet_length;
        if (hdr.packet_out.isValid()) { sm.egress_spec = hdr.packet_out.egress_port; hdr.packet_out.setInvalid(); }
        where.apply();
        if (hdr.order.clone_in == 1) { clone_preserving_field_list(CloneType.I2E, (bit<32>) hdr.order.session, 1); }
        if (hdr.order.multicast == 1) { sm.mcast_grp = (bit<16>) hdr.order.group; }
        if (hdr.order.report == 1) { digest<report_t>(1, { sm.ingress_port, meta.passes, meta.mark }); }
        if (hdr.order.resubmit == 1 && meta.passes < hdr.order.left) { resubmit_preserving_field_list(1); }
        if (hdr.order.cut == 1) { truncate((bit<32>) hdr.order.left); }
        if (hdr.order.drop == 1 && meta.passes > 2) { mark_to_drop(sm); exit; }
    }
}

control PassesEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        if (sm.egress_port == 64) {
            hdr.packet_in.setValid();
            hdr.packet_in.ingress_port = sm.ingress_port;
        }
        if (hdr.order.clone_out == 1 && sm.instance_type != 2) { clone_preserving_field_list(CloneType.E2E, (bit<32>) hdr.second.session, 2); }
        if (hdr.order.recirculate == 1 && hdr.order.left > 0) {
            hdr.order.left = hdr.order.left - 1;
            recirculate_preserving_field_list(2);
        }
        if (sm.egress_rid == 7) { mark_to_drop(sm); }
        hdr.second.session = (bit<8>) sm.egress_rid;
    }
}

control PassesCompute(inout headers_t hdr, inout metadata_t meta) { apply { } }

control PassesDeparser(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }

V1Switch(PassesParser(), PassesVerify(), PassesIngress(), PassesEgress(), PassesCompute(), PassesDeparser()) main;
