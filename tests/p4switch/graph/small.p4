// A little of everything that a drawing shows: select keys, a table with a switch over its action, a sub-control, an exit.
#include <core.p4>
#include <v1model.p4>

header ethernet_t { bit<48> dst; bit<48> src; bit<16> type; }
header tag_t { bit<8> kind; bit<8> next; }
struct headers_t { ethernet_t ethernet; tag_t tag; }
struct metadata_t { bit<8> mark; }

parser SmallParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.type, sm.ingress_port) {
            (0x1234, 1): tag;
            (0x2000 &&& 0xff00, _): tag;
            (1 .. 9, _): reject;
            (0x800, _): accept;
        }
    }
    state tag {
        packet.extract(hdr.tag);
        verify(hdr.tag.next != 0, error.ParserInvalidArgument);
        transition select(hdr.tag.kind) {
            7: tag;
            _: accept;
        }
    }
}

control Mark(inout metadata_t meta, in bit<8> kind) {
    apply {
        if (kind == 0) {
            return;
        }
        meta.mark = kind;
    }
}

control SmallIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    Mark() mark;
    counter(16, CounterType.packets) seen;

    action to_port(bit<9> port) { sm.egress_spec = port; }
    action stop() { mark_to_drop(sm); exit; }
    table forward {
        key = { hdr.ethernet.dst: exact @name("dst"); hdr.ethernet.type: ternary; }
        actions = { to_port; stop; @defaultonly NoAction; }
        const default_action = NoAction();
        size = 256;
    }

    apply {
        if (!hdr.ethernet.isValid()) {
            mark_to_drop(sm);
            exit;
        }
        mark.apply(meta, hdr.tag.kind);
        switch (forward.apply().action_run) {
            to_port: { seen.count((bit<32>) sm.egress_spec); }
            default: { hdr.ethernet.src = 0; }
        }
    }
}

control SmallVerify(inout headers_t hdr, inout metadata_t meta) { apply { } }
control SmallEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }
control SmallCompute(inout headers_t hdr, inout metadata_t meta) { apply { } }
control SmallDeparser(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }

V1Switch(SmallParser(), SmallVerify(), SmallIngress(), SmallEgress(), SmallCompute(), SmallDeparser()) main;
