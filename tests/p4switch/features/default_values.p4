// ... as a value: defaults of numbers, enums, structs, tuples and headers; a header given with ... in braces is valid.
#include <core.p4>
#include <v1model.p4>

struct pair_t { bit<32> n; bool b; }
enum int<8> number_t { ONE = 1, ZERO = 0, TWO = 2 }
enum letter_t { A, B }
struct all_t { pair_t p; number_t n; letter_t l; }

header h_t { bit<8> op; bit<16> w; bit<8> r; }
struct headers_t { h_t h; h_t a; h_t b; h_t c; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        number_t n = ...;
        letter_t l = ...;
        pair_t whole = ...;
        pair_t one = { 1, ... };
        pair_t named = { b = true, ... };
        all_t nested = { p = ..., ... };
        tuple<bit<8>, letter_t> both = { ... };
        if (n == number_t.ZERO && l == letter_t.A && whole == { 0, false }) { hdr.h.r = hdr.h.r | 1; }
        if (one.n == 1 && !one.b && named == { 0, true }) { hdr.h.r = hdr.h.r | 2; }
        if (nested.p == whole && nested.n == n && both == { 0, letter_t.A }) { hdr.h.r = hdr.h.r | 4; }
        hdr.a = ...;
        hdr.b = { r = 7, ... };
        hdr.c = { ... };
    }
}

#include "skeleton.p4"
