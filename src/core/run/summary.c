/* summary: see summary.h. */
#include "core/run/summary.h"

#include "core/base/base.h"
#include "core/mux/session.h"

#include <pthread.h>

struct row {
    uint64_t session;
    uint16_t index, port;
    char name[sizeof(((struct session_tunnel *)0)->name)]; /* may be empty */
    char origin[272];
    uint64_t streams, bytes_up, bytes_down;
};

struct missing {
    uint16_t port;
    const char *why; /* NULL: it is not missing */
    char origin[272];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct row rows[SUMMARY_ROWS];
static unsigned row_count;
static struct row folded; /* rows that had no place; session = how many */

static struct missing missing[CONFIG_TUNNELS_MAX];

static struct row *summary_row_for(uint64_t session, const struct session_tunnel *tunnel)
{
    for (unsigned i = 0; i < row_count; i++) {
        if (rows[i].session != session || rows[i].index != tunnel->index)
            continue;
        if (rows[i].port == 0) /* only lane 0's worker of a client knows it */
            rows[i].port = tunnel->port;
        return &rows[i];
    }
    if (row_count == SUMMARY_ROWS) {
        folded.session++;
        folded.streams += rows[0].streams;
        folded.bytes_up += rows[0].bytes_up;
        folded.bytes_down += rows[0].bytes_down;
        memmove(&rows[0], &rows[1], sizeof(rows[0]) * (SUMMARY_ROWS - 1));
        row_count--;
    }
    struct row *row = &rows[row_count++];
    *row = (struct row){ .session = session, .index = tunnel->index, .port = tunnel->port };
    session_tunnel_name(tunnel, "", row->name, sizeof(row->name));
    memcpy(row->origin, tunnel->origin, sizeof(row->origin));
    return row;
}

/* A client's workers but the first take every tunnel for bound, since no answer comes there: one
 * without a port on them is told of by its streams, or by the worker that knows the port. */
static bool summary_tells_of(const struct session_tunnel *tunnel)
{
    return tunnel->bound && (tunnel->port != 0 || tunnel->streams > 0);
}

void summary_session(const struct session *session)
{
    bool server = session->table->role->opens_streams;

    pthread_mutex_lock(&mutex);
    for (uint32_t i = 0; i < session->tunnel_count; i++) {
        const struct session_tunnel *tunnel = &session->tunnels[i];

        if (!summary_tells_of(tunnel))
            continue;
        struct row *row = summary_row_for(session->id, tunnel);
        row->streams += tunnel->streams;
        row->bytes_up += server ? tunnel->to_lane : tunnel->from_lane;
        row->bytes_down += server ? tunnel->from_lane : tunnel->to_lane;
    }
    pthread_mutex_unlock(&mutex);
}

void summary_missing(unsigned index, uint16_t port, const char *origin, const char *why)
{
    pthread_mutex_lock(&mutex);
    missing[index].port = port;
    missing[index].why = why;
    snprintf(missing[index].origin, sizeof(missing[index].origin), "%s", origin);
    pthread_mutex_unlock(&mutex);
}

static void summary_print_missing(FILE *out)
{
    for (unsigned i = 0; i < CONFIG_TUNNELS_MAX; i++) {
        const struct missing *m = &missing[i];

        if (m->why == NULL)
            continue;
        fprintf(out, "  tunnel %u, ", i);
        if (m->port != 0)
            fprintf(out, "port %u", m->port);
        else
            fprintf(out, "any port");
        fprintf(out, " -> %s: never bound: %s\n", m->origin, m->why);
    }
}

static void summary_print_bytes(FILE *out, uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double value = (double)bytes;
    unsigned unit = 0;

    while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    fprintf(out, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

static void summary_print_moved(FILE *out, uint64_t up, uint64_t down)
{
    summary_print_bytes(out, up);
    fprintf(out, " up, ");
    summary_print_bytes(out, down);
    fprintf(out, " down\n");
}

static void summary_print_row(FILE *out, const struct row *row)
{
    fprintf(out, "%llu streams, ", (unsigned long long)row->streams);
    summary_print_moved(out, row->bytes_up, row->bytes_down);
}

static void summary_print_tunnels(FILE *out)
{
    if (folded.session > 0) {
        fprintf(out, "  %llu earlier tunnels: ", (unsigned long long)folded.session);
        summary_print_row(out, &folded);
    }
    for (unsigned i = 0; i < row_count; i++) {
        fprintf(out, "  tunnel %s%sport %u -> %s (session %llu): ", rows[i].name,
                rows[i].name[0] != '\0' ? ", " : "", rows[i].port,
                rows[i].origin[0] != '\0' ? rows[i].origin : "origin",
                (unsigned long long)rows[i].session);
        summary_print_row(out, &rows[i]);
    }
}

/* What the rows do not have: bytes of streams whose session had ended. */
static void summary_print_rest(FILE *out, uint64_t up, uint64_t down)
{
    for (unsigned i = 0; i < row_count; i++) {
        up -= rows[i].bytes_up;
        down -= rows[i].bytes_down;
    }
    up -= folded.bytes_up;
    down -= folded.bytes_down;
    if (up == 0 && down == 0)
        return;
    fprintf(out, "  streams that outlived their session: ");
    summary_print_moved(out, up, down);
}

static void summary_print_total(FILE *out, const char *name, uint64_t bytes, const char *way)
{
    fprintf(out, "  %-12s ", name);
    summary_print_bytes(out, bytes);
    fprintf(out, " (%llu) %s\n", (unsigned long long)bytes, way);
}

static void summary_print_streams(FILE *out, const struct stats *sum, bool server)
{
    uint64_t to_lane = sum->value[STAT_BYTES_UP], from_lane = sum->value[STAT_BYTES_DOWN];
    uint64_t up = server ? to_lane : from_lane, down = server ? from_lane : to_lane;

    fprintf(out, "  streams      %llu (%llu ended by an error)\n",
            (unsigned long long)sum->value[STAT_STREAMS],
            (unsigned long long)sum->value[STAT_STREAMS_RESET]);
    summary_print_total(out, "bytes up", up, "from visitors");
    summary_print_total(out, "bytes down", down, "to visitors");
    summary_print_tunnels(out);
    summary_print_rest(out, up, down);
}

void summary_print(FILE *out, const struct stats *sum, uint64_t uptime, bool server)
{
    unsigned long seconds = (unsigned long)(uptime / NSEC_PER_SEC);

    pthread_mutex_lock(&mutex);
    fprintf(out, "summary\n");
    fprintf(out, "  uptime       %lu:%02lu:%02lu\n", seconds / 3600, seconds / 60 % 60,
            seconds % 60);
    fprintf(out, "  connections  %llu\n", (unsigned long long)sum->value[STAT_CONNECTIONS]);
    fprintf(out, "  sessions     %llu", (unsigned long long)sum->value[STAT_SESSIONS]);
    if (sum->value[STAT_SESSIONS] > 0) {
        fprintf(out, "\n");
        summary_print_streams(out, sum, server);
    } else {
        fprintf(out, "%s\n", server ? ": no client has logged in" : ": it was never logged in");
    }
    summary_print_missing(out);
    fflush(out);
    pthread_mutex_unlock(&mutex);
}
