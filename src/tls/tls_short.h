/*
 * tls_short: whether a library failed because this machine was short of something. It does not say
 * so itself: an allocation that failed looks like any other mistake.
 */
#ifndef CULVERT_TLS_TLS_SHORT_H
#define CULVERT_TLS_TLS_SHORT_H

#include <stddef.h>

/* What an allocator has for a library, or for us where only a library is told; it may not return.
 */
void *tls_short_pass(void *memory, size_t size);

/*
 * When all contexts and certificates are made, and there are no other threads yet. Until then a
 * library that is refused memory ends the program, with a sentence and EXIT_CODE_CANNOT_START; from
 * then on it is told, and a handshake fails.
 */
void tls_short_begin(void);

/* Between watch and a failure in the same thread: the sentence, if what failed was short of memory
 * or descriptors, or NULL. */
void tls_short_watch(void);
const char *tls_short_text(void);

#endif
