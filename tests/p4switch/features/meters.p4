// A meter that is not configured passes everything as green; one with tiny bursts marks red.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> index; bit<8> colour; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    meter(4, MeterType.packets) m;
    apply {
        sm.egress_spec = 1;
        bit<8> colour = 0xff;
        m.execute_meter((bit<32>) hdr.h.index, colour);
        hdr.h.colour = colour;
    }
}

#include "skeleton.p4"
