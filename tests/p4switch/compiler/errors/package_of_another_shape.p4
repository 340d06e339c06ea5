#include <core.p4>

parser Parser<H>(packet_in packet, out H hdr);
package V1Switch<H>(Parser<H> p);
struct headers_t { }

parser P(packet_in packet, out headers_t hdr) {
    state start { transition accept; }
}

V1Switch(P()) main;
