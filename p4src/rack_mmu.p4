/* The Rack MMU: routes memory requests by virtual address, enforces who may do what, refuses in the data plane.
 *
 *   frame -> parser -> attachment -+-> reply? ----------> reply_routing --------------------------------+
 *                                  +-> hello, heartbeat -> to the controller ---------------------------+-> rewrite -> out
 *                                  +-> fenced?, binding -> control request? -> to the controller -------+
 *                                        -> request check -> translation -> protection -> liveness -----+
 *
 * Lookups write metadata; `rewrite` alone changes headers. A request that a stage does not pass is turned around with a typed
 * status; what is not a request, and does not belong here, is dropped and counted. docs/protocol.md has the rules.
 */
#include <core.p4>
#include <v1model.p4>

#include "headers.p4"
#include "parser.p4"
#include "attachment.p4"
#include "binding.p4"
#include "request_check.p4"
#include "translation.p4"
#include "protection.p4"
#include "liveness.p4"
#include "reply_routing.p4"
#include "rewrite.p4"

control RackMmuIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    counter(ELEMENTS, CounterType.packets_and_bytes) element_traffic;
    Attachment() attachment;
    Binding() process_binding;
    RequestCheck() request_check;
    Translation() address_translation;
    Protection() access_control;
    Liveness() target_liveness;
    ReplyRouting() reply_routing;
    Rewrite() rewrite;

    action refuse(Status status) {
        meta.disposition = Disposition.REFUSE;
        meta.status = status;
    }

    action drop(Verdict verdict) {
        meta.disposition = Disposition.DROP;
        meta.verdict = verdict;
    }

    action to_controller() {
        meta.disposition = Disposition.TO_CONTROLLER;
        meta.verdict = Verdict.TO_CONTROLLER;
    }

    apply {
        bool well_formed = false;
        bit<8> needed = 0;
        if (hdr.packet_out.isValid()) {
            meta.disposition = Disposition.FROM_CONTROLLER;
            meta.verdict = Verdict.FROM_CONTROLLER;
        } else if (standard_metadata.ingress_port == CPU_PORT) {
            drop(Verdict.BAD_PACKET_OUT);
        } else if (!hdr.rmem.isValid()) {
            if (hdr.ethernet.isValid() && hdr.ethernet.ether_type == ETHERTYPE_RMEM) {
                drop(Verdict.TRUNCATED);
            } else {
                drop(Verdict.NOT_RMEM);
            }
        } else if (hdr.rmem.version != RMEM_VERSION) {
            drop(Verdict.BAD_VERSION);
        } else {
            attachment.apply(meta, standard_metadata.ingress_port);
            element_traffic.count((bit<32>) meta.element);
            if (meta.kind == Kind.NONE) {
                drop(Verdict.UNKNOWN_PORT);
            } else if (hdr.rmem.op & REPLY_BIT != 0) {
                reply_routing.apply(meta, hdr.rmem);
            } else if (hdr.rmem.op == Op.HELLO || hdr.rmem.op == Op.HEARTBEAT) {
                to_controller();
            } else if (meta.kind == Kind.MEMORY) {
                drop(Verdict.REQUEST_FROM_MEMORY);
            } else if (meta.fenced) {
                refuse(Status.FENCED);
            } else {
                process_binding.apply(meta, hdr.rmem.pid);
                if (!meta.bound) {
                    refuse(Status.PERMISSION);
                } else if (hdr.rmem.op & CLASS_MASK == CONTROL_CLASS) {
                    to_controller();
                } else {
                    request_check.apply(hdr.rmem, standard_metadata.packet_length, well_formed, needed);
                    if (!well_formed) {
                        refuse(Status.BAD_REQUEST);
                    } else {
                        address_translation.apply(meta, hdr.rmem.va);
                        if (!meta.mapped) {
                            refuse(Status.UNMAPPED);
                        } else {
                            access_control.apply(meta, hdr.rmem.pid, hdr.rmem.va, needed);
                            if (!meta.permitted) {
                                refuse(Status.PERMISSION);
                            } else {
                                target_liveness.apply(meta, hdr.rmem);
                                if (!meta.target_alive) {
                                    refuse(Status.ELEMENT_FAILED);
                                } else {
                                    meta.disposition = Disposition.FORWARD_REQUEST;
                                    meta.verdict = Verdict.FORWARDED_REQUEST;
                                }
                            }
                        }
                    }
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
