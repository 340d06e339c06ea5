#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; int<8> s; }
struct headers_t { h_t h; h_t[2] stack; }
struct metadata_t { bool flag; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action first(bit<8> x) { bit<8> y = x; hdr.h.a = y; }
    @name("first") action copy(@name("x") bit<8> z) { bit<8> v = z; hdr.h.a = v; }
    @name("first") action second(bit<16> x) { hdr.h.b = x; }
    table one { key = { hdr.h.a : exact; } actions = { first; } default_action = first(1); }
    table again { key = { hdr.h.a : exact; } actions = { copy; } default_action = copy(1); }
    table two { key = { hdr.h.a : exact; } actions = { second; } default_action = second(1); }
    apply { one.apply(); again.apply(); two.apply(); }
}

#include "skeleton.p4"
