/*
 * tls_mem: libcrypto and wolfSSL allocate secret memory (core/base/secret.h): traffic secrets,
 * private keys and key schedules sit in their objects, not only in ours.
 *
 * The stack of a thread is dumped, and the libraries leave keys in dead frames: whoever has called
 * them with keys calls tls_mem_wipe_stack() afterwards.
 *
 * Sanitized builds and builds under valgrind want to see each block: with CULVERT_SANITIZED the
 * libraries keep their malloc.
 */
#include "tls/tls_mem.h"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/memory.h>

#include <openssl/crypto.h>
#include <string.h>

#include "core/base/secret.h"
#include "tls/tls_short.h"

#define WIPE_STACK (32u * 1024) /* deeper than either library goes; checked in test_tls_mem.c */

#ifdef CULVERT_SANITIZED

bool tls_mem_start(void)
{
    return true;
}

#else

static void *tls_mem_crypto_alloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return tls_short_pass(secret_alloc(size), size);
}

static void *tls_mem_crypto_realloc(void *memory, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return tls_short_pass(secret_realloc(memory, size), size);
}

static void *tls_mem_wolf_alloc(size_t size)
{
    return tls_short_pass(secret_alloc(size), size);
}

static void *tls_mem_wolf_realloc(void *memory, size_t size)
{
    return tls_short_pass(secret_realloc(memory, size), size);
}

static void tls_mem_crypto_free(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    secret_free(memory);
}

bool tls_mem_start(void)
{
    return CRYPTO_set_mem_functions(tls_mem_crypto_alloc, tls_mem_crypto_realloc,
                                    tls_mem_crypto_free) == 1 &&
           wolfSSL_SetAllocators(tls_mem_wolf_alloc, secret_free, tls_mem_wolf_realloc) == 0;
}

#endif

void tls_mem_wipe_stack(void)
{
    uint8_t frames[WIPE_STACK];

    explicit_bzero(frames, sizeof(frames));
}
