/* Numbers of more than 128 bits: N 64-bit words, the lowest first, the bits above the width zero.
 *
 * P4_WIDE(N) defines the type p4_wN and its operations. Programs are small and widths few, so that each operation is a loop
 * over words; `width` is that of the result.
 */
#ifndef P4WIDE_H
#define P4WIDE_H

#include "p4bits.h"

static inline void p4w_mask(uint64_t *r, unsigned n, unsigned width)
{
    if (width % 64 != 0) r[width / 64] &= (UINT64_C(1) << width % 64) - 1;
    for (unsigned i = (width + 63) / 64; i < n; i++) r[i] = 0;
}

static inline bool p4w_bit(const uint64_t *a, unsigned bit) { return a[bit / 64] >> bit % 64 & 1; }

static inline void p4w_add(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    p4_u128 carry = 0;
    for (unsigned i = 0; i < n; i++) {
        carry += (p4_u128)a[i] + b[i];
        r[i] = (uint64_t)carry;
        carry >>= 64;
    }
}

static inline void p4w_sub(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    uint64_t borrow = 0;
    for (unsigned i = 0; i < n; i++) {
        p4_u128 d = (p4_u128)a[i] - b[i] - borrow;
        r[i] = (uint64_t)d;
        borrow = (uint64_t)(d >> 64) & 1;
    }
}

static inline void p4w_mul(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) r[i] = 0;
    for (unsigned i = 0; i < n; i++) {
        p4_u128 carry = 0;
        for (unsigned j = 0; i + j < n; j++) {
            carry += (p4_u128)a[i] * b[j] + r[i + j];
            r[i + j] = (uint64_t)carry;
            carry >>= 64;
        }
    }
}

static inline int p4w_compare(const uint64_t *a, const uint64_t *b, unsigned n)
{
    for (unsigned i = n; i-- > 0;)
        if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    return 0;
}

static inline void p4w_shl(uint64_t *r, const uint64_t *a, uint32_t by, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t from = by / 64;
        uint64_t hi = i >= from ? a[i - from] : 0, lo = i > from ? a[i - from - 1] : 0;
        r[i] = by % 64 ? hi << by % 64 | lo >> (64 - by % 64) : hi;
    }
}

static inline void p4w_shr(uint64_t *r, const uint64_t *a, uint32_t by, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t from = (uint64_t)i + by / 64;
        uint64_t lo = from < n ? a[from] : 0, hi = from + 1 < n ? a[from + 1] : 0;
        r[i] = by % 64 ? lo >> by % 64 | hi << (64 - by % 64) : lo;
    }
}

/* Binary long division; quotient and remainder are zero when b is. */
static inline void p4w_divide(uint64_t *quotient, uint64_t *rest, const uint64_t *a, const uint64_t *b, unsigned n)
{
    bool zero = true;
    for (unsigned i = 0; i < n; i++) {
        quotient[i] = rest[i] = 0;
        zero = zero && b[i] == 0;
    }
    if (zero) return;
    for (unsigned bit = 64 * n; bit-- > 0;) {
        bool out = rest[n - 1] >> 63;
        for (unsigned i = n; i-- > 1;) rest[i] = rest[i] << 1 | rest[i - 1] >> 63;
        rest[0] = rest[0] << 1 | p4w_bit(a, bit);
        if (out || p4w_compare(rest, b, n) >= 0) {
            p4w_sub(rest, rest, b, n);
            quotient[bit / 64] |= UINT64_C(1) << bit % 64;
        }
    }
}

/* Set the bits from `width` up to the copy of the sign of a `width`-bit number. */
static inline void p4w_extend(uint64_t *r, unsigned n, unsigned width)
{
    if (width == 0 || !p4w_bit(r, width - 1)) return;
    if (width % 64) r[width / 64] |= ~UINT64_C(0) << width % 64;
    for (unsigned i = (width + 63) / 64; i < n; i++) r[i] = ~UINT64_C(0);
}

static inline void p4w_get(uint64_t *r, unsigned n, const uint8_t *p, uint32_t bit, unsigned width)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned here = width < 64 ? width : 64;
        width -= here;
        r[i] = p4_get_bits(p, bit + width, here);
    }
}

static inline void p4w_put(const uint64_t *a, uint8_t *p, uint32_t bit, unsigned width)
{
    for (unsigned i = 0; width > 0; i++) {
        unsigned here = width < 64 ? width : 64;
        width -= here;
        p4_put_bits(p, bit + width, here, a[i]);
    }
}

#define P4_WIDE(N)                                                                                                     \
    typedef struct { uint64_t l[N]; } p4_w##N;                                                                         \
    static inline p4_w##N p4_w##N##_fit(p4_w##N a, unsigned width) { p4w_mask(a.l, N, width); return a; }              \
    static inline p4_w##N p4_w##N##_of(const uint64_t *a, unsigned n)                                                  \
    {                                                                                                                  \
        p4_w##N r;                                                                                                     \
        for (unsigned i = 0; i < N; i++) r.l[i] = i < n ? a[i] : 0;                                                    \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_of128(p4_u128 a)                                                                   \
    {                                                                                                                  \
        p4_w##N r = {{(uint64_t)a, (uint64_t)(a >> 64)}};                                                              \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline p4_u128 p4_w##N##_low(p4_w##N a) { return P4_U128(a.l[1], a.l[0]); }                                 \
    static inline p4_w##N p4_w##N##_extend(p4_w##N a, unsigned from, unsigned width)                                   \
    {                                                                                                                  \
        p4w_extend(a.l, N, from);                                                                                      \
        return p4_w##N##_fit(a, width);                                                                                \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_add(p4_w##N a, p4_w##N b, unsigned width)                                          \
    {                                                                                                                  \
        p4w_add(a.l, a.l, b.l, N);                                                                                     \
        return p4_w##N##_fit(a, width);                                                                                \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_sub(p4_w##N a, p4_w##N b, unsigned width)                                          \
    {                                                                                                                  \
        p4w_sub(a.l, a.l, b.l, N);                                                                                     \
        return p4_w##N##_fit(a, width);                                                                                \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_mul(p4_w##N a, p4_w##N b, unsigned width)                                          \
    {                                                                                                                  \
        p4_w##N r;                                                                                                     \
        p4w_mul(r.l, a.l, b.l, N);                                                                                     \
        return p4_w##N##_fit(r, width);                                                                                \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_div(p4_w##N a, p4_w##N b)                                                          \
    {                                                                                                                  \
        p4_w##N q, r;                                                                                                  \
        p4w_divide(q.l, r.l, a.l, b.l, N);                                                                             \
        return q;                                                                                                      \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_mod(p4_w##N a, p4_w##N b)                                                          \
    {                                                                                                                  \
        p4_w##N q, r;                                                                                                  \
        p4w_divide(q.l, r.l, a.l, b.l, N);                                                                             \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_and(p4_w##N a, p4_w##N b)                                                          \
    {                                                                                                                  \
        for (unsigned i = 0; i < N; i++) a.l[i] &= b.l[i];                                                             \
        return a;                                                                                                      \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_or(p4_w##N a, p4_w##N b)                                                           \
    {                                                                                                                  \
        for (unsigned i = 0; i < N; i++) a.l[i] |= b.l[i];                                                             \
        return a;                                                                                                      \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_xor(p4_w##N a, p4_w##N b)                                                          \
    {                                                                                                                  \
        for (unsigned i = 0; i < N; i++) a.l[i] ^= b.l[i];                                                             \
        return a;                                                                                                      \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_not(p4_w##N a, unsigned width)                                                     \
    {                                                                                                                  \
        for (unsigned i = 0; i < N; i++) a.l[i] = ~a.l[i];                                                             \
        return p4_w##N##_fit(a, width);                                                                                \
    }                                                                                                                  \
    static inline bool p4_w##N##_eq(p4_w##N a, p4_w##N b) { return p4w_compare(a.l, b.l, N) == 0; }                    \
    static inline bool p4_w##N##_less(p4_w##N a, p4_w##N b) { return p4w_compare(a.l, b.l, N) < 0; }                   \
    /* signed */                                                                                                       \
    static inline bool p4_w##N##_sless(p4_w##N a, p4_w##N b, unsigned width)                                           \
    {                                                                                                                  \
        bool na = p4w_bit(a.l, width - 1), nb = p4w_bit(b.l, width - 1);                                               \
        return na != nb ? na : p4w_compare(a.l, b.l, N) < 0;                                                           \
    }                                                                                                                  \
    static inline uint32_t p4_w##N##_amount(p4_w##N a)                                                                 \
    {                                                                                                                  \
        for (unsigned i = 1; i < N; i++)                                                                               \
            if (a.l[i]) return 0xffffffffu;                                                                            \
        return p4_amount(a.l[0]);                                                                                      \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_shl(p4_w##N a, uint32_t by, unsigned width)                                        \
    {                                                                                                                  \
        p4_w##N r = {{0}};                                                                                             \
        if (by >= width) return r;                                                                                     \
        p4w_shl(r.l, a.l, by, N);                                                                                      \
        return p4_w##N##_fit(r, width);                                                                                \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_shr(p4_w##N a, uint32_t by, unsigned width)                                        \
    {                                                                                                                  \
        p4_w##N r = {{0}};                                                                                             \
        if (by >= width) return r;                                                                                     \
        p4w_shr(r.l, a.l, by, N);                                                                                      \
        return p4_w##N##_fit(r, width);                                                                                \
    }                                                                                                                  \
    /* signed */                                                                                                       \
    static inline p4_w##N p4_w##N##_sshr(p4_w##N a, uint32_t by, unsigned width)                                       \
    {                                                                                                                  \
        bool negative = p4w_bit(a.l, width - 1);                                                                       \
        if (!negative) return p4_w##N##_shr(a, by, width);                                                             \
        if (by >= width) by = width - 1;                                                                               \
        return p4_w##N##_extend(p4_w##N##_shr(a, by, width), width - by, width);                                       \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_limit(bool negative, unsigned width)                                               \
    {                                                                                                                  \
        p4_w##N r = {{0}};                                                                                             \
        r.l[(width - 1) / 64] = UINT64_C(1) << (width - 1) % 64;                                                       \
        return negative ? r : p4_w##N##_not(r, width);                                                                 \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_uadd(p4_w##N a, p4_w##N b, unsigned width)                                         \
    {                                                                                                                  \
        p4_w##N zero = {{0}};                                                                                          \
        p4_w##N room = p4_w##N##_not(a, width);                                                                        \
        return p4w_compare(b.l, room.l, N) > 0 ? p4_w##N##_not(zero, width) : p4_w##N##_add(a, b, width);              \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_usub(p4_w##N a, p4_w##N b, unsigned width)                                         \
    {                                                                                                                  \
        p4_w##N zero = {{0}};                                                                                          \
        return p4w_compare(b.l, a.l, N) > 0 ? zero : p4_w##N##_sub(a, b, width);                                       \
    }                                                                                                                  \
    /* signed */                                                                                                       \
    static inline p4_w##N p4_w##N##_sadd(p4_w##N a, p4_w##N b, unsigned width)                                         \
    {                                                                                                                  \
        p4_w##N r = p4_w##N##_add(a, b, width);                                                                        \
        bool na = p4w_bit(a.l, width - 1), nb = p4w_bit(b.l, width - 1), nr = p4w_bit(r.l, width - 1);                 \
        return na == nb && nr != na ? p4_w##N##_limit(na, width) : r;                                                  \
    }                                                                                                                  \
    /* signed */                                                                                                       \
    static inline p4_w##N p4_w##N##_ssub(p4_w##N a, p4_w##N b, unsigned width)                                         \
    {                                                                                                                  \
        p4_w##N r = p4_w##N##_sub(a, b, width);                                                                        \
        bool na = p4w_bit(a.l, width - 1), nb = p4w_bit(b.l, width - 1), nr = p4w_bit(r.l, width - 1);                 \
        return na != nb && nr != na ? p4_w##N##_limit(na, width) : r;                                                  \
    }                                                                                                                  \
    static inline p4_w##N p4_w##N##_get(const uint8_t *p, uint32_t bit, unsigned width)                                \
    {                                                                                                                  \
        p4_w##N r;                                                                                                     \
        p4w_get(r.l, N, p, bit, width);                                                                                \
        return r;                                                                                                      \
    }

#endif
