// The controller sends with a packet-out header and receives with a packet-in header, on the CPU port.
#include <core.p4>
#include <v1model.p4>

const bit<9> CPU = 64;
@controller_header("packet_out") header out_t { bit<9> port; bit<7> pad; }
@controller_header("packet_in") header in_t { bit<9> port; bit<7> pad; }
header h_t { bit<8> a; }
struct headers_t { in_t packet_in; out_t packet_out; h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { transition select(sm.ingress_port) { CPU: from_controller; default: from_port; } }
    state from_controller { packet.extract(hdr.packet_out); transition from_port; }
    state from_port { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        if (hdr.packet_out.isValid()) {
            sm.egress_spec = hdr.packet_out.port;
            hdr.packet_out.setInvalid();
        } else {
            hdr.packet_in.setValid();
            hdr.packet_in.port = sm.ingress_port;
            hdr.packet_in.pad = 0;
            sm.egress_spec = CPU;
        }
    }
}

#include "skeleton.p4"
