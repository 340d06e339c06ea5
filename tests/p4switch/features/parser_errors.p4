// An error ends the parser, not the packet: what was not extracted is payload. verify, NoMatch, reject, too short.
#include <core.p4>
#include <v1model.p4>

error { Custom }
header a_t { bit<8> kind; bit<8> result; }
header b_t { bit<16> v; }
struct headers_t { a_t a; b_t b; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.a);
        transition select(hdr.a.kind) { 0: accept; 1: more; 2: checked; 3: reject; }
    }
    state more { packet.extract(hdr.b); transition accept; }
    state checked { verify(hdr.a.result == 7, error.Custom); packet.extract(hdr.b); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        sm.egress_spec = 1;
        if (sm.parser_error == error.NoError) { hdr.a.result = 0x10; }
        if (sm.parser_error == error.PacketTooShort) { hdr.a.result = 0x11; }
        if (sm.parser_error == error.NoMatch) { hdr.a.result = 0x12; }
        if (sm.parser_error == error.Custom) { hdr.a.result = 0x13; }
        if (hdr.b.isValid()) { hdr.b.v = 0xbbbb; }
    }
}

#include "skeleton.p4"
