/* Loading a program's shared object and making its tables and externs. */
#include "internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

_Static_assert(offsetof(p4prog_env, tracing) == 0, "p4prog_tracing looks at the first byte");

static void explain(char *message, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void explain(char *message, size_t size, const char *format, ...) {
    va_list arguments;
    if (message == NULL || size == 0) return;
    va_start(arguments, format);
    vsnprintf(message, size, format, arguments);
    va_end(arguments);
}

/* Indices in the descriptor that later code relies on without looking. */
static const char *inconsistency(const p4prog_program *p) {
    if (p->parse == NULL || p->ingress == NULL || p->egress == NULL || p->deparse == NULL) return "a stage is missing";
    if (p->copy_field_list == NULL || p->reset_metadata == NULL) return "copy_field_list or reset_metadata is missing";
    for (uint32_t i = 0; i < p->n_tables; i++) {
        const p4prog_table *t = &p->tables[i];
        uint32_t end = 0;
        if (t->default_action >= p->n_actions) return "a table's default action does not exist";
        for (uint32_t a = 0; a < t->n_actions; a++)
            if (t->actions[a] >= p->n_actions) return "a table's action does not exist";
        for (uint32_t e = 0; e < t->n_entries; e++)
            if (t->entries[e].action >= p->n_actions) return "an entry's action does not exist";
        for (uint32_t k = 0; k < t->n_keys; k++) {
            if (t->keys[k].offset != end) return "key fields of a table do not follow each other";
            end += dp_bytes(t->keys[k].width);
        }
        if (end != t->key_size) return "a table's key size is not the sum of its fields";
        if (t->key_size > DP_MAX_KEY_WORDS * 8) return "a table's key is larger than 1024 bytes";
        int32_t externs[3] = {t->implementation, t->counter, t->meter};
        for (int k = 0; k < 3; k++)
            if (externs[k] >= 0 && (uint32_t)externs[k] >= p->n_externs) return "a table's extern does not exist";
    }
    return NULL;
}

static bool open_library(p4prog_env *env, const char *path, char *message, size_t message_size) {
    /* dlopen knows libraries by name and inode. Through a descriptor of its own each load is a new one, so that a file that was
       rebuilt in place is really loaded again. */
    env->library_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (env->library_fd < 0) {
        explain(message, message_size, "%s: %s", path, strerror(errno));
        return false;
    }
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", env->library_fd);
    env->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (env->library == NULL) {
        const char *why = dlerror();
        explain(message, message_size, "%s: %s", path, why != NULL ? why : "cannot be loaded");
        return false;
    }
    env->program = dlsym(env->library, "p4prog_main");
    if (env->program == NULL) {
        explain(message, message_size, "%s: exports no p4prog_main", path);
        return false;
    }
    if (env->program->abi_version != P4PROG_ABI_VERSION) {
        explain(message, message_size, "%s: built for ABI %u, this runtime has %u", path, env->program->abi_version, P4PROG_ABI_VERSION);
        return false;
    }
    const char *wrong = inconsistency(env->program);
    if (wrong != NULL) explain(message, message_size, "%s: %s", path, wrong);
    return wrong == NULL;
}

static void seed_random(p4prog_env *env, uint64_t seed) {
    /* splitmix64 fills the state from one number. */
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        env->random[i] = z ^ z >> 31;
    }
}

static bool make_state(p4prog_env *env, char *message, size_t message_size) {
    const p4prog_program *p = env->program;
    explain(message, message_size, "out of memory");
    env->tables = calloc(p->n_tables + 1u, sizeof *env->tables);
    env->externs = calloc(p->n_externs + 1u, sizeof *env->externs);
    env->value_sets = calloc(p->n_value_sets + 1u, sizeof *env->value_sets);
    uint32_t digest_bytes = 1;
    for (uint32_t i = 0; i < p->n_digests; i++)
        if (p->digests[i].size > digest_bytes) digest_bytes = p->digests[i].size;
    env->digest_data = calloc(1, digest_bytes);
    size_t ctx_size = dp_align(p->ctx_size + 1u, 64);
    env->ctx = aligned_alloc(64, ctx_size);
    env->clone_ctx = aligned_alloc(64, ctx_size);
    env->replica_ctx = aligned_alloc(64, ctx_size);
    if (env->tables == NULL || env->externs == NULL || env->value_sets == NULL || env->digest_data == NULL || env->ctx == NULL ||
        env->clone_ctx == NULL || env->replica_ctx == NULL)
        return false;
    memset(env->ctx, 0, ctx_size);
    memset(env->clone_ctx, 0, ctx_size);
    memset(env->replica_ctx, 0, ctx_size);

    for (uint32_t i = 0; i < p->n_value_sets; i++) env->value_sets[i].desc = &p->value_sets[i];
    for (uint32_t i = 0; i < p->n_externs; i++)
        if (!dp_extern_init(&env->externs[i], &p->externs[i])) {
            explain(message, message_size, "no memory for %llu cells of %s", (unsigned long long)p->externs[i].size, p->externs[i].name);
            return false;
        }
    for (uint32_t i = 0; i < p->n_tables; i++) {
        dp_table *t = &env->tables[i];
        if (!dp_table_init(t, p, i, p4prog_random(env))) return false;
        int result = dp_updates_load_entries(env, t);
        if (result != 0) {
            explain(message, message_size, "initial entries of table %s: %s", t->desc->name, p4dp_error_text(result));
            return false;
        }
    }
    return true;
}

p4prog_env *dp_program_load(p4dp_switch *sw, const char *path, char *message, size_t message_size) {
    p4prog_env *env = aligned_alloc(64, dp_align(sizeof *env, 64));
    if (env == NULL) {
        explain(message, message_size, "out of memory");
        return NULL;
    }
    *env = (p4prog_env){.sw = sw, .library_fd = -1};
    seed_random(env, sw->seed);
    if (open_library(env, path, message, message_size) && make_state(env, message, message_size)) {
        explain(message, message_size, "%s", "");
        return env;
    }
    dp_program_unload(env);
    return NULL;
}

void dp_program_unload(p4prog_env *env) {
    if (env == NULL) return;
    for (uint32_t i = 0; env->tables != NULL && i < env->program->n_tables; i++)
        if (env->tables[i].desc != NULL) dp_table_free(&env->tables[i]);
    for (uint32_t i = 0; env->externs != NULL && i < env->program->n_externs; i++) dp_extern_free(&env->externs[i]);
    for (uint32_t i = 0; env->value_sets != NULL && i < env->program->n_value_sets; i++) free(env->value_sets[i].keys);
    free(env->tables);
    free(env->externs);
    free(env->value_sets);
    free(env->digest_data);
    free(env->ctx);
    free(env->clone_ctx);
    free(env->replica_ctx);
    if (env->library != NULL) dlclose(env->library);
    if (env->library_fd >= 0) close(env->library_fd);
    free(env);
}
