/* Is the memory element alive, and on which port? A request to a dead one is refused at once. */

control Liveness(inout metadata_t meta, in pid_t pid, in address_t va) {
    action alive(port_t port) {
        meta.out_port = port;
        meta.disposition = Disposition.FORWARD_REQUEST;
        meta.verdict = Verdict.FORWARDED_REQUEST;
    }

    action failed() {
        meta.disposition = Disposition.REFUSE;
        meta.status = Status.ELEMENT_FAILED;
    }

    action unknown_element() {
        meta.disposition = Disposition.REFUSE;
        meta.status = Status.ELEMENT_FAILED;
    }

    // An entry: this memory element is alive on this port, or has failed. Written by the controller. A miss counts as failed.
    table liveness {
        key = { meta.target: exact @name("element"); }
        actions = { alive; failed; @defaultonly unknown_element; }
        const default_action = unknown_element();
        size = 1024;
    }

    apply {
        liveness.apply();
        if (meta.disposition == Disposition.REFUSE) {
            digest<failed_access_t>(1, { meta.target, pid, va, meta.element });
        }
    }
}
