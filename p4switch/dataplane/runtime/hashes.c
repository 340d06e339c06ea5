/* The hash algorithms of v1model as bmv2 computes them, and random numbers. The custom CRCs have bmv2's default parameters,
 * which are those of the plain ones.
 */
#include "internal.h"

static uint32_t crc32_table[256];
static uint16_t crc16_table[256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

/* Reflected polynomials: 0x04c11db7 (IEEE 802.3) and 0x8005 (CRC-16/ARC). */
static void fill_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t wide = byte, narrow = byte;
        for (int bit = 0; bit < 8; bit++) {
            wide = wide & 1 ? wide >> 1 ^ 0xedb88320u : wide >> 1;
            narrow = narrow & 1 ? narrow >> 1 ^ 0xa001u : narrow >> 1;
        }
        crc32_table[byte] = wide;
        crc16_table[byte] = (uint16_t)narrow;
    }
}

static uint32_t crc32(const uint8_t *data, uint32_t length) {
    uint32_t crc = 0xffffffffu;
    for (uint32_t i = 0; i < length; i++) crc = crc >> 8 ^ crc32_table[(crc ^ data[i]) & 0xff];
    return ~crc;
}

static uint16_t crc16(const uint8_t *data, uint32_t length) {
    uint16_t crc = 0;
    for (uint32_t i = 0; i < length; i++) crc = (uint16_t)(crc >> 8 ^ crc16_table[(crc ^ data[i]) & 0xff]);
    return crc;
}

/* Internet checksum (RFC 1071). */
static uint16_t csum16(const uint8_t *data, uint32_t length) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i + 1 < length; i += 2) sum += (uint32_t)data[i] << 8 | data[i + 1];
    if (length % 2 != 0) sum += (uint32_t)data[length - 1] << 8;
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static uint16_t xor16(const uint8_t *data, uint32_t length) {
    uint32_t value = 0;
    for (uint32_t i = 0; i + 1 < length; i += 2) value ^= (uint32_t)data[i] << 8 | data[i + 1];
    if (length % 2 != 0) value ^= (uint32_t)data[length - 1] << 8;
    return (uint16_t)value;
}

uint64_t dp_hash(p4prog_env *env, p4prog_hash_algorithm algorithm, const uint8_t *data, uint32_t length) {
    pthread_once(&tables_once, fill_tables);
    switch (algorithm) {
    case P4PROG_HASH_CRC32:
    case P4PROG_HASH_CRC32_CUSTOM: return crc32(data, length);
    case P4PROG_HASH_CRC16:
    case P4PROG_HASH_CRC16_CUSTOM: return crc16(data, length);
    case P4PROG_HASH_RANDOM: return p4prog_random(env) >> 32;
    case P4PROG_HASH_IDENTITY: {
        uint64_t value = 0;
        for (uint32_t i = 0; i < length && i < 8; i++) value = value << 8 | data[i];
        return value;
    }
    case P4PROG_HASH_CSUM16: return csum16(data, length);
    case P4PROG_HASH_XOR16: return xor16(data, length);
    }
    return 0;
}

uint64_t p4prog_hash(p4prog_env *env, p4prog_hash_algorithm algorithm, const uint8_t *data, uint32_t length) {
    return dp_hash(env, algorithm, data, length);
}

static inline uint64_t rotate(uint64_t value, int by) { return value << by | value >> (64 - by); }

/* xoshiro256** (Blackman and Vigna). */
uint64_t p4prog_random(p4prog_env *env) {
    uint64_t *s = env->random;
    uint64_t result = rotate(s[1] * 5, 7) * 9, shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}
