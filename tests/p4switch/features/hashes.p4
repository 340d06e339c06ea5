// crc16, crc32 and csum16 of the check string 123456789, base and max.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<72> data; bit<16> crc16; bit<32> crc32; bit<16> csum; bit<16> ranged; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hash(hdr.h.crc16, HashAlgorithm.crc16, 16w0, { hdr.h.data }, 32w0x10000);
        hash(hdr.h.crc32, HashAlgorithm.crc32, 32w0, { hdr.h.data }, 64w0x100000000);
        hash(hdr.h.csum, HashAlgorithm.csum16, 16w0, { hdr.h.data }, 32w0x10000);
        hash(hdr.h.ranged, HashAlgorithm.crc32, 16w100, { hdr.h.data }, 16w10);
    }
}

#include "skeleton.p4"
