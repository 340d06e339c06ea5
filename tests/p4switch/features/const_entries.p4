// Entries in the program: the first that matches wins; masks, prefixes and ranges.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<16> a; bit<8> b; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action forward(bit<9> port) { sm.egress_spec = port; }
    table tern {
        key = { hdr.h.a: ternary; }
        actions = { forward; }
        const default_action = forward(9);
        const entries = {
            0x1234: forward(1);
            0x1200 &&& 0xff00: forward(2);
            _: forward(3);
        }
    }
    table range_table {
        key = { hdr.h.b: range; }
        actions = { forward; NoAction; }
        const default_action = NoAction;
        const entries = { 10 .. 20: forward(5); 21: forward(6); }
    }
    apply { tern.apply(); range_table.apply(); }
}

#include "skeleton.p4"
