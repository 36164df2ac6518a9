/*
 * limits: every fixed size of the engine, as sums with a reason per term. What an operator may
 * change is in struct config; what follows from it or is part of the design is here.
 */
#ifndef CULVERT_CORE_IO_LIMITS_H
#define CULVERT_CORE_IO_LIMITS_H

#include "core/base/base.h"
#include "core/base/check.h"
#include "core/wire/frame.h"

/* A limit that the simulation draws for each run (tests/fake/fake_limits.h), so that what takes
 * hours or gigabytes here happens in thousands of its runs. */
#ifdef CULVERT_LIMITS_DRAWN
#define LIMIT_DRAWN(name, usual) fake_limit(fake_limits.name, (usual))
#else
#define LIMIT_DRAWN(name, usual) (usual)
#endif

/* Stream ids (v2): generation << STREAM_SLOT_BITS | a place in the worker's table of ids (struct
 * lane_id). A place is taken after STREAM_APART - 1 others at least (slab.h), so between equal
 * ids lie (STREAM_GENERATION_MAX - 1) STREAM_APART streams; the - 1 is for the first time that a
 * place is taken. A place comes back when nothing of its stream can arrive any more
 * (lane_kept.c). That goes by the peer's counts; should a peer's be wrong, the longest time that
 * a frame can wait is the grace time of a lane that was lost. In that time a worker opens fewer
 * streams. */
#define STREAM_SLOT_BITS      20u
#define STREAM_SLOTS_MAX      (1u << STREAM_SLOT_BITS)
#define STREAM_SLOT_MASK      (STREAM_SLOTS_MAX - 1u)
#define STREAM_GENERATION_MAX LIMIT_DRAWN(generations, (1u << (32u - STREAM_SLOT_BITS)) - 1u)
#define STREAM_IDS            LIMIT_DRAWN(ids, STREAM_SLOTS_MAX)
#define STREAM_APART          LIMIT_DRAWN(apart, 18u * 1024u)
/* Ids of a lane that wait for its peer's count before it is asked for. */
#define STREAM_IDS_ASK LIMIT_DRAWN(ids_ask, 256u)
/* The longest --grace, and more streams in a second than a worker can open: 3 times what
 * docs/BENCHMARKS.md has for a new connection with each request. */
#define GRACE_MAX_S     3600u
#define STREAM_RATE_MAX 20000u
#ifndef CULVERT_LIMITS_DRAWN
CHECK_STATIC((uint64_t)(STREAM_GENERATION_MAX - 1) * STREAM_APART >=
                 (uint64_t)STREAM_RATE_MAX * GRACE_MAX_S,
             "no id comes back while a lane is frozen");
CHECK_STATIC(STREAM_APART < STREAM_IDS / 8, "the table of ids does not run out for it");
#endif

/* In front of what a read may fill: the frame header, and room for a TLS record header before it.
 * Behind: a TLS tag and content type. One cache line each, so that payload starts aligned. */
#define BUF_HEADROOM 64u
#define BUF_TAILROOM 64u
CHECK_STATIC(BUF_HEADROOM >= FRAME_HEADER_MAX + 5, "frame header and TLS record header");

/* Small buffers: requests, small responses, the rest of a frame that a slow reader has not taken.
 * Big ones: bulk reads, lane reads, lane packs. docs/BENCHMARKS.md has the figures that chose the
 * sizes. */
#define BUF_SMALL_SIZE    (8u * 1024u)
#define BUF_BIG_SIZE      (1024u * 1024u)
#define BUF_SMALL_PAYLOAD (BUF_SMALL_SIZE - BUF_HEADROOM - BUF_TAILROOM)
#define BUF_BIG_PAYLOAD   (BUF_BIG_SIZE - BUF_HEADROOM - BUF_TAILROOM)

/* Small buffers per worker: 65,536 (the ids of provided buffers have 16 bits), 512 MiB of address
 * space, touched only when used. */
#define BUF_SMALL_COUNT LIMIT_DRAWN(small_buffers, 65536u)
/* Of these, lent to the kernel for reads of quiet streams at any time. A turn with more ready
 * streams sees -ENOBUFS and tries again. */
#define BUF_PROVIDED LIMIT_DRAWN(provided, 512u)

/* Pipes of a worker (pipe.h), how many stay open that are not in use, and the size of one: an
 * ordinary user may have 256 of them in all her processes (pipe(7), pipe-user-pages-soft). It holds
 * more where pieces are larger than a page, as on loopback, and less where they are smaller. */
#define PIPES_COUNT    LIMIT_DRAWN(pipes, 128u)
#define PIPES_KEPT     32u
#define PIPE_SIZE      (256u * 1024u)
#define PIPES_AGAIN_NS (1 * NSEC_PER_SEC)

/* A frame through a pipe. Below SPLICE_WORTH a copy costs less (docs/BENCHMARKS.md, "Bulk that is
 * not copied"), below SPLICE_LEAST nothing moves. What others on the lane wait for behind the
 * largest, ns, is its size at the lane's rate. */
#define SPLICE_LEAST   LIMIT_DRAWN(splice_least, 64u * 1024u)
#define SPLICE_WORTH   (2u * SPLICE_LEAST)
#define SPLICE_MOST    (1024u * 1024u)
#define SPLICE_RATE_NS (10 * NSEC_PER_MSEC)
/* Who receives moves smaller ones as well, behind a large one, and reads so many times little at a
 * time before a lane is read as before. */
#define SPLICE_BEHIND      8u
#define SPLICE_SMALL_READS 16u
/* A lane is loaded when something of bulk moved on it so recently. */
#define LANE_LOADED_NS (200 * NSEC_PER_MSEC)
/* What a worker moves of a lane in a turn. */
#define SPLICE_TURN (1024u * 1024u)

/* Slices: one for each small buffer, and as many references into big ones again. */
#define SLICE_COUNT (2u * BUF_SMALL_COUNT)

/* Bulk reads of one worker share this much cache: the more streams read in bulk, the smaller their
 * reads, down to BULK_READ_MIN. */
#define BULK_CACHE    (16u * 1024u * 1024u)
#define BULK_READ_MIN (128u * 1024u)

/* A lane's bulk queue: bytes after which streams wait for their turn, and the number of frames. */
#define LANE_BULK_BYTES (1024u * 1024u)
#define LANE_SEGMENTS   64u
/* While completions come this many at a time, a lane with so little to send waits one turn for
 * more. */
#define LANE_HOLD_EVENTS 3u
#define LANE_HOLD        (16u * 1024u)
/* Slices in one sendmsg: JOIN_OK of a resume + control pack + data pack + segments. */
#define LANE_IOV (3u + LANE_SEGMENTS)
/* Bulk frames of one stream between its socket and the lane's: one being sent, one ready. */
#define STREAM_BULK_PENDING BUF_BIG_SIZE

/* Resume: the peer is told our count of received bytes when it has grown by this much (less often
 * costs memory at the sender, more often a frame and a wake-up each time), and when the lane falls
 * quiet. */
#define LANE_ACK LIMIT_DRAWN(lane_ack, 1024u * 1024u)
/* A lane of small traffic, which never fills a read: it must not keep many small buffers busy at
 * its sender. */
#define LANE_ACK_SMALL LIMIT_DRAWN(lane_ack_small, 64u * 1024u)
/* The log of one lane: bytes after which data waits for the peer's count. Honest peers count every
 * LANE_ACK, so this is a path's bandwidth times its round trip: 10 Gbit/s times 50 ms. Behind it,
 * what OPEN, FIN and control frames may add before the log is dropped. And big buffers that every
 * lane may keep when the logs of all have half of them. */
#define LANE_LOG_MAX     LIMIT_DRAWN(lane_log_max, 64u * 1024u * 1024u)
#define LANE_LOG_CONTROL (16u * 1024u * 1024u)
#define LANE_LOG_BIG_MIN LIMIT_DRAWN(lane_log_big_min, 8u)
/* And slices that every lane may keep when its owner has three quarters of them, or of the small
 * buffers. */
#define LANE_LOG_SLICES_MIN 64u
/* Bytes of the log in one send. */
#define LANE_REPLAY_SEND (1024u * 1024u)
/* HELLO, HELLO_OK, JOIN or JOIN_OK. The longest is HELLO: 16 bytes of numbers, and two texts of
 * at most 32 bytes. */
#define LANE_PREFACE (FRAME_V2_HEADER + 16u + 2u * (2u + 32u) + FRAME_NONCE_SIZE)
CHECK_STATIC(LANE_PREFACE >= FRAME_V2_HEADER + 21u + FRAME_PROOF_SIZE, "JOIN");

/* Sparse streams share a lane as long as one of them had a small frame so recently, or within some
 * round trips. How often the kernel is asked for the round trip. */
#define LANE_SPARSE_NS    (20 * NSEC_PER_MSEC)
#define LANE_SPARSE_PATHS 16u
#define LANE_PATH_NS      (100 * NSEC_PER_MSEC)
/* A PING that takes no longer may show how its ends wait for a core, not how long the path is. */
#define LANE_CORE_NS (20 * NSEC_PER_MSEC)

/* A client looks after the path of a lane with streams this often, and asks when it has heard
 * nothing for so long. */
#define LANE_WATCH_NS   (500 * NSEC_PER_MSEC)
#define LANE_SILENCE_NS (1000 * NSEC_PER_MSEC)

/* How long after a cancel a closing stream or listener with an operation in flight asks again. */
#define CANCEL_AGAIN_NS (100 * NSEC_PER_MSEC)

/* Memory that was not needed for a whole period goes back (trim.h): in a turn so many items, or so
 * many bytes, some 100 us; so at least 250 MiB, or 16,000 items, in a second. */
#define TRIM_PERIOD_NS (5 * NSEC_PER_SEC)
#define TRIM_ITEMS     64u
#define TRIM_BYTES     BUF_BIG_SIZE
#define TRIM_NEXT_NS   NSEC_PER_MSEC
/* Reads that take a small buffer in a period in which lent ones may rest. */
#define TRIM_LENT_QUIET (BUF_PROVIDED / 4)

/* A visitor or an origin whose machine is gone says nothing: TCP asks one that has been quiet for
 * PEER_QUIET, and gives it up when so many questions, PEER_ASK apart, had no answer: two minutes.
 * It costs a live one a packet a minute. Seconds, as the kernel wants them. While bytes wait for
 * it, TCP asks otherwise, and is less strict (a quarter of an hour): it is given up here when it
 * has not answered for PEER_SILENT. A reader that is alive and takes nothing is asked for a window
 * every two minutes at last (TCP_RTO_MAX), so it must be more. */
#define PEER_QUIET_S   60
#define PEER_ASK_S     15
#define PEER_ASKS      4
#define PEER_SILENT_NS (180 * NSEC_PER_SEC)
CHECK_STATIC(PEER_SILENT_NS > 120 * NSEC_PER_SEC, "longer than TCP_RTO_MAX");

/* Bytes that a lane's socket takes beyond what is under way (TCP_NOTSENT_LOWAT, tcp(7)). Otherwise
 * one that is not read fills a buffer of some megabytes, and many together the kernel's memory for
 * TCP (net.ipv4.tcp_mem), after which everybody's buffers are small. */
#define LANE_UNSENT (1024u * 1024u)

/* The same for streams' sockets: all of a process together a part of the machine's memory (the
 * kernel is short of memory for TCP at a sixteenth of it, tcp(7), tcp_mem). A socket that comes as
 * the n-th of a worker may have the n-th part of the worker's, so that as many as there can be have
 * a small multiple of it, whenever they came. Where there are few, there is no limit: what a slow
 * reader has not taken yet stands in the kernel, and outlives the process. It does not grow with
 * the stream's window: whoever has read enough once would keep it, and the smallest one costs a
 * stream at full speed some 4 to 10 %. */
#define STREAMS_UNSENT_PART 512u
#define STREAM_UNSENT_LEAST (32u * 1024u)
#define STREAM_UNSENT_MOST  (512u * 1024u) /* from here on none */

/* Streams of which no completion tells anything (quiet.h): all are looked at in QUIET_ROUND_NS, and
 * again so long for each QUIET_ROUND_SLOTS; QUIET_BATCH of them in a turn, QUIET_NEXT_NS before the
 * next ones. Some 0.2 ms a round of 16,384 streams that are not asked for errors. One in
 * QUIET_RARELY rounds asks TCP when a quiet stream's other end has answered. */
#define QUIET_ROUND_NS    NSEC_PER_SEC
#define QUIET_ROUND_SLOTS 16384u
#define QUIET_BATCH       512u
#define QUIET_NEXT_NS     NSEC_PER_MSEC
#define QUIET_RARELY      32u
/* A socket whose end is broken may still have bytes to read, and they go on as long as the lane and
 * the far end take some. When nothing has moved for so long the stream is over: TCP, too, keeps of
 * what was sent before a reset only what the receiver had room for. */
#define QUIET_BROKEN_NS (5 * NSEC_PER_SEC)
/* The same at the far end, where a reader that is only slow shall have what has arrived. */
#define QUIET_LAST_NS (10 * NSEC_PER_SEC)
/* Before TCP is told to ask an origin: what is over sooner costs no system call. */
#define QUIET_ASK_NS (10 * NSEC_PER_SEC)
CHECK_STATIC(QUIET_ASK_NS < PEER_QUIET_S * NSEC_PER_SEC, "in time for the first question");

/* How long a lane that was told to go may take to close its end. */
#define LANE_LINGER_NS (2 * NSEC_PER_SEC)

/* Lanes of one session on one worker, and of one session in all. */
#define SESSION_LANES_MAX 64u

/* v1 has no windows: the lane is not read while a stream has this much waiting; a reader that takes
 * nothing for V1_STALL is closed. */
#define V1_QUEUE_HIGH (4u * 1024u * 1024u)
#define V1_QUEUE_LOW  (V1_QUEUE_HIGH / 2u)
#define V1_STALL_NS   (5 * NSEC_PER_SEC)
/* How often it is asked whether it has taken something. */
#define V1_LOOK_NS NSEC_PER_SEC
/* A reader that itself waits for the lane has longer; not for ever, since the two ends of a lane
 * may wait for each other. */
#define V1_STALL_WAITING_NS (4 * V1_STALL_NS)
/* v1 has no half-close: how long the other direction must be quiet before StreamClose ends both
 * (docs/PROTOCOL.md). */
#define V1_VISITOR_EOF_QUIET_NS (30 * NSEC_PER_SEC)
#define V1_ORIGIN_EOF_QUIET_NS  (250 * NSEC_PER_MSEC)
/* GoTunnel's server loses data that stands directly in front of a StreamClose; 5 ms between them
 * were enough, this is on the safe side. */
#define V1_CLOSE_GAP_NS (25 * NSEC_PER_MSEC)
/* TCP_USER_TIMEOUT of a v1 lane, in expiries: it also ends a connection whose window stays at 0. */
#define V1_USER_TIMEOUT 4u
/* DATA to a v1 peer: it queues 16 frames of a stream, whatever their size, and says at most 4096
 * itself. */
#define V1_DATA_MAX (64u * 1024u)

/* Streams of a worker beyond which connections to origins take source ports of both parities
 * (sock_use_all_ports): half of those that the kernel finds at once. */
#define SOCK_PORTS_CROWD 7000u

/* Frames of one client's address that are handled in a turn, over all its lanes: small ones cost
 * some 100 ns each, whatever is in them, and a read of 1 MiB may hold 80,000. What is left waits
 * for the next turn. */
#define TURN_FRAMES LIMIT_DRAWN(turn_frames, 2048u)
/* A BIND is as much work as so many. */
#define TURN_BIND (TURN_FRAMES / 16)

/* Completions handled in one turn. */
#define WORKER_BATCH 512u
/* A server's lanes that are being closed and have their slots yet. Each accept may close a stranger
 * (strangers.h), whose slot is free when its read was cancelled: in the next turn, or some turns
 * later where completions are many. Without them a newcomer would find a place, but no slot. */
#define WORKER_LANES_CLOSING (4u * WORKER_BATCH)
/* Submission queue of a worker's ring: as wished, and what it may come down to by halves where the
 * user's locked memory is short (ring_entries; 276 KiB and 44 KiB of it). What is too many for it
 * is submitted in the middle of a turn. */
#define WORKER_SQ_ENTRIES 2048u
#define WORKER_SQ_LEAST   256u
CHECK_STATIC((WORKER_SQ_ENTRIES & (WORKER_SQ_ENTRIES - 1)) == 0, "can be halved");
CHECK_STATIC((WORKER_SQ_LEAST & (WORKER_SQ_LEAST - 1)) == 0, "is reached by halves");
CHECK_STATIC(WORKER_SQ_LEAST <= WORKER_SQ_ENTRIES, "the least is no more than the wish");
CHECK_STATIC(4u * WORKER_SQ_LEAST >= WORKER_BATCH, "a completion queue fills a batch");
/* Full batches that the largest completion queue (ring.h: four times the submission queue) holds;
 * for a smaller one they have some room for what overflowed. */
#define WORKER_CQ_BATCHES (4u * WORKER_SQ_ENTRIES / WORKER_BATCH)

#endif
