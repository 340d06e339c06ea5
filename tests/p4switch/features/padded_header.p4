// Headers that do not fill whole bytes: the packet holds padding, which is kept but is no part of the value.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<4> op; }
header v_t { bit<8> n; varbit<64> v; bit<3> t; }
header w_t { bit<16> sum; }
struct headers_t { h_t h; h_t g; v_t v; w_t w; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        packet.extract(hdr.g);
        packet.extract(hdr.v, 16);
        transition accept;
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        if (hdr.h == hdr.g) {
            hdr.w.setValid();
            hash(hdr.w.sum, HashAlgorithm.identity, 16w0, { hdr.h, hdr.g }, 32w0x10000);
        }
        hdr.g.op = 5;
        hdr.v.t = hdr.v.t + 1;
        if (hdr.h.op == 0xf) { hdr.h = hdr.g; }
        if (hdr.h.op == 0xe) { hdr.h.setInvalid(); hdr.h = { 1 }; }
    }
}

#include "skeleton.p4"
