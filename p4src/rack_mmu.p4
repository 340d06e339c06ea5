/* The Rack MMU: routes memory requests by virtual address, enforces who may do what, refuses in the data plane.
 *
 *   frame -> parser -> frame_check -> attachment -+-> reply:   reply_routing ------------------------------+-> rewrite -> out
 *                                                 +-> request: request_path -------------------------------+
 *            hello, heartbeat -> fenced? -> binding -> control request? -> request_check -> translation -> protection -> liveness
 *
 * Lookups write metadata; `rewrite` alone changes headers. A request that a stage does not pass is turned around with a typed
 * status; what is not a request, and does not belong here, is dropped and counted. Every frame is counted under one verdict.
 * docs/protocol.md has the rules, docs/p4_program.md a larger drawing.
 */
#include <core.p4>
#include <v1model.p4>

#include "headers.p4"
#include "parser.p4"
#include "frame_check.p4"
#include "attachment.p4"
#include "binding.p4"
#include "request_check.p4"
#include "translation.p4"
#include "protection.p4"
#include "liveness.p4"
#include "request_path.p4"
#include "reply_routing.p4"
#include "rewrite.p4"

control RackMmuIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    FrameCheck() frame_check;
    Attachment() attachment;
    ReplyRouting() reply_routing;
    RequestPath() request_path;
    Rewrite() rewrite;

    apply {
        frame_check.apply(hdr, meta, standard_metadata.ingress_port);
        if (meta.disposition == Disposition.UNDECIDED) {
            attachment.apply(meta, standard_metadata.ingress_port);
            if (meta.disposition == Disposition.UNDECIDED) {
                if ((hdr.rmem.op & REPLY_BIT) != 0) {
                    reply_routing.apply(meta, hdr.rmem.op, hdr.rmem.dst);
                } else {
                    meta.cached = (hdr.rmem.flags & FLAG_CACHED) != 0;
                    request_path.apply(meta, hdr.rmem.op, hdr.rmem.pid, hdr.rmem.va, hdr.rmem.length,
                                       standard_metadata.packet_length, hdr.rmem.dst, hdr.rmem.pa,
                                       hdr.rmem.generation);
                }
            }
        }
        rewrite.apply(hdr, meta, standard_metadata);
    }
}

control RackMmuEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    apply { }
}

control RackMmuVerifyChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control RackMmuComputeChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

V1Switch(RackMmuParser(), RackMmuVerifyChecksum(), RackMmuIngress(), RackMmuEgress(), RackMmuComputeChecksum(),
         RackMmuDeparser()) main;
