/* Headers on the wire and metadata of one packet. */
#ifndef _RACK_MMU_HEADERS_P4_
#define _RACK_MMU_HEADERS_P4_

#include "constants.p4"

header ethernet_t {
    mac_t dst_addr;
    mac_t src_addr;
    bit<16> ether_type;
}

header rmem_t {
    bit<8> version;
    bit<8> op;
    bit<8> flags;
    bit<8> status;
    element_id_t src;
    element_id_t dst;
    pid_t pid;
    bit<16> length;
    bit<32> generation;
    address_t va;
    address_t pa;
    bit<64> request_id;
}

@controller_header("packet_in")
header packet_in_t {
    port_t ingress_port;
    bit<7> pad;
    element_id_t element;
}

@controller_header("packet_out")
header packet_out_t {
    port_t egress_port;
    bit<7> pad;
}

struct headers_t {
    packet_in_t packet_in;
    packet_out_t packet_out;
    ethernet_t ethernet;
    rmem_t rmem;
}

struct metadata_t {
    element_id_t element; // on the ingress port
    Kind kind; // of that element
    bool fenced; // that element
    Permission needed; // by this operation
    element_id_t target; // memory element that holds the address
    address_t offset; // physical address - virtual address
    bit<32> generation; // of the mapping
    bool cached; // the request carries a translation: what dst, pa and generation say
    port_t out_port;
    Disposition disposition;
    Status status; // of a refusal
    Verdict verdict; // of anything but a refusal
}

// Digest: an access met a memory element that has failed or is unknown.
struct failed_access_t {
    element_id_t element;
    pid_t pid;
    address_t va;
    element_id_t source;
}

#endif
