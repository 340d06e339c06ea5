/* Is a data request well formed: operation, length, one page, and as long a frame as it says? */

control RequestCheck(in rmem_t rmem, in bit<32> frame_length, out bool well_formed, out bit<8> needed) {
    bit<32> payload;

    apply {
        well_formed = true;
        needed = 0;
        payload = 0;
        if (rmem.op == Op.READ) {
            needed = Permission.READ;
        } else if (rmem.op == Op.WRITE) {
            needed = Permission.WRITE;
            payload = (bit<32>) rmem.length;
        } else if (rmem.op == Op.CAS) {
            needed = Permission.READ_WRITE;
            payload = 16;
        } else if (rmem.op == Op.FETCH_ADD) {
            needed = Permission.READ_WRITE;
            payload = 8;
        } else {
            well_formed = false;
        }
        if (rmem.length == 0 || rmem.length > PAGE_SIZE) {
            well_formed = false;
        } else if ((bit<16>) rmem.va[11:0] + rmem.length > PAGE_SIZE) {
            well_formed = false;
        }
        if (needed == Permission.READ_WRITE && (rmem.length != WORD_SIZE || rmem.va[2:0] != 0)) {
            well_formed = false;
        }
        if (frame_length < FRAME_OVERHEAD + payload || frame_length > MAX_FRAME) {
            well_formed = false;
        }
    }
}
