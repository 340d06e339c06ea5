// Groups of a selector: weights, the hash over all selector keys cut to its output width, changes, empty groups, two tables.
#include <core.p4>
#include <v1model.p4>

header h_t {
    bit<8> kind;
    bit<16> flow;
    bit<12> part;
    bit<4> seen;
}
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action_selector(HashAlgorithm.identity, 16, 4) low;
    action_selector(HashAlgorithm.crc16, 16, 16) mixed;
    action forward(bit<9> port) { sm.egress_spec = port; }
    action drop() { mark_to_drop(sm); }
    action mark() { hdr.h.seen = 0xa; }

    // The hash is the flow's last four bits: what is 0 to 15 is chosen by the weights.
    table by_low {
        key = { hdr.h.kind: exact; hdr.h.flow: selector; }
        actions = { forward; mark; drop; }
        default_action = drop();
        implementation = low;
    }
    table by_both {
        key = { hdr.h.kind: exact; hdr.h.flow: selector; hdr.h.part: selector; }
        actions = { forward; NoAction; }
        implementation = mixed;
    }
    apply {
        sm.egress_spec = 9;
        if (hdr.h.kind < 0x80) {
            switch (by_low.apply().action_run) {
                forward: { hdr.h.seen = 1; }
                mark: { hdr.h.seen = hdr.h.seen | 2; }
                drop: { hdr.h.seen = 3; }
                default: { hdr.h.seen = 4; }
            }
        } else if (by_both.apply().hit) {
            hdr.h.seen = 5;
        }
    }
}

#include "skeleton.p4"
