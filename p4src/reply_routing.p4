/* Replies: only memory elements send them, but for a compute element's answer to the controller. */

control ReplyRouting(inout metadata_t meta, in bit<8> op, in element_id_t requester) {
    action route(port_t port) {
        meta.out_port = port;
        meta.disposition = Disposition.FORWARD_REPLY;
        meta.verdict = Verdict.FORWARDED_REPLY;
    }

    action drop(Verdict verdict) {
        meta.disposition = Disposition.DROP;
        meta.verdict = verdict;
    }

    action no_route() {
        meta.disposition = Disposition.DROP;
        meta.verdict = Verdict.NO_ROUTE;
    }

    // An entry: this requester is on this port. Written by the controller when an element is wired. A miss: counted drop.
    table reply_route {
        key = { requester: exact @name("element"); }
        actions = { route; @defaultonly no_route; }
        const default_action = no_route();
        size = 1024;
    }

    apply {
        if (requester == CONTROLLER && (meta.kind == Kind.MEMORY || op == Op.NOTIFY_REPLY)) {
            meta.disposition = Disposition.TO_CONTROLLER;
            meta.verdict = Verdict.TO_CONTROLLER;
        } else if (meta.kind != Kind.MEMORY) {
            drop(Verdict.REPLY_FROM_COMPUTE);
        } else if (meta.fenced) {
            drop(Verdict.REPLY_FROM_FENCED);
        } else {
            reply_route.apply();
        }
    }
}
