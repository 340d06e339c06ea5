#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
struct headers_t { h_t h; h_t i; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) { 0: same; 1: never; default: ends; 2: same; }
    }
    state same { transition select(hdr.h.a) { 3: accept; default: accept; } }
    state never { transition reject; }
    state ends { packet.extract(hdr.i); }
    state alone { transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }

#include "skeleton.p4"
