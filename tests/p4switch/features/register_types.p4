// Registers of structs, bools, enums, signed and wide numbers; an index out of range leaves the destination as it was.
#include <core.p4>
#include <v1model.p4>

enum bit<8> kind_t { A = 1, B = 2 }
struct cell_t { bit<20> n; bool b; kind_t k; }

header h_t { bit<8> op; bit<32> n; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    register<cell_t>(2) cells;
    register<bool>(2) flags;
    register<int<12>>(2) numbers;
    register<bit<200>>(2) wide;
    apply {
        sm.egress_spec = 1;
        cell_t cell = { 0xabcde, true, kind_t.B };
        if (hdr.h.op == 0) {
            cells.write(1, cell);
            flags.write(1, true);
            numbers.write(1, -5);
            wide.write(1, (bit<200>) hdr.h.n << 160);
        } else {
            bool flag = false;
            int<12> number = 0;
            bit<200> big = 0;
            cell = { 1, false, kind_t.A };
            cells.read(cell, hdr.h.n);
            flags.read(flag, hdr.h.n);
            numbers.read(number, hdr.h.n);
            wide.read(big, hdr.h.n);
            if (cell == { 0xabcde, true, kind_t.B }) { hdr.h.r = hdr.h.r | 1; }
            if (cell == { 1, false, kind_t.A }) { hdr.h.r = hdr.h.r | 2; }
            if (flag) { hdr.h.r = hdr.h.r | 4; }
            if (number < 0 && number == -5) { hdr.h.r = hdr.h.r | 8; }
            if (big[199:160] == 0x12345678) { hdr.h.r = hdr.h.r | 0x10; }
        }
    }
}

#include "skeleton.p4"
