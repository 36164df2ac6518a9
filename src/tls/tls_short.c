/*
 * tls_short: when this machine has too little for TLS.
 *
 * Neither library says so in a way that could be relied on. libcrypto 3.0 reads from a null pointer
 * when it is refused memory while it starts; wolfSSL 5.5 then says that a good certificate is none,
 * or that the peer broke the protocol. Their memory comes from tls_mem.c, so what was refused is
 * noted here, for each thread; the one descriptor that they open (/dev/urandom) shows in errno.
 *
 * While the program starts there is nothing to save: it ends where memory is refused, with a
 * sentence. From tls_short_begin() on the library is told, and whatever it makes of it, the
 * handshake fails for the reason that tls_short_text() has.
 */
#include "tls/tls_short.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/base/exit_code.h"
#include "core/base/sink.h"

static atomic_bool short_started;
static _Thread_local bool short_refused;

void tls_short_begin(void)
{
    short_started = true;
}

static _Noreturn void short_end(void)
{
    static const char text[] = "culvert: out of memory for TLS\n";

    sink_put(SINK_ERR, text, sizeof(text) - 1);
    sink_stop();
    _exit(EXIT_CODE_CANNOT_START);
}

void *tls_short_pass(void *memory, size_t size)
{
    if (memory != NULL || size == 0)
        return memory;
    if (!short_started)
        short_end();
    short_refused = true;
    return NULL;
}

void tls_short_watch(void)
{
    short_refused = false;
    errno = 0;
}

const char *tls_short_text(void)
{
    if (short_refused)
        return "out of memory";
    if (errno == EMFILE || errno == ENFILE)
        return "out of file descriptors: raise ulimit -n (with systemd LimitNOFILE=)";
    return NULL;
}
