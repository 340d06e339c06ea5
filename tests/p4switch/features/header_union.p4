// A union: at most one member is valid, and emit writes that one.
#include <core.p4>
#include <v1model.p4>

header tag_t { bit<8> kind; }
header small_t { bit<8> v; }
header large_t { bit<32> v; }
header_union body_t { small_t small; large_t large; }
struct headers_t { tag_t tag; body_t body; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.tag);
        transition select(hdr.tag.kind) { 1: small; 2: large; 3: both; default: accept; }
    }
    state small { packet.extract(hdr.body.small); transition accept; }
    state large { packet.extract(hdr.body.large); transition accept; }
    state both { packet.extract(hdr.body.small); transition large; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        sm.egress_spec = 1;
        if (hdr.body.small.isValid() && hdr.body.small.v == 0xff) {
            hdr.body.large.setValid();
            hdr.body.large.v = 0x01020304;
            hdr.body.small.setInvalid();
        } else if (hdr.body.large.isValid() && hdr.body.large.v == 0) {
            hdr.body.large.setInvalid();
        }
        if (!hdr.body.isValid()) { hdr.tag.kind = 0xee; }
    }
}

#include "skeleton.p4"
