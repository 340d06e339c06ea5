// A parser that goes round without consuming anything ends with ParserTimeout.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { bit<32> n; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition spin; }
    state spin {
        meta.n = meta.n + 1;
        transition select(hdr.h.a, meta.n) { (0, _): spin; (1, 20): accept; default: spin; }
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        sm.egress_spec = 1;
        hdr.h.r = sm.parser_error == error.ParserTimeout ? 8w0xee : 0x11;
    }
}

#include "skeleton.p4"
