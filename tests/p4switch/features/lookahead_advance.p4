// lookahead does not consume, advance skips.
#include <core.p4>
#include <v1model.p4>

header a_t { bit<8> kind; bit<8> skip; }
header b_t { bit<16> v; }
struct headers_t { b_t b; a_t a; }
struct metadata_t { bit<4> high; }
struct pair_t { bit<4> high; bit<4> low; bit<8> next; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        meta.high = packet.lookahead<pair_t>().high;
        packet.extract(hdr.a);
        packet.advance((bit<32>) hdr.a.skip * 8);
        packet.extract(hdr.b);
        transition accept;
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        sm.egress_spec = (bit<9>) meta.high;
    }
}

#include "skeleton.p4"
