/* A request's way through the lookups. Each stage decides (refuses, or hands to the controller) or leaves the request undecided
 * for the next; the last, liveness, decides in any case. */

control RequestPath(inout metadata_t meta, in bit<8> op, in pid_t pid, in address_t va, in bit<16> length,
                    in bit<32> frame_length, in element_id_t cached_element, in address_t cached_pa,
                    in bit<32> cached_generation) {
    Binding() process_binding;
    RequestCheck() request_check;
    Translation() address_translation;
    Protection() access_control;
    Liveness() target_liveness;

    action to_controller() {
        meta.disposition = Disposition.TO_CONTROLLER;
        meta.verdict = Verdict.TO_CONTROLLER;
    }

    apply {
        if (op == Op.HELLO || op == Op.HEARTBEAT) {
            to_controller();
            return;
        }
        if (meta.kind != Kind.COMPUTE) {
            meta.disposition = Disposition.DROP;
            meta.verdict = Verdict.REQUEST_FROM_MEMORY;
            return;
        }
        if (meta.fenced) {
            meta.disposition = Disposition.REFUSE;
            meta.status = Status.FENCED;
            return;
        }
        process_binding.apply(meta, pid);
        if (meta.disposition != Disposition.UNDECIDED) {
            return;
        }
        if ((op & CLASS_MASK) == CONTROL_CLASS) {
            to_controller();
            return;
        }
        request_check.apply(meta, op, length, va, frame_length);
        if (meta.disposition != Disposition.UNDECIDED) {
            return;
        }
        address_translation.apply(meta, va, cached_element, cached_pa);
        if (meta.disposition != Disposition.UNDECIDED) {
            return;
        }
        access_control.apply(meta, pid, va, cached_generation);
        if (meta.disposition != Disposition.UNDECIDED) {
            return;
        }
        target_liveness.apply(meta, pid, va);
    }
}
