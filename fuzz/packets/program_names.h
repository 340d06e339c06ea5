/* Included before the generated program: these calls go to oracle.c and world.c. */
#define p4prog_log world_log
#define p4prog_lookup oracle_lookup
#define p4prog_value_set_contains oracle_value_set_contains
