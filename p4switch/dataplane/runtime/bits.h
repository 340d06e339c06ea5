/* A second index over ternary tables with many masks: for each four bits of the key and each value of them, which entries allow it.
 *
 * A lookup takes one row for each nibble of the key and ANDs them, 512 entries at a time; what is left are the entries that match,
 * apart from ranges, for which a row holds every entry whose range has numbers with these four bits. The cost does not depend on
 * how many masks there are. The tuple-space index stays; this one is built and used where it is the faster, and given up when there is
 * no memory.
 */
#ifndef P4DP_BITS_H
#define P4DP_BITS_H

#include <stdbool.h>
#include <stdint.h>

#define DP_BITS_BLOCK 512u /* entries: a row is a cache line */
#define DP_BITS_KEY_MAX 64u /* bytes of key; longer ones stay with tuple space */

struct dp_table;

typedef uint64_t dp_row __attribute__((vector_size(64)));
typedef struct {
    dp_row *rows; /* nibbles of the key times 16 */
    int32_t priorities[DP_BITS_BLOCK];
    uint32_t used;
} dp_bits_block;

typedef struct {
    dp_bits_block **blocks; /* by entry index / 512; NULL where no entry is */
    uint32_t n_blocks, capacity, nibbles;
} dp_bits;

bool dp_bits_build(struct dp_table *t); /* from the entries in use; false: out of memory, or the key is too long */
void dp_bits_free(struct dp_table *t);
/* False when out of memory: the index must then be freed. */
bool dp_bits_add(struct dp_table *t, uint32_t entry);
void dp_bits_remove(struct dp_table *t, uint32_t entry);
/* The entry of highest priority, of those the oldest; DP_NONE: no entry matches. */
uint32_t dp_bits_find(const struct dp_table *t, const uint8_t *key);
uint64_t dp_bits_memory(const dp_bits *bits);

#endif
