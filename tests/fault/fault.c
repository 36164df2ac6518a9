/*
 * fault: fails the n-th call of a start.
 *
 * Counted are allocations, mappings, descriptors, threads, the ring, and what else a start asks of
 * the system (binding, listening, directories, random bytes), from main() on, of the program and of
 * its libraries, until the program says on standard output that it has started. What the libraries
 * allocate through the program's own allocator is counted at that door.
 *
 *   CULVERT_FAULT_AT    which call fails; 0: none, but all are counted
 *   CULVERT_FAULT_FD    an open descriptor: a line for each call that was failed, "NUMBER NAME
 *                       OBJECT+OFFSET", or, with CULVERT_FAULT_AT=0, "NUMBER NAME" for each that
 *                       was counted
 *   CULVERT_FAULT_NAME  only calls of this name are counted, and all from the n-th on fail
 *
 * Two ways in. A library for LD_PRELOAD (the program as it is shipped): functions have the names of
 * what they stand before. Or, with FAULT_WRAP, linked into the program with the linker's --wrap: a
 * sanitizer's runtime is in the program, in front of any library, so that a preloaded malloc()
 * would never be called. Then calls of the libraries themselves are not counted, but for wolfSSL's
 * and libcrypto's allocations.
 *
 * Not seen in either way: system calls that liburing and glibc make inside of a function that is
 * counted.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct io_uring;
struct io_uring_params;
struct io_uring_buf_reg;
struct io_uring_probe;

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p);
int io_uring_register(unsigned fd, unsigned opcode, const void *arg, unsigned count);
int io_uring_register_probe(struct io_uring *ring, struct io_uring_probe *probe, unsigned count);
int io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *reg, unsigned flags);
int io_uring_register_buffers(struct io_uring *ring, const struct iovec *iov, unsigned count);
int io_uring_register_buffers_sparse(struct io_uring *ring, unsigned count);
int io_uring_register_ring_fd(struct io_uring *ring);
int io_uring_submit(struct io_uring *ring);
int io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int io_uring_submit_and_get_events(struct io_uring *ring);

typedef void *(*wolf_alloc)(size_t size);
typedef void (*wolf_free)(void *memory);
typedef void *(*wolf_realloc)(void *memory, size_t size);
typedef void *(*crypto_alloc)(size_t size, const char *file, int line);
typedef void *(*crypto_realloc)(void *memory, size_t size, const char *file, int line);
typedef void (*crypto_free)(void *memory, const char *file, int line);

int wolfSSL_SetAllocators(wolf_alloc take, wolf_free give, wolf_realloc change);
int CRYPTO_set_mem_functions(crypto_alloc take, crypto_realloc change, crypto_free give);

/* All that is stood before in both ways. */
#define CALLS(X)                        \
    X(malloc)                           \
    X(calloc)                           \
    X(realloc)                          \
    X(posix_memalign)                   \
    X(aligned_alloc)                    \
    X(mmap)                             \
    X(socket)                           \
    X(bind)                             \
    X(listen)                           \
    X(open)                             \
    X(openat)                           \
    X(fopen)                            \
    X(mkostemp)                         \
    X(mkdir)                            \
    X(rename)                           \
    X(fsync)                            \
    X(eventfd)                          \
    X(signalfd)                         \
    X(epoll_create1)                    \
    X(dup)                              \
    X(dup2)                             \
    X(pipe2)                            \
    X(socketpair)                       \
    X(getrandom)                        \
    X(pthread_create)                   \
    X(write)                            \
    X(fflush)                           \
    X(io_uring_queue_init)              \
    X(io_uring_queue_init_params)       \
    X(io_uring_register)                \
    X(io_uring_register_probe)          \
    X(io_uring_register_buf_ring)       \
    X(io_uring_register_buffers)        \
    X(io_uring_register_buffers_sparse) \
    X(io_uring_register_ring_fd)        \
    X(io_uring_submit)                  \
    X(io_uring_submit_and_wait)         \
    X(io_uring_submit_and_get_events)

#ifdef FAULT_WRAP

#define FAULT(name) __wrap_##name
#define REAL(name)  __real_##name
#define X(name)     extern __typeof__(name) __real_##name, __wrap_##name;
CALLS(X)
X(strdup)
X(strndup)
#undef X
int __real_main(int argc, char **argv);
int __wrap_main(int argc, char **argv);

#else

enum {
#define X(name) CALL_##name,
    CALLS(X) X(wolfSSL_SetAllocators) X(CRYPTO_set_mem_functions)
#undef X
        CALL_COUNT
};

static const char *const names[CALL_COUNT] = {
#define X(name) [CALL_##name] = #name,
    CALLS(X) X(wolfSSL_SetAllocators) X(CRYPTO_set_mem_functions)
#undef X
};

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

/* dlsym() allocates; and other libraries' constructors run before any of ours. */
static void *found[CALL_COUNT] = { [CALL_malloc] = (void *)__libc_malloc,
                                   [CALL_calloc] = (void *)__libc_calloc,
                                   [CALL_realloc] = (void *)__libc_realloc };

static void *real(unsigned call)
{
    if (found[call] == NULL)
        found[call] = dlsym(RTLD_NEXT, names[call]);
    return found[call];
}

#define FAULT(name) name
#define REAL(name)  ((__typeof__(name) *)real(CALL_##name))

#endif

static atomic_bool counting;
static atomic_uint calls;
static unsigned fail_at;
static const char *only_name; /* NULL: any */
static int report_fd = -1;

/* No buffer, no allocation. The loader is asked only for a call that failed: it takes its time. */
static void report(unsigned number, const char *name, void *caller)
{
    char line[256];
    Dl_info info = { .dli_fname = NULL };
    int size;

    if (fail_at > 0 && dladdr(caller, &info) != 0 && info.dli_fname != NULL) {
        const char *object = strrchr(info.dli_fname, '/');
        size = snprintf(line, sizeof(line), "%u %s %s+%#lx\n", number, name,
                        object != NULL ? object + 1 : info.dli_fname,
                        (unsigned long)((char *)caller - (char *)info.dli_fbase));
    } else {
        size = snprintf(line, sizeof(line), "%u %s\n", number, name);
    }
    if (size < 0 || syscall(SYS_write, report_fd, line, (size_t)size) != size)
        _exit(99);
}

/* True, with errno, if this call is to fail. */
static bool fails(const char *name, int error, void *caller)
{
    static _Thread_local bool inside; /* the loader may allocate for dladdr */

    if (!counting || inside || (only_name != NULL && strcmp(only_name, name) != 0))
        return false;
    unsigned number = atomic_fetch_add(&calls, 1) + 1;
    bool hit = fail_at > 0 && (only_name != NULL ? number >= fail_at : number == fail_at);
    inside = true;
    if (hit || fail_at == 0)
        report(number, name, caller);
    inside = false;
    errno = hit ? error : errno;
    return hit;
}

#define FAILS(name, error) fails(name, error, __builtin_return_address(0))

/* Memory */

void *FAULT(malloc)(size_t size)
{
    return FAILS("malloc", ENOMEM) ? NULL : REAL(malloc)(size);
}

void *FAULT(calloc)(size_t count, size_t size)
{
    return FAILS("calloc", ENOMEM) ? NULL : REAL(calloc)(count, size);
}

void *FAULT(realloc)(void *memory, size_t size)
{
    return FAILS("realloc", ENOMEM) ? NULL : REAL(realloc)(memory, size);
}

#ifdef FAULT_WRAP /* otherwise the malloc in them is seen */

char *FAULT(strdup)(const char *text)
{
    return FAILS("strdup", ENOMEM) ? NULL : REAL(strdup)(text);
}

char *FAULT(strndup)(const char *text, size_t size)
{
    return FAILS("strndup", ENOMEM) ? NULL : REAL(strndup)(text, size);
}

#endif

int FAULT(posix_memalign)(void **memory, size_t alignment, size_t size)
{
    return FAILS("posix_memalign", ENOMEM) ? ENOMEM : REAL(posix_memalign)(memory, alignment, size);
}

void *FAULT(aligned_alloc)(size_t alignment, size_t size)
{
    return FAILS("aligned_alloc", ENOMEM) ? NULL : REAL(aligned_alloc)(alignment, size);
}

void *FAULT(mmap)(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (FAILS("mmap", ENOMEM))
        return MAP_FAILED;
    return REAL(mmap)(at, size, protection, flags, fd, offset);
}

#ifndef FAULT_WRAP

/* The libraries' memory is refused by asking the program's allocator for more than there is: what
 * it does about that is part of the test. */
#define TOO_MUCH ((size_t)1 << 46)

static wolf_alloc wolf_take;
static wolf_realloc wolf_change;

static void *take_wolf(size_t size)
{
    return wolf_take(FAILS("wolfSSL:malloc", ENOMEM) ? TOO_MUCH : size);
}

static void *change_wolf(void *memory, size_t size)
{
    return wolf_change(memory, FAILS("wolfSSL:realloc", ENOMEM) ? TOO_MUCH : size);
}

int FAULT(wolfSSL_SetAllocators)(wolf_alloc take, wolf_free give, wolf_realloc change)
{
    wolf_take = take;
    wolf_change = change;
    return REAL(wolfSSL_SetAllocators)(take_wolf, give, change_wolf);
}

static crypto_alloc crypto_take;
static crypto_realloc crypto_change;

static void *take_crypto(size_t size, const char *file, int line)
{
    return crypto_take(FAILS("libcrypto:malloc", ENOMEM) ? TOO_MUCH : size, file, line);
}

static void *change_crypto(void *memory, size_t size, const char *file, int line)
{
    size = FAILS("libcrypto:realloc", ENOMEM) ? TOO_MUCH : size;
    return crypto_change(memory, size, file, line);
}

int FAULT(CRYPTO_set_mem_functions)(crypto_alloc take, crypto_realloc change, crypto_free give)
{
    crypto_take = take;
    crypto_change = change;
    return REAL(CRYPTO_set_mem_functions)(take_crypto, change_crypto, give);
}

#endif

/* Descriptors, files and threads */

int FAULT(socket)(int family, int type, int protocol)
{
    return FAILS("socket", EMFILE) ? -1 : REAL(socket)(family, type, protocol);
}

int FAULT(bind)(int fd, const struct sockaddr *addr, socklen_t size)
{
    return FAILS("bind", ENOMEM) ? -1 : REAL(bind)(fd, addr, size);
}

int FAULT(listen)(int fd, int backlog)
{
    return FAILS("listen", ENOMEM) ? -1 : REAL(listen)(fd, backlog);
}

static mode_t mode_of(int flags, va_list args)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

int FAULT(open)(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return FAILS("open", EMFILE) ? -1 : REAL(open)(path, flags, mode);
}

int FAULT(openat)(int dir, const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return FAILS("openat", EMFILE) ? -1 : REAL(openat)(dir, path, flags, mode);
}

FILE *FAULT(fopen)(const char *path, const char *mode)
{
    return FAILS("fopen", EMFILE) ? NULL : REAL(fopen)(path, mode);
}

int FAULT(mkostemp)(char *path, int flags)
{
    return FAILS("mkostemp", EMFILE) ? -1 : REAL(mkostemp)(path, flags);
}

int FAULT(mkdir)(const char *path, mode_t mode)
{
    return FAILS("mkdir", ENOMEM) ? -1 : REAL(mkdir)(path, mode);
}

int FAULT(rename)(const char *from, const char *to)
{
    return FAILS("rename", ENOMEM) ? -1 : REAL(rename)(from, to);
}

int FAULT(fsync)(int fd)
{
    return FAILS("fsync", ENOSPC) ? -1 : REAL(fsync)(fd);
}

int FAULT(eventfd)(unsigned value, int flags)
{
    return FAILS("eventfd", EMFILE) ? -1 : REAL(eventfd)(value, flags);
}

int FAULT(signalfd)(int fd, const sigset_t *set, int flags)
{
    return FAILS("signalfd", EMFILE) ? -1 : REAL(signalfd)(fd, set, flags);
}

int FAULT(epoll_create1)(int flags)
{
    return FAILS("epoll_create1", EMFILE) ? -1 : REAL(epoll_create1)(flags);
}

int FAULT(dup)(int fd)
{
    return FAILS("dup", EMFILE) ? -1 : REAL(dup)(fd);
}

int FAULT(dup2)(int fd, int as)
{
    return FAILS("dup2", EMFILE) ? -1 : REAL(dup2)(fd, as);
}

int FAULT(pipe2)(int fds[2], int flags)
{
    return FAILS("pipe2", EMFILE) ? -1 : REAL(pipe2)(fds, flags);
}

int FAULT(socketpair)(int family, int type, int protocol, int fds[2])
{
    return FAILS("socketpair", EMFILE) ? -1 : REAL(socketpair)(family, type, protocol, fds);
}

ssize_t FAULT(getrandom)(void *memory, size_t size, unsigned flags)
{
    return FAILS("getrandom", ENOSYS) ? -1 : REAL(getrandom)(memory, size, flags);
}

int FAULT(pthread_create)(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg)
{
    return FAILS("pthread_create", EAGAIN) ? EAGAIN : REAL(pthread_create)(thread, attr, run, arg);
}

static bool has(const void *text, size_t size, const char *word)
{
    return size > 0 && memmem(text, size, word, strlen(word)) != NULL;
}

/* With that line the start is over. */
static void look_at_output(const void *text, size_t size)
{
    if (has(text, size, "listening: ") || has(text, size, "ready: "))
        counting = false;
}

ssize_t FAULT(write)(int fd, const void *data, size_t size)
{
    if (fd == STDOUT_FILENO)
        look_at_output(data, size);
    return REAL(write)(fd, data, size);
}

/* The write() in it is not ours to see. */
int FAULT(fflush)(FILE *file)
{
    if (file == stdout)
        look_at_output(file->_IO_write_base, (size_t)(file->_IO_write_ptr - file->_IO_write_base));
    return REAL(fflush)(file);
}

/* The ring. Set-up and registration may find too little memory; a submission that does is made
 * again. */

int FAULT(io_uring_queue_init)(unsigned entries, struct io_uring *ring, unsigned flags)
{
    if (FAILS("io_uring_queue_init", ENOMEM))
        return -ENOMEM;
    return REAL(io_uring_queue_init)(entries, ring, flags);
}

int FAULT(io_uring_queue_init_params)(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *p)
{
    if (FAILS("io_uring_queue_init_params", ENOMEM))
        return -ENOMEM;
    return REAL(io_uring_queue_init_params)(entries, ring, p);
}

int FAULT(io_uring_register)(unsigned fd, unsigned opcode, const void *arg, unsigned count)
{
    return FAILS("io_uring_register", ENOMEM) ? -ENOMEM
                                              : REAL(io_uring_register)(fd, opcode, arg, count);
}

int FAULT(io_uring_register_probe)(struct io_uring *ring, struct io_uring_probe *probe,
                                   unsigned count)
{
    if (FAILS("io_uring_register_probe", ENOMEM))
        return -ENOMEM;
    return REAL(io_uring_register_probe)(ring, probe, count);
}

int FAULT(io_uring_register_buf_ring)(struct io_uring *ring, struct io_uring_buf_reg *reg,
                                      unsigned flags)
{
    if (FAILS("io_uring_register_buf_ring", ENOMEM))
        return -ENOMEM;
    return REAL(io_uring_register_buf_ring)(ring, reg, flags);
}

int FAULT(io_uring_register_buffers)(struct io_uring *ring, const struct iovec *iov, unsigned count)
{
    if (FAILS("io_uring_register_buffers", ENOMEM))
        return -ENOMEM;
    return REAL(io_uring_register_buffers)(ring, iov, count);
}

int FAULT(io_uring_register_buffers_sparse)(struct io_uring *ring, unsigned count)
{
    if (FAILS("io_uring_register_buffers_sparse", ENOMEM))
        return -ENOMEM;
    return REAL(io_uring_register_buffers_sparse)(ring, count);
}

int FAULT(io_uring_register_ring_fd)(struct io_uring *ring)
{
    return FAILS("io_uring_register_ring_fd", ENOMEM) ? -ENOMEM
                                                      : REAL(io_uring_register_ring_fd)(ring);
}

int FAULT(io_uring_submit)(struct io_uring *ring)
{
    return FAILS("io_uring_submit", EAGAIN) ? -EAGAIN : REAL(io_uring_submit)(ring);
}

int FAULT(io_uring_submit_and_wait)(struct io_uring *ring, unsigned count)
{
    return FAILS("io_uring_submit_and_wait", EAGAIN) ? -EAGAIN
                                                     : REAL(io_uring_submit_and_wait)(ring, count);
}

int FAULT(io_uring_submit_and_get_events)(struct io_uring *ring)
{
    return FAILS("io_uring_submit_and_get_events", EAGAIN)
               ? -EAGAIN
               : REAL(io_uring_submit_and_get_events)(ring);
}

/* The start of it all */

static unsigned number_of(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void begin(void)
{
    fail_at = number_of("CULVERT_FAULT_AT", 0);
    only_name = getenv("CULVERT_FAULT_NAME");
    report_fd = (int)number_of("CULVERT_FAULT_FD", UINT32_MAX);
    counting = report_fd >= 0;
}

#ifdef FAULT_WRAP

int __wrap_main(int argc, char **argv)
{
    begin();
    return __real_main(argc, argv);
}

#else

static int (*program)(int argc, char **argv, char **envp);

static int main_from_here(int argc, char **argv, char **envp)
{
    begin();
    return program(argc, argv, envp);
}

typedef int (*start_main)(int (*main)(int, char **, char **), int argc, char **argv,
                          void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
                          void *stack_end);

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    start_main start = (start_main)dlsym(RTLD_NEXT, "__libc_start_main");

    program = main;
    return start(main_from_here, argc, argv, init, fini, rtld_fini, stack_end);
}

#endif
