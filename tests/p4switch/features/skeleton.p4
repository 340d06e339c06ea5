// What a feature program does not write itself: included last, after headers_t, metadata_t, the parser P and the control MyIngress.
// EGRESS, VERIFY, COMPUTE and DEPARSER may be defined to controls of the program's own.
#ifndef VERIFY
#define VERIFY NoVerify
control NoVerify(inout headers_t hdr, inout metadata_t meta) { apply { } }
#endif
#ifndef EGRESS
#define EGRESS NoEgress
control NoEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }
#endif
#ifndef COMPUTE
#define COMPUTE NoCompute
control NoCompute(inout headers_t hdr, inout metadata_t meta) { apply { } }
#endif
#ifndef DEPARSER
#define DEPARSER EmitAll
control EmitAll(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }
#endif
V1Switch(P(), VERIFY(), MyIngress(), EGRESS(), COMPUTE(), DEPARSER()) main;
