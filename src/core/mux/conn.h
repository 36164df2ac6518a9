/*
 * conn: one connection, as a lane has it: a descriptor, what is in flight on it, TLS, and the
 * frames with which it begins, which are not of the lane's bytes.
 *
 * Lanes outlive their connections (lane_resume.c), so what is known of one of them is kept apart
 * from what is the lane's: all of this is lost with the connection, or begins anew with the next.
 *
 * Sends. One is in flight at a time: of the sealed buffer (records and handshake bytes), or of
 * pieces that the lane has gathered in iov. Reads. One is in flight: into the lane's buffer, or
 * into `raw`, where records gather until they are opened.
 */
#ifndef CULVERT_CORE_MUX_CONN_H
#define CULVERT_CORE_MUX_CONN_H

#include "core/io/limits.h"
#include "core/io/sock.h"
#include "core/io/zero_copy.h"
#include "core/mux/crypt.h"
#include "core/mux/scram.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct conn_rx {  /* [parsed, filled) of buf is not handled yet */
    uint32_t buf; /* BUF_NONE: empty */
    uint32_t parsed, filled;
};

struct conn {
    int fd; /* -1: none */
    union sock_addr peer;
    union sock_addr dial_addr;
    bool connect_flight;

    /* receive */
    bool recv_flight;
    bool dry;                /* the last read emptied the socket: poll first */
    bool rx_busy;            /* reads go into big buffers */
    struct conn_rx *recv_rx; /* where the read in flight goes: the lane's, or raw */
    uint64_t recv_since;     /* ns: start of the read in flight, in lane_table.busy */
    uint64_t heard;          /* ns; TLS: a whole record */
    struct conn_rx raw;      /* records as received */
    struct msghdr rx_msg;    /* kernel record engine: reads come with the type of the record */
    struct iovec rx_iov;

    /* send */
    bool send_flight;
    bool shut;            /* our FIN is out */
    bool flight_zc;       /* the send in flight is one segment, zero-copy */
    bool flight_sealed;   /* it is of sealed_buf */
    uint32_t flight_size; /* its bytes */
    uint64_t send_since;  /* ns: its start */
    uint64_t unblocked;   /* ns: when a send that the peer had held up was over; 0: never */
    struct zero_copy zc;
    struct msghdr msg;
    struct iovec iov[LANE_IOV];
    _Alignas(struct cmsghdr) uint8_t rx_control[CRYPT_CMSG], tx_control[CRYPT_CMSG];

    /* TLS */
    bool tls;            /* is to be TLS: see lane_gate.c */
    bool sniffs;         /* server: nothing was heard yet, and the first byte decides of it */
    struct crypt *crypt; /* NULL: plain, or its TLS is over */
    bool crypt_ready;    /* handshake over; its last bytes may still have to leave */
    bool crypt_asking;   /* a human is asked */
    bool crypt_broken;   /* a record cannot be opened; what came before it is handled first */
    bool crypt_closed;   /* close_notify came */
    bool crypt_ended;    /* nothing is sealed: close_notify or an alert went out, or was refused */
    uint8_t sealed_type; /* of the control record in sealed_buf */
    uint32_t sealed_buf, sealed_sent, sealed_filled; /* records and handshake bytes to send */

    /* the frames with which it begins: lane_preface.c */
    uint8_t preface[LANE_PREFACE]; /* HELLO, HELLO_OK, JOIN or JOIN_OK, which are not counted */
    uint32_t preface_sent, preface_size;
    uint32_t flight_preface;            /* bytes of it in the send in flight */
    uint8_t transcript[SCRAM_KEY_SIZE]; /* of HELLO and HELLO_OK */
    uint64_t said; /* ns: when HELLO or JOIN went out, for the first round trip */

    /* the path */
    uint64_t rtt;      /* ns, of PING, smoothed; 0: not measured */
    uint64_t rtt_min;  /* ns: the shortest; 0: not measured */
    uint64_t path_rtt; /* ns: what TCP sees, as of path_asked; 0: not known */
    uint64_t path_asked;
};

#endif
