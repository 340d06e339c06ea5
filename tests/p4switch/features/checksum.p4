// The Internet checksum, verified after the parser and computed before the deparser.
#include <core.p4>
#include <v1model.p4>

header ip_t { bit<16> a; bit<16> b; bit<16> checksum; bit<16> c; }
struct headers_t { ip_t ip; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.ip); transition accept; }
}

control Verify(inout headers_t hdr, inout metadata_t meta) {
    apply { verify_checksum(hdr.ip.isValid(), { hdr.ip.a, hdr.ip.b, hdr.ip.c }, hdr.ip.checksum, HashAlgorithm.csum16); }
}

control Compute(inout headers_t hdr, inout metadata_t meta) {
    apply { update_checksum(hdr.ip.isValid(), { hdr.ip.a, hdr.ip.b, hdr.ip.c }, hdr.ip.checksum, HashAlgorithm.csum16); }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        sm.egress_spec = 1;
        if (sm.checksum_error == 1) { hdr.ip.a = 0; }
        hdr.ip.c = hdr.ip.c + 1;
    }
}

#define VERIFY Verify
#define COMPUTE Compute
#include "skeleton.p4"
