/* Memory for one batch of packets. */
#include "internal.h"

#include <stdlib.h>

#define CHUNK_SIZE (256u * 1024u)
#define KEEP_BYTES (8u * 1024u * 1024u) /* what stays allocated between batches */

void *dp_arena_more(dp_arena *arena, size_t size) {
    if (arena->current != NULL && arena->current->next != NULL && size <= arena->current->next->size) {
        arena->current = arena->current->next;
    } else {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        dp_chunk *chunk = aligned_alloc(64, dp_align(sizeof *chunk + room, 64));
        if (chunk == NULL) return NULL;
        chunk->size = room;
        if (arena->current == NULL) {
            chunk->next = NULL;
            arena->first = chunk;
        } else {
            chunk->next = arena->current->next;
            arena->current->next = chunk;
        }
        arena->current = chunk;
        arena->total += room;
    }
    arena->used = size;
    return arena->current->bytes;
}

void dp_arena_reset(dp_arena *arena) {
    arena->current = arena->first;
    arena->used = 0;
    if (arena->total <= KEEP_BYTES || arena->first == NULL) return;
    while (arena->first->next != NULL) {
        dp_chunk *chunk = arena->first->next;
        arena->first->next = chunk->next;
        arena->total -= chunk->size;
        free(chunk);
    }
}

void dp_arena_free(dp_arena *arena) {
    while (arena->first != NULL) {
        dp_chunk *chunk = arena->first;
        arena->first = chunk->next;
        free(chunk);
    }
    *arena = (dp_arena){0};
}
