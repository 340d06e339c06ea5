// switch over the action that a table ran, with fall-through and default.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action one(bit<8> v) { hdr.h.r = v; }
    action two() { }
    action three() { }
    table t {
        key = { hdr.h.a: exact; }
        actions = { one; two; three; NoAction; }
        default_action = NoAction;
    }
    apply {
        sm.egress_spec = 1;
        switch (t.apply().action_run) {
            one: { hdr.h.r = hdr.h.r + 1; }
            two:
            three: { hdr.h.r = 0x23; }
            default: { hdr.h.r = 0xff; }
        }
    }
}

#include "skeleton.p4"
