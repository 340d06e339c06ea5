// Arrays of numbers and structs: in headers, with constant and variable indices, initialised, compared, gone over.
#include <core.p4>
#include <v1model.p4>

struct pair_t { bit<8> x; bit<8> y; }

header h_t { bit<8> op; bit<8> i; bit<8>[3] v; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { bit<4> marks[16]; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        pair_t[2] pairs = { { 1, hdr.h.v[0] }, ... };
        switch (hdr.h.op) {
            1: { hdr.h.r = hdr.h.v[hdr.h.i]; }
            2: { hdr.h.v[hdr.h.i] = 0xee; }
            3: { for (bit<8> x in hdr.h.v) { hdr.h.v[2] = 0; hdr.h.r = hdr.h.r + x; } }
            4: { pairs[hdr.h.i] = pairs[0]; hdr.h.r = pairs[1].x + pairs[1].y; }
            5: { bit<8>[3] copy = hdr.h.v; hdr.h.v = { 1, 2, 3 }; if (copy != hdr.h.v) { hdr.h.r = copy[1]; } }
            6: { meta.marks[hdr.h.i] = 7; hdr.h.r = meta.marks[15] ++ meta.marks[(bit<4>) hdr.h.i]; }
        }
    }
}

#include "skeleton.p4"
