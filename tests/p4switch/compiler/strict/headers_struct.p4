#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
struct inner_t { h_t h; }
struct headers_t { h_t h; inner_t inner; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }

#include "skeleton.p4"
