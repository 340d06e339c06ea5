// A varbit field: its size comes from the packet; too large or not whole bytes is an error.
#include <core.p4>
#include <v1model.p4>

header opt_t { bit<8> bytes; varbit<32> options; bit<8> after; }
header r_t { bit<8> error_number; }
struct headers_t { r_t r; opt_t o; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.r);
        transition select(packet.lookahead<bit<8>>()) { 0x80 &&& 0x80: odd; default: even; }
    }
    state even { packet.extract(hdr.o, (bit<32>) packet.lookahead<bit<8>>() * 8); transition accept; }
    state odd { packet.extract(hdr.o, 12); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        sm.egress_spec = 1;
        if (sm.parser_error == error.PacketTooShort) { hdr.r.error_number = 1; }
        else if (sm.parser_error == error.HeaderTooShort) { hdr.r.error_number = 4; }
        else if (sm.parser_error == error.ParserInvalidArgument) { hdr.r.error_number = 6; }
        else { hdr.o.after = hdr.o.after + 1; }
    }
}

#include "skeleton.p4"
