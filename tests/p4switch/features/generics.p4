// Generic functions and structs with two structs of equal fields: each has a specialisation of its own.
#include <core.p4>
#include <v1model.p4>

struct one_t { bit<8> x; bit<8> y; }
struct two_t { bit<8> y; bit<8> x; }
struct box_t<T> { T value; bit<8> n; }

header h_t { bit<8> a; bit<8> b; bit<8> c; }
struct headers_t { h_t h; }
struct metadata_t { }

void swap<T>(inout T p, inout T q) { T t = p; p = q; q = t; }
T pick<T>(in bool first, in T p, in T q) { return first ? p : q; }
box_t<T> wrap<T>(in T value) { return { value, 7 }; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        one_t o = { hdr.h.a, 1 };
        one_t p = { 2, hdr.h.b };
        two_t t = { hdr.h.a, 3 };
        two_t u = { 4, hdr.h.b };
        swap(o, p);
        swap(t, u);
        box_t<one_t> ob = wrap(pick(false, o, p));
        box_t<two_t> tb = wrap(pick(true, t, u));
        hdr.h.a = ob.value.x + ob.n;
        hdr.h.b = tb.value.x;
        hdr.h.c = tb.value.y + u.x;
    }
}

#include "skeleton.p4"
