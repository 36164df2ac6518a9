/*
 * tls_mem: where the two TLS libraries keep what they allocate, and what they leave on the stack.
 */
#ifndef CULVERT_TLS_TLS_MEM_H
#define CULVERT_TLS_TLS_MEM_H

#include <stdbool.h>

/*
 * Once, first thing in main, before any other thread and any use of TLS: from then on the memory of
 * both TLS libraries, keys and secrets included, is secret memory (core/base/secret.h). False when
 * libcrypto already has memory; then only the memory of this library's own objects is.
 */
bool tls_mem_start(void);

/* Wipes the dead frames below the caller's, in which a library may have left parts of keys. */
__attribute__((noinline)) void tls_mem_wipe_stack(void);

#endif
