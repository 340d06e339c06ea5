#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
struct headers_t { h_t h; h_t i; h_t[2] stack; }
struct metadata_t { bit<8> x; bool flag; }
const bit<8> LIMIT = 9;
typedef bit<8> octet_t;
bit<8> nowhere(in bit<8> x) { return x; }
bit<8> first(in bit<8> x, in bit<8> y) { return x; }
control Sub(inout headers_t hdr) { apply { hdr.h.a = 1; } }
control Idle(inout headers_t hdr) { apply { hdr.h.a = 2; } }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) { 1: more; default: accept; }
    }
    state more { packet.extract(hdr.i); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action used(bit<8> value, bit<8> spare) { hdr.h.a = first(value, 1); }
    action spare_action() { hdr.h.a = 3; }
    @noWarn("unused") action kept() { hdr.h.a = 4; }
    table applied { key = { hdr.h.a : exact; } actions = { used; } default_action = used(1, 2); }
    table forgotten { key = { hdr.h.a : exact; } actions = { used; } default_action = used(1, 2); }
    counter(8, CounterType.packets) hits;
    Sub() sub;
    Sub() other;
    apply {
        bit<8> never;
        applied.apply();
        sub.apply(hdr);
    }
}

#include "skeleton.p4"
