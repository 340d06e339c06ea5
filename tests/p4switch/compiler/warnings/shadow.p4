#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
struct headers_t { h_t h; h_t i; h_t[2] stack; }
struct metadata_t { bit<8> x; bool flag; }
bit<8> count(in bit<8> x) { return x; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) { 1: more; default: accept; }
    }
    state more { packet.extract(hdr.i); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    bit<8> value = 1;
    action hash() { hdr.h.a = value; }
    apply {
        bit<8> value = count(2);
        hdr.h.b[7:0] = value;
        if (value == 2) {
            bit<8> count = value;
            hdr.h.a = count;
        }
        hash();
    }
}

#include "skeleton.p4"
