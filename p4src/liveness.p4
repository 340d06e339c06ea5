/* Is the memory element alive, and on which port? A request to a dead one is refused at once. */

control Liveness(inout metadata_t meta, in rmem_t rmem) {
    action alive(port_t port) {
        meta.target_alive = true;
        meta.out_port = port;
    }

    action failed() {
        meta.target_alive = false;
    }

    action unknown_element() {
        meta.target_alive = false;
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
        if (!meta.target_alive) {
            digest<failed_access_t>(1, { meta.target, rmem.pid, rmem.va, meta.element });
        }
    }
}
