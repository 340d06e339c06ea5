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
    action set(bit<8> value) { hdr.h.a = value; }
    table exact_keys {
        key = { hdr.h.a : exact; }
        actions = { set; }
        default_action = set(0);
        const entries = { 1 : set(2); 2 : set(3); 1 : set(4); }
    }
    table masks {
        key = { hdr.h.a : ternary; hdr.h.b : range; }
        actions = { set; }
        default_action = set(0);
        const entries = {
            (1 &&& 3, 10 .. 20) : set(1);
            (5, 10) : set(2);
            (5, 21) : set(3);
            (9 &&& 15, 12 .. 20) : set(4);
            (8 &&& 14, 12 .. 20) : set(5);
            (_, 10 .. 30) : set(6);
            (7, 30) : set(7);
        }
    }
    table prefixes {
        key = { hdr.h.a : lpm; }
        actions = { set; }
        default_action = set(0);
        const entries = { 0 &&& 0xf0 : set(1); 1 : set(2); _ : set(3); }
    }
    apply {
        exact_keys.apply();
        masks.apply();
        prefixes.apply();
    }
}

#include "skeleton.p4"
