/*
 * ktls: records sealed and opened by the kernel (Documentation/networking/tls.rst).
 *
 * ktls_take() moves one direction of a struct record into the kernel: the socket then carries plain
 * bytes on our side and records on the wire. What the kernel takes differs by version (see ktls.c);
 * a refusal leaves the direction with the user engine, which goes on as if nothing had been asked.
 *
 * These functions call setsockopt on the socket given and hold nothing else. ktls_send_type() and
 * ktls_recv_type() prepare and read the control message of the caller's own sendmsg and recvmsg.
 */
#ifndef CULVERT_TLS_KTLS_H
#define CULVERT_TLS_KTLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "tls/record.h"

/* Room for the control message that carries a record type. */
#define KTLS_CMSG_SIZE CMSG_SPACE(sizeof(unsigned char))

/* A sentence for an errno of ktls_attach() or ktls_take(), naming the cure where there is one. */
const char *ktls_why(int error);

/*
 * Once per connected TCP socket, before ktls_take(). 0 or -errno; EEXIST counts as 0. Afterwards,
 * until a direction is taken, the socket behaves as before.
 */
int ktls_attach(int fd);

/*
 * Hands the direction's key, nonce and sequence number to the kernel. 0 and the engine of that
 * direction is ktls (the key is wiped here; the traffic secret stays for key updates), or -errno
 * and nothing has changed; ENOPKG: no such cipher.
 *
 * TX: everything sealed so far must have been sent. RX: everything read from the socket so far must
 * have been opened, and it ended with a whole record: the kernel starts at the next byte, which has
 * to be a record's first.
 */
int ktls_take(struct record *record, enum record_side side, int fd);

/*
 * New keys of a direction that the kernel already has, when record_rekeyed() says so. Linux before
 * 6.14 answers -EBUSY: close the lane (a session with another lane, or a resume, goes on).
 */
int ktls_rekey(struct record *record, enum record_side side, int fd);

/*
 * Makes *msg send one record of `type`: points msg_control at `control` (KTLS_CMSG_SIZE bytes,
 * aligned as a struct cmsghdr), which must live until the send is done. The caller sets msg_iov.
 */
void ktls_send_type(struct msghdr *msg, void *control, enum record_type type);

/*
 * The type of the record that a recvmsg with KTLS_CMSG_SIZE bytes of control room received; DATA
 * when the kernel sent no control message (it does so before TLS_RX is set). A plain recv gives EIO
 * at a record that is not DATA: then use recvmsg.
 */
enum record_type ktls_recv_type(struct msghdr *msg);

#endif
