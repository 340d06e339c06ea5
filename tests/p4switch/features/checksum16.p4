// Checksum16, the extern object of v1model's first version, and externs whose type goes by a typedef.
#include <core.p4>
#include <v1model.p4>

header ip_t { bit<64> first; bit<16> next; bit<16> sum; bit<64> addresses; }
struct headers_t { ip_t ip; }
struct metadata_t { }
typedef register<bit<16>> Sums;

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.ip); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    Sums(4) last;
    apply {
        sm.egress_spec = 1;
        bit<16> old;
        last.read(old, 2);
        last.write(2, hdr.ip.sum);
        if (old != 0) { sm.egress_spec = 2; }
    }
}

control Compute(inout headers_t hdr, inout metadata_t meta) {
    Checksum16() checksum;
    apply {
        hdr.ip.sum = checksum.get({ hdr.ip.first, hdr.ip.next, hdr.ip.addresses });
    }
}

#define COMPUTE Compute
#include "skeleton.p4"
