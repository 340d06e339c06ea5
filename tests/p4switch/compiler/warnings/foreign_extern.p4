#include <core.p4>
#include <v1model.p4>

extern lamp { lamp(bit<8> colour); void blink(in bit<8> times); }
header h_t { bit<8> a; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    lamp(3) red;
    apply { red.blink(hdr.h.a); }
}

#include "skeleton.p4"
