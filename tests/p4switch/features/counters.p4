// Indexed counters, and direct ones, which count every hit.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    counter(4, CounterType.packets_and_bytes) c;
    direct_counter(CounterType.packets_and_bytes) d;
    action forward(bit<9> port) { sm.egress_spec = port; d.count(); }
    table t { key = { hdr.h.a: exact; } actions = { forward; } counters = d; default_action = forward(9); }
    apply { t.apply(); c.count((bit<32>) hdr.h.a); }
}

#include "skeleton.p4"
