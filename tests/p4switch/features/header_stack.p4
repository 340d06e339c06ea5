// A stack: next, last, lastIndex, push_front, pop_front, and an overflow in the parser.
#include <core.p4>
#include <v1model.p4>

header label_t { bit<7> value; bit<1> bottom; }
header count_t { bit<8> op; bit<8> n; }
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
        if (sm.parser_error == error.StackOutOfBounds) { hdr.c.n = 0xee; }
        if (hdr.c.op == 1) {
            hdr.labels.push_front(1);
            hdr.labels[0].setValid();
            hdr.labels[0].value = 0x7f;
            hdr.labels[0].bottom = 0;
        } else if (hdr.c.op == 2) {
            hdr.labels.pop_front(1);
        }
    }
}

#include "skeleton.p4"
