// State between packets; an index out of range changes nothing.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> index; bit<24> value; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    register<bit<20>>(4) r;
    apply {
        sm.egress_spec = 1;
        bit<20> v = 0xfffff;
        r.read(v, (bit<32>) hdr.h.index);
        hdr.h.value = (bit<24>) v;
        r.write((bit<32>) hdr.h.index, v + 1);
    }
}

#include "skeleton.p4"
