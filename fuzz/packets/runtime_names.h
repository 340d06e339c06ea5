/* Included before every file of the runtime: these calls go to world.c. */
#define aligned_alloc world_aligned_alloc
#define calloc world_calloc
#define clock_gettime world_clock_gettime
#define dlclose world_dlclose
#define dlopen world_dlopen
#define dlsym world_dlsym
#define fopen world_fopen
#define free world_free
#define malloc world_malloc
#define realloc world_realloc
#define strdup world_strdup
