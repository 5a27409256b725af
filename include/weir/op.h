/* SPDX-License-Identifier: MIT */
/*
 * weir/op.h: one asynchronous operation, and a fill helper for each kind.
 *
 * Ownership. The op and all it points to (buffers, paths, iovecs, msghdr, addresses) are the
 * caller's. From a weir_submit() that answered 0 to the op's last callback they are the engine's:
 * nothing is copied, nothing may be changed or freed. In the callback the op is the caller's again:
 * free it, fill it again, submit it again.
 *
 * A zeroed op is ready to be filled. A helper writes the kind and its arguments, resets the
 * optional ones (rw_flags, ioprio, buffer_index, buffer_group) and touches nothing else: callback,
 * user, task, flags and route persist from one submit to the next; deadline_ns and intended_ns are
 * consumed (0 again at the last callback). Filling an op that is live is the caller's error.
 *
 * Results. op->result is >= 0 or a negative errno. -EINTR never surfaces; -EAGAIN only where the
 * caller set RWF_NOWAIT, MSG_DONTWAIT or SPLICE_F_NONBLOCK; -ECANCELED after a cancel or close that
 * won, -ETIME after a deadline that won; an op that succeeded before either keeps its success.
 * Otherwise the errors are those of the system call of the kind's name, and -EOPNOTSUPP where the
 * running kernel cannot carry the kind out; with epoll also -ENOMEM and -ENOSPC
 * (fs.epoll.max_user_watches), where the kernel has no room to watch the fd of an op that waits.
 * No op raises SIGPIPE. Transfers are at most 0x7ffff000 bytes and IOV_MAX buffers, longer ones are
 * cut to that (short), never wrapped; but a message of more than IOV_MAX buffers is -EMSGSIZE, as
 * with sendmsg(2), since the caller's msghdr is not modified.
 * The iovecs of vectors and messages are read by the engine too: they must be real memory.
 */
#ifndef WEIR_OP_H
#define WEIR_OP_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct statx;
struct signalfd_siginfo;

enum weir_kind {
    WEIR_KIND_NONE, /* what a zeroed op is: submit answers -EINVAL */
    WEIR_KIND_NOP,
    WEIR_KIND_READ,
    WEIR_KIND_WRITE,
    WEIR_KIND_READV,
    WEIR_KIND_WRITEV,
    WEIR_KIND_FSYNC,
    WEIR_KIND_SYNC_FILE_RANGE,
    WEIR_KIND_FALLOCATE,
    WEIR_KIND_OPENAT,
    WEIR_KIND_CLOSE,
    WEIR_KIND_STATX,
    WEIR_KIND_UNLINKAT,
    WEIR_KIND_RENAMEAT,
    WEIR_KIND_LINKAT,
    WEIR_KIND_SYMLINKAT,
    WEIR_KIND_MKDIRAT,
    WEIR_KIND_FADVISE,
    WEIR_KIND_SOCKET,
    WEIR_KIND_BIND,
    WEIR_KIND_LISTEN,
    WEIR_KIND_SETSOCKOPT,
    WEIR_KIND_ACCEPT,
    WEIR_KIND_CONNECT,
    WEIR_KIND_RECV,
    WEIR_KIND_SEND,
    WEIR_KIND_RECVMSG,
    WEIR_KIND_SENDMSG,
    WEIR_KIND_SHUTDOWN,
    WEIR_KIND_POLL,
    WEIR_KIND_SPLICE,
    WEIR_KIND_TIMEOUT,
    WEIR_KIND_FTRUNCATE,
    WEIR_KIND_SIGNAL,
    WEIR_KIND_CHILD,
    WEIR_KIND_CALL,
    WEIR_KIND_COUNT
};

/* weir_op.flags */
enum weir_op_flags {
    /*
     * The whole transfer: short ones are continued until all has moved, the end of file, or an
     * error. Result: the bytes moved in all; or the error, with op->moved bytes moved before it. A
     * cancel or deadline is seen before each continuation. For READ, WRITE, READV, WRITEV, RECV,
     * SEND, RECVMSG, SENDMSG and SPLICE; -EINVAL for others. Datagrams gain nothing by it. The
     * continuations of SENDMSG and RECVMSG move plain bytes: name and control data go with the
     * first part.
     */
    WEIR_WHOLE = 1u << 0,
    /*
     * CALL: short work, which does not stand behind long work: it goes into the lane of the calls
     * that the backend sends. For others -EINVAL.
     */
    WEIR_SHORT = 1u << 1,
    /*
     * What submit does when the op cannot have a credit at once, where the loop's default is not
     * wanted (WEIR_REFUSES, WEIR_CALLER_RUNS): wait in the bounded FIFO; refuse, -EAGAIN; or, CALL
     * only, run the function in submit once the FIFO is full too. One of them at most. A post waits
     * whatever it says.
     */
    WEIR_OR_WAIT = 1u << 2,
    WEIR_OR_REFUSE = 1u << 3,
    WEIR_OR_RUN = 1u << 4,
    /*
     * READ, WRITE and their vectors, SPLICE: the fd's file is memory (tmpfs, memfd_create(2)), so
     * moving its bytes waits for no device, if its pages are not swapped out. Such files answer
     * EOPNOTSUPP to RWF_NOWAIT, and io_uring sends each write to one of its threads; with the route
     * INLINE and this flag they are read and written on the spot all the same. Of a file that is
     * not memory it makes the loop wait for the device; of a pipe or a socket, for its peer. The
     * ends of a SPLICE are not looked at then: either may be a pipe, or a unix socket that is read
     * from, as those do not wait (SPLICE_F_NONBLOCK). For others -EINVAL.
     */
    WEIR_IN_MEMORY = 1u << 5,
};

/* weir_op.route: who carries the op out. A wish, but for OFFLOAD. */
enum weir_route {
    WEIR_ROUTE_AUTO, /* the backend's choice */
    /* The backend's own asynchronous way: the ring, the reactor. Where it has none, a worker. */
    WEIR_ROUTE_RING,
    /* First a try on the spot, in the turn, that does not block (RWF_NOWAIT, MSG_DONTWAIT): the
     * quickest way for files that are in the page cache, at the price of the turn's time. What
     * would block goes on as with AUTO. At most WEIR_INLINE_MAX tries a turn. For READ, WRITE,
     * READV, WRITEV, RECV, SEND, RECVMSG, SENDMSG, receives with MSG_WAITALL excepted; SPLICE
     * between pipes and sockets that are O_NONBLOCK, or with WEIR_IN_MEMORY; others go as with
     * AUTO.
     *
     * In a loop that spins (weir_options.spin_ns_max) a receive, but for one with MSG_DONTWAIT, is
     * not tried at first but all the while that turns spin, by a system call each time, so that
     * whoever sends need not wake the loop. When a turn sleeps or does not spin, or more than 16
     * ops are in flight, it goes on as with AUTO. */
    WEIR_ROUTE_INLINE,
    /* A worker of the offload ring, by a blocking system call; behind the offload gate. -EINVAL for
     * kinds that wait for others (ACCEPT, CONNECT, POLL, RECV, RECVMSG, SIGNAL, CHILD), TIMEOUT,
     * CLOSE and NOP. A call that is running cannot be cancelled. */
    WEIR_ROUTE_OFFLOAD,
};

/* weir_op.more: whether this is the op's last callback. */
enum weir_more {
    WEIR_LAST,    /* the op is the caller's again */
    WEIR_MORE,    /* it is live still, and will be called back again */
    WEIR_REARMED, /* the same: the kernel had ended it for want of room, and it was started again */
};

#define WEIR_INLINE_MAX 64 /* tries on the spot a turn */

/* as an offset: the file's own position, as read(2) and write(2) use */
#define WEIR_CURRENT UINT64_MAX

typedef void weir_callback(struct weir_op *op);

/* What a CALL does, on a worker thread; its value is the op's result (negative: a failure, counted
 * as an errno is). */
typedef int64_t weir_function(void *argument);

/*
 * The order of the fields is that of their use: what every op needs, the engine's part of it
 * included, stands in the first two cache lines.
 */
struct weir_op {
    weir_callback *callback; /* required; called once, on the loop's thread, inside a turn */
    struct weir_task *task;  /* whose histograms; NULL: the built-in task of the kind */
    int64_t result;          /* valid in the callback */
    uint64_t deadline_ns;    /* CLOCK_MONOTONIC (weir_now); past it the result is -ETIME; 0: none */
    uint64_t intended_ns;    /* when the work should have started, latency counts from it; 0:
                           * submit */
    uint16_t flags;          /* enum weir_op_flags */
    /* Completions that a multishot op may have between two turns: it holds that many credits. 0:
     * one. No kind has several yet: -EINVAL above 1. */
    uint16_t burst;
    uint8_t route;      /* enum weir_route */
    uint8_t attempts;   /* the engine's */
    uint8_t asked_back; /* the engine's: weir_op_asked() */
    uint8_t governed;   /* the engine's; leave 0 */

    /* Arguments, written by the helpers; rw_flags and ioprio may be set after them. With `kind` in
     * one cache line of an aligned op: no store of a helper straddles two. */
    uint8_t kind;          /* enum weir_kind */
    uint8_t more;          /* enum weir_more: valid in the callback */
    uint16_t buffer_group; /* reserved for provided buffers: leave 0 */
    int32_t fd;
    uint32_t rw_flags;     /* READ, WRITE and their vectors: RWF_* of preadv2(2) */
    uint16_t ioprio;       /* READ, WRITE and their vectors: ioprio_set(2); 0: the thread's own */
    uint16_t buffer_index; /* reserved for registered buffers: leave 0 */

    uint32_t buffer_id; /* reserved for provided buffers: valid in the callback, leave 0 */

    /* The engine's alone. */
    /* All zero while the op is the caller's. Read together, so in this order and aligned. */
    uint8_t state;
    uint8_t asked;
    uint8_t retry;
    uint8_t with;
    struct weir_loop *loop; /* valid from submit to the last callback; yours to read */
    union {
        struct {
            struct weir_op *next;
            struct weir_op *prev;
        } link; /* on the gate's FIFO, the early list, or waiting to close its fd */
        struct {
            uint32_t position;
            int32_t result;
            uint32_t expected;
        } carrier; /* in flight: the backend's */
    } held;
    struct weir_slot *slot;
    uint64_t born_ns;
    union {
        uint64_t left_ns;
        const char *site; /* of a posted op, until it has a slot */
    };

    void *user; /* anything; weir does not look at it */

    /* More arguments. */
    union {
        struct {
            void *buffer;    /* or the first iovec, or the msghdr */
            uint64_t length; /* bytes, or the number of iovecs */
            uint64_t offset;
            uint32_t flags; /* MSG_*, FALLOC_FL_*, SPLICE_F_*, ... */
            int32_t fd2;    /* SPLICE: the fd read from */
        } io;
        struct {
            const char *path;
            const char *path2;
            void *statx;
            int32_t fd2;
            uint32_t flags;
        } path;
        struct {
            void *address;
            uint32_t *length_ret;
            uint32_t length;
            int32_t level;
            int32_t name;
            uint32_t flags;
        } socket;
        struct {
            uint64_t at_ns;
        } timeout;
        struct {
            uint64_t signals; /* WEIR_SIGNAL() of each */
            void *ret_info;
            int32_t pid;
        } watch;
        struct {
            weir_function *function;
            void *argument;
            /* The engine's. */
            struct weir_op *older;
            int64_t result;
        } call;
    } arg;
    uint64_t mode_or_offset2; /* OPENAT, MKDIRAT: mode; STATX: mask; SPLICE: the offset read from */
    uint64_t moved;      /* after a WHOLE op: bytes moved, also when it failed; else anything */
    uint32_t heap_index; /* the engine's, as are the next two */
    uint32_t credits;
    uint64_t bytes; /* ends the cache line: ops in an array share none */
};

/* "read", "sync_file_range", ...; "none" for kind 0; NULL for no such kind. Any thread. */
WEIR_API const char *weir_kind_name(unsigned kind);

/*
 * The fill helpers. None can fail: bad arguments are found by weir_submit() (-EINVAL) or by the
 * kernel (the op's result). `result:` says what op->result is on success. An int fd is checked by
 * the kernel: -EBADF. Lengths are bytes. Any thread that owns the op.
 */

/* Goes all the way to the backend and back. result: 0. */
WEIR_API void weir_op_nop(struct weir_op *op);

/* pread(2), pwrite(2); offset may be WEIR_CURRENT, and is ignored for what has no position (pipes,
 * sockets). result: bytes, 0 at end of file. */
WEIR_API void weir_op_read(struct weir_op *op, int fd, void *buffer, uint64_t length,
                           uint64_t offset);
WEIR_API void weir_op_write(struct weir_op *op, int fd, const void *buffer, uint64_t length,
                            uint64_t offset);
/* preadv2(2), pwritev2(2) with op->rw_flags. The iovecs are never modified. result: bytes. */
WEIR_API void weir_op_readv(struct weir_op *op, int fd, const struct iovec *iov, uint64_t count,
                            uint64_t offset);
WEIR_API void weir_op_writev(struct weir_op *op, int fd, const struct iovec *iov, uint64_t count,
                             uint64_t offset);

/* fsync(2); fdatasync(2). result: 0. */
WEIR_API void weir_op_fsync(struct weir_op *op, int fd);
WEIR_API void weir_op_fdatasync(struct weir_op *op, int fd);
/* sync_file_range(2), flags SYNC_FILE_RANGE_*; length at most 4 GiB - 1, -EINVAL past it: the
 * kernel's request has 32 bits; 0 means to the end of the file. result: 0. */
WEIR_API void weir_op_sync_file_range(struct weir_op *op, int fd, uint64_t offset, uint64_t length,
                                      unsigned flags);
/* fallocate(2), mode FALLOC_FL_*. result: 0. */
WEIR_API void weir_op_fallocate(struct weir_op *op, int fd, int mode, uint64_t offset,
                                uint64_t length);
/* posix_fadvise(2), advice POSIX_FADV_*; length as in sync_file_range. result: 0. */
WEIR_API void weir_op_fadvise(struct weir_op *op, int fd, uint64_t offset, uint64_t length,
                              int advice);

/* openat(2); O_CLOEXEC is the caller's to set. result: a new fd. */
WEIR_API void weir_op_openat(struct weir_op *op, int dirfd, const char *path, int flags,
                             mode_t mode);
/*
 * close(2), safely: at submit every live op on the fd is cancelled, the fd is closed once they are
 * all back, and this op's callback comes last. Submitting more on the fd before that is the
 * caller's error (such ops are cancelled too). If this op is itself cancelled or past its deadline
 * while it waits (-ECANCELED, -ETIME), the fd was not closed. result: 0; an error of the file
 * system's, after which the fd is closed all the same (close(2), "Dealing with error returns");
 * -EBADF.
 */
WEIR_API void weir_op_close(struct weir_op *op, int fd);

/* statx(2), flags AT_*, mask STATX_*. result: 0. */
WEIR_API void weir_op_statx(struct weir_op *op, int dirfd, const char *path, int flags,
                            unsigned mask, struct statx *ret_statx);
/* unlinkat(2), renameat2(2), linkat(2), symlinkat(2), mkdirat(2). result: 0. */
WEIR_API void weir_op_unlinkat(struct weir_op *op, int dirfd, const char *path, int flags);
WEIR_API void weir_op_renameat(struct weir_op *op, int old_dirfd, const char *old_path,
                               int new_dirfd, const char *new_path, unsigned flags);
WEIR_API void weir_op_linkat(struct weir_op *op, int old_dirfd, const char *old_path, int new_dirfd,
                             const char *new_path, int flags);
WEIR_API void weir_op_symlinkat(struct weir_op *op, const char *target, int dirfd,
                                const char *path);
WEIR_API void weir_op_mkdirat(struct weir_op *op, int dirfd, const char *path, mode_t mode);

/* socket(2), type with SOCK_CLOEXEC and SOCK_NONBLOCK as wanted. result: a new fd. */
WEIR_API void weir_op_socket(struct weir_op *op, int domain, int type, int protocol);
/* bind(2), listen(2), setsockopt(2). result: 0. */
WEIR_API void weir_op_bind(struct weir_op *op, int fd, const struct sockaddr *address,
                           socklen_t length);
WEIR_API void weir_op_listen(struct weir_op *op, int fd, int backlog);
WEIR_API void weir_op_setsockopt(struct weir_op *op, int fd, int level, int name, const void *value,
                                 socklen_t length);
/* accept4(2), flags SOCK_CLOEXEC and SOCK_NONBLOCK; address and length may be NULL. result: a new
 * fd. */
WEIR_API void weir_op_accept(struct weir_op *op, int fd, struct sockaddr *ret_address,
                             socklen_t *length, int flags);
/* connect(2); blocking or not, the result comes when the connection stands or failed. result: 0. */
WEIR_API void weir_op_connect(struct weir_op *op, int fd, const struct sockaddr *address,
                              socklen_t length);
/* recv(2), send(2), recvmsg(2), sendmsg(2), flags MSG_*; MSG_NOSIGNAL is always added. result:
 * bytes. */
WEIR_API void weir_op_recv(struct weir_op *op, int fd, void *buffer, uint64_t length, int flags);
WEIR_API void weir_op_send(struct weir_op *op, int fd, const void *buffer, uint64_t length,
                           int flags);
WEIR_API void weir_op_recvmsg(struct weir_op *op, int fd, struct msghdr *message, int flags);
WEIR_API void weir_op_sendmsg(struct weir_op *op, int fd, const struct msghdr *message, int flags);
/* shutdown(2), how SHUT_*. result: 0. */
WEIR_API void weir_op_shutdown(struct weir_op *op, int fd, int how);

/* Waits once for poll(2) events. A regular file is ready at once. result: the ready events, > 0. */
WEIR_API void weir_op_poll(struct weir_op *op, int fd, unsigned events);
/* splice(2), flags SPLICE_F_*; offsets WEIR_CURRENT for pipes and files' own positions. result:
 * bytes. With SPLICE_F_NONBLOCK -EAGAIN where a pipe or a socket would be waited for; a TCP socket
 * without O_NONBLOCK may be waited for all the same, by a thread of the kernel's (splice(2)). */
WEIR_API void weir_op_splice(struct weir_op *op, int fd_in, uint64_t offset_in, int fd_out,
                             uint64_t offset_out, uint64_t length, unsigned flags);

/*
 * A timer: comes back at at_ns (CLOCK_MONOTONIC), never early; a past time: in the next turn. The
 * second form: wait_ns from weir_now(loop). result: 0. deadline_ns on it is -EINVAL. Timers take no
 * place behind the gate: weir_options.timers_max bounds them.
 */
WEIR_API void weir_op_timeout(struct weir_op *op, uint64_t at_ns);
WEIR_API void weir_op_timeout_in(struct weir_op *op, const struct weir_loop *loop,
                                 uint64_t wait_ns);

/* ftruncate(2). result: 0. */
WEIR_API void weir_op_ftruncate(struct weir_op *op, int fd, uint64_t length);

/*
 * Waits for one of a set of signals: WEIR_SIGNAL(SIGTERM) | WEIR_SIGNAL(SIGINT). By signalfd(2);
 * weir installs no handler. The loop's thread must block them all (the result is -EINVAL if it
 * does not), and so must every thread of the process for signals sent to the process: block them
 * before the first loop is opened. One op takes one signal; those that come before it is submitted
 * again stay pending. ret_info: what was received, or NULL. Takes an fd while it is in flight:
 * -EMFILE, -ENFILE. result: the signal's number.
 */
#define WEIR_SIGNAL(number) (1ULL << ((number)-1))
WEIR_API void weir_op_signal(struct weir_op *op, uint64_t signals,
                             struct signalfd_siginfo *ret_info);

/* How a process ended: si_code (CLD_EXITED, CLD_KILLED, CLD_DUMPED) and si_status of waitid(2). */
struct weir_exit {
    int32_t code;
    int32_t status;
};

/*
 * Waits for a child of this process to end (pidfd_open(2), Linux 5.3) and reaps it. ret_exit may be
 * NULL. Takes an fd while it is in flight: -EMFILE, -ENFILE. A cancelled wait reaps nothing.
 * result: 0; -ESRCH: no such process; -ECHILD: it is not a child, or somebody else reaped it.
 */
WEIR_API void weir_op_child(struct weir_op *op, pid_t pid, struct weir_exit *ret_exit);

/*
 * CPU work or a blocking call: function(argument) on a worker thread, the callback on the loop's.
 * Goes through the offload gate; the function may run before submit has returned. A call that is
 * queued comes back at once when it is cancelled or past its deadline, and is not run; one that is
 * running is told (weir_op_asked()) and comes back when it returns. Workers have a small stack
 * (weir_options.offload_stack) and all signals blocked. result: what the function returned.
 */
WEIR_API void weir_op_call(struct weir_op *op, weir_function *function, void *argument);

/* For the function of a CALL: nonzero once its op was asked back (cancel, deadline, close), so that
 * it may return early. Any thread, while the op is live. */
WEIR_API int weir_op_asked(const struct weir_op *op);

#ifdef __cplusplus
}
#endif
#endif
