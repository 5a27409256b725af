/* SPDX-License-Identifier: MIT */
/*
 * seam.h: what the contract's tests share. The tests know no backend: the one they run on is
 * `seam_backend`, set by each backend's thin main, and every loop is opened through
 * seam_loop_with().
 *
 * Every callback of a tracked op checks what holds for all of them: it runs inside a turn and
 * outside submit and cancel, and the op is the caller's again.
 */
#ifndef TESTS_SEAM_SEAM_H
#define TESTS_SEAM_SEAM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weir/weir.h>

/* What the suite must know about a backend. */
struct seam_backend {
    const char *name;
    enum weir_policy policy;
    const long *turn_syscalls; /* a turn cannot do without them; ends with -1 */
    bool splice_keeps_fd;      /* a SPLICE in flight looks its fds up late: forget answers -EBUSY */
    /*
     * No kernel is behind it: one thread (the tests' others are coroutines of it), no fd of the
     * loop's own, a clock that moves when nothing can run, and neither signals nor children.
     */
    const struct seam_simulated *simulated; /* NULL: it is real */
};

/* How the suite reaches into a simulated world. */
struct seam_simulated {
    void (*prepare)(struct weir_options *options);
    void (*opened)(struct weir_loop *loop);
    void (*fail_turns)(struct weir_loop *loop); /* its turns answer -EPERM from now on */
    /* Turns until the op, which is on a file, is with the disk, which keeps it; not any longer. */
    void (*hold_op)(struct weir_loop *loop, struct weir_op *op);
    void (*let_op_go)(struct weir_op *op);
    void (*limit_fds)(bool none); /* no more than there are; or as many as before */
    int (*fds_open)(void);
    /* Makes a world, a loop in it that leaves a file to be synced, and closes them: the answer. */
    int (*use_and_close_a_world)(void);
    void (*pause)(void); /* in what would be another thread: perhaps goes on with the others */
};
extern const struct seam_backend seam_backend;

/* A group of tests: one file, one process. */
struct seam_group {
    const char *name;
    const struct CMUnitTest *tests;
    size_t count;
    /* In their place where the backend is simulated; NULL: the same. */
    const struct CMUnitTest *simulated_tests;
    size_t simulated_count;
};
#define SEAM_GROUP(name, tests)                                                                    \
    {                                                                                              \
        (name), (tests), sizeof(tests) / sizeof((tests)[0]), NULL, 0                               \
    }
#define SEAM_GROUP_OR(name, tests, simulated_tests)                                                \
    {                                                                                              \
        (name), (tests), sizeof(tests) / sizeof((tests)[0]), (simulated_tests),                    \
            sizeof(simulated_tests) / sizeof((simulated_tests)[0])                                 \
    }
#define SEAM_COUNT(array) (sizeof(array) / sizeof((array)[0]))

int seam_main(int argc, char **argv);

#define SEAM_TEST(sentence) static void sentence(void **state __attribute__((unused)))

/* --- expectations: print place, values and the seed ------------------------------------------ */

#define expect(condition) seam_expect((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define expect_equal(got, want)                                                                    \
    seam_expect_equal((int64_t)(got), (int64_t)(want), #got, __FILE__, __LINE__)

void seam_expect(int holds, const char *text, const char *file, int line);
void seam_expect_equal(int64_t got, int64_t want, const char *text, const char *file, int line);

/* Pseudo-random, from the seed that is printed on failure (WEIR_SEED sets it). */
uint64_t seam_random(void);
/* What wake, stop and post answer in a thread that is not the loop's, and weir_loop_fd(). */
int seam_across_threads(void);
/* The backend is simulated. */
bool seam_simulates(void);
/* WEIR_LONG=1: the long form of a test. */
bool seam_long(void);
/* No --spin, --route, --post or --observed. */
bool seam_plain(void);
/* Ends the test as skipped, saying why: only for what kernel, privilege or tool lacks. */
void seam_skip(const char *why);

/* --- loops ----------------------------------------------------------------------------------- */

struct weir_loop *seam_loop(void);
struct weir_loop *seam_loop_with(struct weir_options options);
/* As weir_loop_open() on the suite's backend. */
int seam_open(struct weir_options options, struct weir_loop **ret_loop);
/* Closes a loop that must close cleanly. */
void seam_end(struct weir_loop *loop);

/* The calls inside which callbacks may run. */
int seam_turn(struct weir_loop *loop, int64_t wait_ns);
int seam_run(struct weir_loop *loop);
int seam_close(struct weir_loop *loop, int64_t wait_ns, struct weir_report *ret_report);
/* Some turns without waiting. The callbacks made. */
int seam_turns(struct weir_loop *loop, int count);

/* --- ops ------------------------------------------------------------------------------------- */

struct tracked {
    struct weir_op op;
    void (*then)(struct tracked *tracked); /* the last touch of its callback; may free it */
    void *context;
    unsigned calls;
    bool routed; /* by the suite, for this life */
    int64_t result;
    uint64_t order; /* its place among all callbacks of this thread, from 1 */
    char data[16];
};

struct tracked *seam_of(struct weir_op *op);
void seam_called(struct weir_op *op);

/* Submits; must be accepted. */
#define seam_submit(loop, tracked) expect_equal(seam_try_submit((loop), (tracked), WEIR_SITE), 0)
int seam_try_submit(struct weir_loop *loop, struct tracked *tracked, const char *site);
/* Submits; must be refused with `want`, the op left as it was. (With --post nothing is asked for
 * -EAGAIN: a post waits for a place.) */
void seam_refused(struct weir_loop *loop, struct tracked *tracked, int want);
int seam_cancel(struct weir_loop *loop, struct tracked *tracked);
/* Turns until it was called (again). */
void seam_await(struct weir_loop *loop, struct tracked *tracked);
void seam_await_count(struct weir_loop *loop, const unsigned *count, unsigned want);
/* Submits a filled op, waits for it, and answers its result. */
#define seam_carry_out(loop, tracked) seam_carry_out_at((loop), (tracked), WEIR_SITE)
int64_t seam_carry_out_at(struct weir_loop *loop, struct tracked *tracked, const char *site);
/* Submits a READ of one byte into tracked->data. */
void seam_read_byte(struct weir_loop *loop, struct tracked *tracked, int fd);
/* From any thread: no expectations, for a thread may not leave by longjmp. */
int seam_post(struct weir_loop *loop, struct tracked *tracked, const char *site);
/* Posts; must be accepted. The loop's thread. */
#define seam_posted(loop, tracked) expect_equal(seam_post((loop), (tracked), WEIR_SITE), 0)
struct weir_counters seam_counters(struct weir_loop *loop);

/* --- calls: what their functions do, and what is known of them afterwards -------------------- */

struct seam_work {
    struct tracked call;
    int64_t value;      /* what the function returns */
    bool blocks;        /* it waits for seam_unblock() */
    bool until_asked;   /* it waits until its op is asked back */
    unsigned linger_us; /* and then goes on so long */
    sem_t leave;
    /* Written by the thread that ran it. */
    unsigned begun;
    unsigned ended;
    bool inside;    /* begun before it is run: by a simulated worker */
    uint64_t order; /* its place among all that began since seam_work_reset(), from 1 */
    pthread_t thread;
};

/* Sets the order back. */
void seam_work_reset(void);
/* Zeroes it and fills the op. */
void seam_work_fill(struct seam_work *work, int64_t value);
int64_t seam_work_do(void *work);
/* For a simulated worker: whether the function may end now; at the first asking it has begun. */
bool seam_work_may_end(struct seam_work *work);
/* Submits one that blocks, and turns until a worker is in it. */
void seam_block(struct weir_loop *loop, struct seam_work *work);
/* Turns until a worker is in a function that was submitted. */
void seam_await_begun(struct weir_loop *loop, const struct seam_work *work);
void seam_unblock(struct seam_work *work);
unsigned seam_begun(const struct seam_work *work);
/* A worker ran it: another thread, or on the loop's own a simulated one. */
bool seam_by_worker(const struct seam_work *work);

/* --- threads --------------------------------------------------------------------------------- */

/* Runs body in a thread, a real one on every backend, and waits for its end. */
void seam_in_thread(void *(*body)(void *context), void *context);
/* Threads of this process. */
int seam_threads(void);
/* How many of them so many workers are: a simulated one is none. */
int seam_threads_of(int workers);
/* Waits until there are no more than that: one that was joined is seen for a moment longer. */
void seam_await_threads(int want);

/* --- the world around ------------------------------------------------------------------------ */

struct seam_pair {
    int in;  /* read from here (a pipe), or one end */
    int out; /* written to here, or the other end */
};

struct seam_pair seam_pipe(int flags);
struct seam_pair seam_socketpair(int type);
void seam_pair_close(struct seam_pair *pair);
/* A TCP listener on the loopback; *ret_address is where it listens. */
int seam_listener(int flags, struct sockaddr_in *ret_address);
int seam_client(const struct sockaddr_in *address);
void seam_write(int fd, const void *data, size_t length);
void seam_read(int fd, void *data, size_t length);
/* An unlinked file that holds `length` bytes of seam_pattern(). */
int seam_file(size_t length);
void seam_pattern(char *data, size_t length, size_t from);
bool seam_pattern_holds(const char *data, size_t length, size_t from);
int seam_fds_open(void);
/* A file that holds 10 bytes and can only be read. */
int seam_readable(void);
/* No fd can be made, or again as many as before. */
void seam_fds_forbid(void);
void seam_fds_allow(void);
/*
 * A foreign loop: an epoll set with the loop's fd in it, or -1: it has none, and said so; then a
 * foreign turn is one that sleeps itself.
 */
int seam_foreign(struct weir_loop *loop);
/* One turn, when the fd asks for it. */
void seam_foreign_turn(struct weir_loop *loop, int epoll);
/* Whether the fd asks for a turn. */
bool seam_foreign_asks(int epoll);
void seam_foreign_close(int epoll);

/* The loop still turns: a timer submitted now comes back. */
void seam_expect_turning(struct weir_loop *loop);
/* Runs body with fds that block and with fds that do not, each on a loop of its own. */
void seam_with_both(void (*body)(struct weir_loop *loop, bool blocking));
int seam_pipe_flags(bool blocking);
int seam_socket_flags(bool blocking);
/* A loop that goes on to live is told before a number may be given anew (rule 20). */
void seam_forget_pair(struct weir_loop *loop, struct seam_pair *pair);

struct seam_dir {
    int fd;
    char path[64];
};
void seam_dir_make(struct seam_dir *dir);
/* Removes it; it must be empty. */
void seam_dir_remove(struct seam_dir *dir);

/*
 * `length` bytes of writable addresses that are all the same few MiB of memory, for transfers past
 * 4 GiB on a machine with less.
 */
char *seam_vast(size_t length);
void seam_vast_end(char *vast, size_t length);

/* Runs body in a child; what it answers (0 to 127) is answered. */
int seam_child(int (*body)(void *context), void *context);
/* In a child: return from body with a message unless it holds. */
#define child_expect(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(2, "%s:%d: in the child: %s\n", __FILE__, __LINE__, #condition);               \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

#endif
