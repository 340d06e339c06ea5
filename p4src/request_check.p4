/* Is a data request well formed: operation, length, one page, and as long a frame as it says? Tells what permission it needs. */

control RequestCheck(inout metadata_t meta, in bit<8> op, in bit<16> length, in address_t va, in bit<32> frame_length) {
    bit<32> payload; // bytes that must follow the header

    action reject() {
        meta.disposition = Disposition.REFUSE;
        meta.status = Status.BAD_REQUEST;
    }

    apply {
        payload = 0;
        if (op == Op.READ || op == Op.CHECKSUM) {
            meta.needed = Permission.READ;
        } else if (op == Op.WRITE) {
            meta.needed = Permission.WRITE;
            payload = (bit<32>) length;
        } else if (op == Op.CAS) {
            meta.needed = Permission.READ_WRITE;
            payload = 16;
        } else if (op == Op.FETCH_ADD) {
            meta.needed = Permission.READ_WRITE;
            payload = 8;
        } else {
            reject();
        }
        if (length == 0 || length > PAGE_SIZE) {
            reject();
        } else if ((bit<16>) va[11:0] + length > PAGE_SIZE) {
            reject();
        } else if (meta.needed == Permission.READ_WRITE && (length != WORD_SIZE || va[2:0] != 0)) {
            reject();
        } else if (frame_length < FRAME_OVERHEAD + payload || frame_length > MAX_FRAME) {
            reject();
        }
    }
}
