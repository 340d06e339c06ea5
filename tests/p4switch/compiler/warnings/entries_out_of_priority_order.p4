#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
struct headers_t { h_t h; h_t i; h_t[2] stack; }
struct metadata_t { bit<8> x; bool flag; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) { 1: more; default: accept; }
    }
    state more { packet.extract(hdr.i); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    table t {
        key = { hdr.h.a : ternary; }
        actions = { NoAction; }
        default_action = NoAction();
        entries = {
            priority = 30 : 1 : NoAction();
            priority = 40 : 2 : NoAction();
            priority = 20 : 3 : NoAction();
        }
    }
    table smaller {
        key = { hdr.h.a : ternary; }
        actions = { NoAction; }
        default_action = NoAction();
        largest_priority_wins = false;
        entries = {
            priority = 30 : 1 : NoAction();
            priority = 40 : 2 : NoAction();
            priority = 20 : 3 : NoAction();
        }
    }
    table silent {
        key = { hdr.h.a : ternary; }
        actions = { NoAction; }
        default_action = NoAction();
        @noWarn("entries-out-of-priority-order") entries = {
            priority = 30 : 1 : NoAction();
            priority = 40 : 2 : NoAction();
            priority = 20 : 3 : NoAction();
        }
    }
    apply { t.apply(); smaller.apply(); silent.apply(); }
}

#include "skeleton.p4"
