#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
struct headers_t { h_t[2] stack; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.stack.next);
        transition select(hdr.stack.next.a) { 1: accept; default: reject; }
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }

#include "skeleton.p4"
