// select over tuples with masks, ranges and wildcards: the first case that matches.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a, hdr.h.b) {
            (1, 2): one;
            (1, 0x10 &&& 0xf0): two;
            (5 .. 7, _): three;
            (_, 0xff): four;
            default: accept;
        }
    }
    state one { hdr.h.r = 1; transition accept; }
    state two { hdr.h.r = 2; transition accept; }
    state three { hdr.h.r = 3; transition accept; }
    state four { hdr.h.r = 4; transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply { sm.egress_spec = 1; }
}

#include "skeleton.p4"
