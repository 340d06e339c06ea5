#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; int<8> s; }
struct headers_t { h_t h; }
struct metadata_t { bool flag; }
bit<8> f(@optional in bit<8> x) { return 1; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    
    apply { hdr.h.a = f(); }
}

#include "skeleton.p4"
