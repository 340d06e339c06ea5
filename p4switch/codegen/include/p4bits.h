/* Numbers of up to 128 bits as generated programs use them: network byte order in memory, W-bit arithmetic in registers.
 *
 * A value of W bits is kept in an unsigned type with the bits above W zero. `mask` is 2^W - 1, `width` is W. Signed values are
 * the same patterns; the functions with `signed` in their comment read bit W - 1 as the sign.
 */
#ifndef P4BITS_H
#define P4BITS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef unsigned __int128 p4_u128;

#define P4_INLINE static inline __attribute__((always_inline))
#define P4_LIKELY(x) __builtin_expect(!!(x), 1)
#define P4_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define P4_U128(hi, lo) (((p4_u128)(hi) << 64) | (uint64_t)(lo))

/* ------------------------------------------------------------------------------------------- memory, whole bytes */

P4_INLINE uint64_t p4_load2(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}

P4_INLINE uint64_t p4_load4(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

P4_INLINE uint64_t p4_load8(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

P4_INLINE void p4_store2(uint8_t *p, uint64_t value)
{
    uint16_t v = __builtin_bswap16((uint16_t)value);
    memcpy(p, &v, 2);
}

P4_INLINE void p4_store4(uint8_t *p, uint64_t value)
{
    uint32_t v = __builtin_bswap32((uint32_t)value);
    memcpy(p, &v, 4);
}

P4_INLINE void p4_store8(uint8_t *p, uint64_t value)
{
    uint64_t v = __builtin_bswap64(value);
    memcpy(p, &v, 8);
}

/* 0 to 8 bytes; the number is a constant everywhere, so that one case remains. */
P4_INLINE uint64_t p4_load(const uint8_t *p, unsigned bytes)
{
    switch (bytes) {
    case 0: return 0;
    case 1: return p[0];
    case 2: return p4_load2(p);
    case 3: return p4_load2(p) << 8 | p[2];
    case 4: return p4_load4(p);
    case 5: return p4_load4(p) << 8 | p[4];
    case 6: return p4_load4(p) << 16 | p4_load2(p + 4);
    case 7: return p4_load4(p) << 24 | (p4_load4(p + 3) & 0xffffff);
    default: return p4_load8(p);
    }
}

P4_INLINE void p4_store(uint8_t *p, uint64_t v, unsigned bytes)
{
    switch (bytes) {
    case 0: return;
    case 1: p[0] = (uint8_t)v; return;
    case 2: p4_store2(p, v); return;
    case 3: p4_store2(p, v >> 8); p[2] = (uint8_t)v; return;
    case 4: p4_store4(p, v); return;
    case 5: p4_store4(p, v >> 8); p[4] = (uint8_t)v; return;
    case 6: p4_store4(p, v >> 16); p4_store2(p + 4, v); return;
    case 7: p4_store4(p, v >> 24); p4_store4(p + 3, v); return;
    default: p4_store8(p, v); return;
    }
}

P4_INLINE p4_u128 p4_load128(const uint8_t *p, unsigned bytes) /* 9 to 16 */
{
    return P4_U128(p4_load(p, bytes - 8), p4_load(p + bytes - 8, 8));
}

P4_INLINE void p4_store128(uint8_t *p, p4_u128 v, unsigned bytes) /* 9 to 16 */
{
    p4_store(p, (uint64_t)(v >> 64), bytes - 8);
    p4_store(p + bytes - 8, (uint64_t)v, 8);
}

/* -------------------------------------------------------------------------------------------- memory, single bits */

/* `width` bits, at most 64, that begin `bit` bits after p. Reads only the bytes that hold them. */
static inline uint64_t p4_get_bits(const uint8_t *p, uint32_t bit, unsigned width)
{
    uint64_t v = 0;
    p += bit / 8;
    bit %= 8;
    while (width > 0) {
        unsigned here = 8 - bit < width ? 8 - bit : width;
        v = v << here | (((uint32_t)*p >> (8 - bit - here)) & ((1u << here) - 1u));
        width -= here;
        bit = 0;
        p++;
    }
    return v;
}

/* Write the lowest `width` bits of v, at most 64, from `bit` bits after p on; the bits around them stay. */
static inline void p4_put_bits(uint8_t *p, uint32_t bit, unsigned width, uint64_t v)
{
    p += bit / 8;
    bit %= 8;
    while (width > 0) {
        unsigned here = 8 - bit < width ? 8 - bit : width;
        unsigned shift = 8 - bit - here;
        uint32_t field = ((1u << here) - 1u) << shift;
        *p = (uint8_t)((*p & ~field) | ((uint32_t)(v >> (width - here)) << shift & field));
        width -= here;
        bit = 0;
        p++;
    }
}

static inline p4_u128 p4_get_bits128(const uint8_t *p, uint32_t bit, unsigned width) /* 65 to 128 */
{
    return P4_U128(p4_get_bits(p, bit, width - 64), p4_get_bits(p, bit + width - 64, 64));
}

static inline void p4_put_bits128(uint8_t *p, uint32_t bit, unsigned width, p4_u128 v) /* 65 to 128 */
{
    p4_put_bits(p, bit, width - 64, (uint64_t)(v >> 64));
    p4_put_bits(p, bit + width - 64, 64, (uint64_t)v);
}

/* Copy whole bytes to a place that need not begin at one. */
static inline void p4_put_bytes(uint8_t *p, uint32_t bit, const uint8_t *from, uint32_t bytes)
{
    if (bit % 8 == 0) {
        memcpy(p + bit / 8, from, bytes);
        return;
    }
    for (uint32_t i = 0; i < bytes; i++) p4_put_bits(p, bit + 8 * i, 8, from[i]);
}

/* ------------------------------------------------------------------------------------------------------ arithmetic */

/* A shift amount of any width: what is 2^32 or more is as good as 2^32 - 1. */
P4_INLINE uint32_t p4_amount(p4_u128 n) { return n > 0xffffffffu ? 0xffffffffu : (uint32_t)n; }

#define P4_ARITHMETIC(T, N)                                                                                            \
    P4_INLINE T p4_shl##N(T a, uint32_t n, unsigned width, T mask) { return n >= width ? 0 : (T)(a << n) & mask; }     \
    P4_INLINE T p4_shr##N(T a, uint32_t n, unsigned width) { return n >= width ? 0 : a >> n; }                         \
    /* signed */                                                                                                       \
    P4_INLINE T p4_sshr##N(T a, uint32_t n, unsigned width, T mask)                                                    \
    {                                                                                                                  \
        bool negative = a >> (width - 1) & 1;                                                                          \
        if (n >= width) return negative ? mask : 0;                                                                    \
        return a >> n | (negative ? mask & ~(mask >> n) : 0);                                                          \
    }                                                                                                                  \
    /* Division by zero gives zero, and so does the remainder: a packet must not be able to stop the switch. */        \
    P4_INLINE T p4_div##N(T a, T b) { return b ? a / b : 0; }                                                          \
    P4_INLINE T p4_mod##N(T a, T b) { return b ? a % b : 0; }                                                          \
    P4_INLINE T p4_uadd##N(T a, T b, T mask) { return b > mask - a ? mask : a + b; }                                   \
    P4_INLINE T p4_usub##N(T a, T b) { return b > a ? 0 : a - b; }                                                     \
    /* signed */                                                                                                       \
    P4_INLINE T p4_sadd##N(T a, T b, unsigned width, T mask)                                                           \
    {                                                                                                                  \
        T r = (T)(a + b) & mask, overflow = (a ^ r) & (b ^ r);                                                         \
        if (!(overflow >> (width - 1) & 1)) return r;                                                                  \
        return (a >> (width - 1) & 1) ? mask ^ mask >> 1 : mask >> 1;                                                  \
    }                                                                                                                  \
    /* signed */                                                                                                       \
    P4_INLINE T p4_ssub##N(T a, T b, unsigned width, T mask)                                                           \
    {                                                                                                                  \
        T r = (T)(a - b) & mask, overflow = (a ^ b) & (a ^ r);                                                         \
        if (!(overflow >> (width - 1) & 1)) return r;                                                                  \
        return (a >> (width - 1) & 1) ? mask ^ mask >> 1 : mask >> 1;                                                  \
    }

P4_ARITHMETIC(uint32_t, 32)
P4_ARITHMETIC(uint64_t, 64)
P4_ARITHMETIC(p4_u128, 128)

/* A number from lo to hi, made of 64 random bits; lo when hi is less. */
static inline uint64_t p4_between(uint64_t random, uint64_t lo, uint64_t hi)
{
    if (hi < lo) return lo;
    uint64_t span = hi - lo + 1;
    return span == 0 ? random : lo + (uint64_t)((p4_u128)random * span >> 64);
}

/* -------------------------------------------------------------------------------------------------------- checksums */

/* The ones' complement sum of RFC 1071 over `bytes` bytes, added to `sum`; `odd` when an odd number of bytes came before. */
static inline uint64_t p4_csum_add(uint64_t sum, const uint8_t *p, uint32_t bytes, bool odd)
{
    uint64_t part = 0;
    uint32_t i = 0;
    for (; i + 4 <= bytes; i += 4) part += p4_load(p + i, 4);
    if (i + 2 <= bytes) {
        part += p4_load(p + i, 2);
        i += 2;
    }
    if (i < bytes) part += (uint64_t)p[i] << 8;
    while (part >> 16) part = (part & 0xffff) + (part >> 16);
    return sum + (odd ? __builtin_bswap16((uint16_t)part) : part);
}

static inline uint16_t p4_csum_end(uint64_t sum)
{
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

#endif
