/*
 * secret: the one kind of memory that secrets live in: tokens, private keys, traffic keys, secrets
 * of sessions, and all that the TLS libraries allocate.
 *
 * Its pages are left out of core dumps, locked (never written to swap), zeros in a child of fork,
 * and a block is wiped when it is given back. Any thread; never on the data path, which does not
 * allocate.
 *
 * A secret is a pointer to such memory. It is made there, compared there, and passed by pointer: a
 * copy in a struct or on a stack is a copy that a core dump shows. Where one cannot be avoided it
 * is wiped (explicit_bzero), and dead frames of a library are wiped by tls_mem_wipe_stack(). It is
 * copied by secret_copy(), because memcpy() leaves it in vector registers, which a core dump shows
 * too, and which the compiler may keep on the stack.
 */
#ifndef CULVERT_CORE_BASE_SECRET_H
#define CULVERT_CORE_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed, aligned for any type; NULL when there is no memory. */
void *secret_alloc(size_t size);

/* As realloc(3); what is left behind is wiped. */
void *secret_realloc(void *memory, size_t size);

/* Wipes and gives back; NULL is allowed. */
void secret_free(void *memory);

/* Byte by byte, and no byte stays behind. */
void secret_copy(void *dst, const void *src, size_t size);

/* A storm of handshakes leaves memory that nobody needs. secret_age() ends a period; chunks in
 * which nothing was used for a whole one are given back by secret_trim(), one in a call: true if
 * there are more. secret_is_warm: there are some that may be given back one day. Any thread. */
void secret_age(void);
bool secret_trim(void);
bool secret_is_warm(void);

/* From here on the log has one warning if pages cannot be locked, at once or when it happens.
 * Called when the log is set up; a program that only prints its help does not call it. */
void secret_warn(void);

#endif
