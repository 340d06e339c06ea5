#include <core.p4>
#include <v1model.p4>

struct headers_t { }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { transition accept; }
}

control Sums(inout headers_t hdr, inout metadata_t meta) { apply { } }
control Any(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }
control Emit(packet_out packet, in headers_t hdr) { apply { } }

V1Switch(P(), bit<8>(), Any(), Any(), Sums(), Emit()) main;
