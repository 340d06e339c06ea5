#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
struct headers_t { h_t h; h_t i; h_t[2] stack; }
struct metadata_t { bit<8> x; bool flag; }
bit<8> twice(out bit<8> value, in bit<8> factor) {
    if (factor > 1) { value = factor; }
    return factor;
}

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) { 1: more; default: accept; }
    }
    state more { packet.extract(hdr.i); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action set(out bit<8> written, out bit<8> forgotten) { written = 1; }
    apply {
        bit<8> first;
        bit<8> second;
        first = twice(second, hdr.h.a);
        meta.x = first + second;
        set(first, second);
        meta.x = meta.x + first + second;
    }
}

#include "skeleton.p4"
