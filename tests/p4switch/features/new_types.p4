// type and serialisable enums: what a literal becomes, which operators see the number, casts one step at a time.
#include <core.p4>
#include <v1model.p4>

type bit<8> port_t;
type port_t inner_t;
enum bit<8> kind_t { A = 1, B = 2, C = 4 }
enum bit<8> other_t { X = 2 }

const port_t HOME = 7;

header h_t { kind_t kind; port_t port; bit<8> a; bit<8> b; bit<8> c; }
struct headers_t { h_t h; }
struct metadata_t { port_t port; inner_t inner; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.port, hdr.h.kind) {
            (9, kind_t.A): accept;
            (_, 2 &&& 2): mark;
            default: accept;
        }
    }
    state mark { hdr.h.c = 0xcc; transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        meta.port = 5;
        if (hdr.h.port == HOME) { meta.port = hdr.h.port; }
        meta.inner = (inner_t) meta.port;
        hdr.h.a = (bit<8>) (port_t) meta.inner + hdr.h.kind + kind_t.B;
        hdr.h.b = hdr.h.kind | kind_t.C;
        if (hdr.h.kind == other_t.X || hdr.h.kind < 2) { hdr.h.kind = (kind_t) (hdr.h.kind ++ 8w0)[15:8]; }
        else { hdr.h.kind = (kind_t) other_t.X; }
        hdr.h.port = 9;
    }
}

#include "skeleton.p4"
