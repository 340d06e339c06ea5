// Indices that a packet brings: outside of the stack a read gives zero and a write does nothing.
#include <core.p4>
#include <v1model.p4>

header label_t { bit<7> value; bit<1> bottom; }
header count_t { bit<8> op; bit<8> n; bit<8> v; }
struct headers_t { count_t c; label_t[3] labels; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.c); transition label; }
    state label {
        packet.extract(hdr.labels.next);
        transition select(hdr.labels.last.bottom) { 0: label; default: count; }
    }
    state count { hdr.c.n = (bit<8>) hdr.labels.lastIndex; transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        sm.egress_spec = 1;
        hdr.c.v = (bit<8>) hdr.labels[hdr.c.op].value;
        hdr.labels[hdr.c.op + 1].value = 0x55;
    }
}

#include "skeleton.p4"
