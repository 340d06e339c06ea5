// Priority queues with depths and rates, and the queueing metadata that egress sees.
#include <core.p4>
#include <v1model.p4>

header command_t {
    bit<8> priority;
    bit<8> port;
}
header report_t {
    bit<8> number;
    bit<32> enq_timestamp;
    bit<32> enq_qdepth;
    bit<32> deq_timedelta;
    bit<32> deq_qdepth;
}
struct headers_t { command_t command; report_t report; }
struct metadata_t { bit<8> number; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.command);
        meta.number = packet.lookahead<bit<8>>();
        transition accept;
    }
}
control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.priority = (bit<3>)hdr.command.priority;
        sm.egress_spec = (bit<9>)hdr.command.port;
    }
}
control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        hdr.report.setValid();
        hdr.report.number = meta.number;
        hdr.report.enq_timestamp = sm.enq_timestamp;
        hdr.report.enq_qdepth = (bit<32>)sm.enq_qdepth;
        hdr.report.deq_timedelta = sm.deq_timedelta;
        hdr.report.deq_qdepth = (bit<32>)sm.deq_qdepth;
        hdr.command.setInvalid();
    }
}
control EmitReport(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr.report); } }

#define EGRESS MyEgress
#define DEPARSER EmitReport
#include "skeleton.p4"
