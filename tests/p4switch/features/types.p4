// typedef, type, serialisable enums, tuples, nested structs, struct expressions, bools in headers.
#include <core.p4>
#include <v1model.p4>

typedef bit<8> byte_t;
type byte_t small_t;
enum bit<8> kind_t { A = 1, B = 2 }
struct inner_t { byte_t x; byte_t y; }
struct outer_t { inner_t inner; small_t s; }

header h_t { kind_t kind; bool flag; bit<7> pad; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        outer_t o = { { 1, 2 }, (small_t) 3 };
        tuple<bit<8>, bit<8>> pair = { 4, 5 };
        inner_t i = o.inner;
        hdr.h.r = i.x + i.y + (bit<8>) o.s + pair[0] + pair[1];
        if (hdr.h.kind == kind_t.B && hdr.h.flag) { hdr.h.kind = kind_t.A; hdr.h.flag = false; }
        else if (hdr.h.kind == (kind_t) 7) { hdr.h.r = 0x77; }
    }
}

#include "skeleton.p4"
