/* SPDX-License-Identifier: MIT */
/*
 * storm.h: what the storm's parts share: a world of files, pipes and sockets, the ops that are live
 * on them, and the model of what the engine may answer.
 *
 * storm_channel.c opens channels and closes them in every allowed way, storm_item.c makes ops and
 * storm_judge.c judges what they bring back, storm_step.c chooses what happens next, storm_mail.c
 * posts from a second thread, storm.c runs the whole.
 */
#ifndef WEIR_TESTS_KERNEL_STORM_H
#define WEIR_TESTS_KERNEL_STORM_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <weir/weir.h>

#define STORM_CHANNELS 12
#define STORM_TASKS 3
#define STORM_ROOMS 4
#define STORM_FILE_SIZE 65536
#define STORM_BUFFER_MAX 8192
#define STORM_QUARANTINE 512
#define STORM_MAIL 32
#define STORM_POSTED 128     /* ops live that were posted, at most */
#define STORM_CALLER_RAN 256 /* calls run by submit and not handed back yet, at most */

enum channel_type {
    CHANNEL_FILE,     /* one end; the byte at an offset never changes: writes write what is there */
    CHANNEL_PIPE,     /* end 0 reads, end 1 writes; every byte is the channel's tag */
    CHANNEL_SOCKET,   /* both ends read and write; every byte is the channel's tag */
    CHANNEL_LISTENER, /* one end */
    CHANNEL_TYPES
};

/* What bounds an op. */
enum bound {
    BOUND_GATE,    /* the main gate */
    BOUND_OFFLOAD, /* the gate of calls */
    BOUND_TIMERS,
    BOUND_CALLER, /* a call that submit ran */
    BOUNDS
};

enum end_state {
    END_OPEN,
    END_CLOSING,  /* a CLOSE op is live */
    END_DRAINING, /* forget answered -EBUSY: to be closed when nothing is live on it */
    END_CLOSED,
};

/* Files behind one or two fds. Outlives them while an op that was submitted on them is live. */
struct channel {
    enum channel_type type;
    int fd[2];
    enum end_state state[2];
    unsigned char tag;
    unsigned place; /* in the world's channels */
    unsigned refs;  /* live items */
    uint64_t sent;  /* bytes that writes were submitted for */
    uint64_t got;   /* bytes that reads brought back */
    struct sockaddr_in address;
};

/* One op and what the model knows of it. Memory of its own, so that a sanitizer sees a late touch.
 * */
struct item {
    struct weir_op op;
    struct world *world;
    unsigned place;
    struct channel *channel; /* NULL: none */
    int end;
    int fds[2]; /* as the engine knows them; -1: none */
    int task;   /* -1: none */
    bool reads;
    bool may_cancel; /* something asked for it */
    bool may_again;  /* RWF_NOWAIT */
    bool posted;     /* when it took its place only the engine knows */
    bool mailed;     /* with the second thread: not to be touched */
    enum bound bound;
    int64_t value;       /* CALL: what its function returns */
    uint64_t lasts;      /* and how long it takes, at most */
    unsigned ran;        /* times it did */
    uint64_t asked_ns;   /* a cancel was promised at; 0: none */
    uint64_t asked_turn; /* and after this turn began */
    uint64_t deadline_ns;
    uint64_t at_ns;
    uint64_t born_turn; /* what finishes on the spot in a callback comes in the next turn */
    uint64_t due_turn;  /* cancel said -EALREADY: the turn it must come in; 0: not said */
    uint64_t next_turn; /* cancel said 0 in a callback: the turn before which it cannot come */
    unsigned char *buffer;
    size_t length;
    uint64_t offset;
    struct iovec iov[2];
    struct msghdr message;
    int client; /* CONNECT's socket */
    struct sockaddr_in address;
    struct statx statx;
};

struct room {
    struct weir_room room;
    struct world *world;
    bool waits;
};

/* What the model counted for a task. */
struct tally {
    uint64_t submitted;
    uint64_t refused;
    uint64_t finished;
    uint64_t cancelled;
    uint64_t expired;
};

/* An op on its way to the second thread, or back from it. */
struct mail {
    struct item *item; /* NULL: it came back already */
    int answer;
    enum { MAIL_FREE, MAIL_SENT, MAIL_ANSWERED } state; /* atomic */
};

struct world {
    struct weir_loop *loop;
    struct weir_options options;
    uint64_t seed;
    uint64_t random;
    uint64_t patience_ns;
    unsigned cancels; /* of a thousand steps */
    unsigned closes;
    uint64_t ops_wanted;
    unsigned places; /* of items */
    struct item **items;
    struct channel *channels[STORM_CHANNELS];
    struct weir_task *tasks[STORM_TASKS];
    struct tally task_tallies[STORM_TASKS];
    struct tally tally;
    struct room rooms[STORM_ROOMS];
    unsigned live[BOUNDS];
    unsigned live_posted[BOUNDS]; /* of these: perhaps without a place yet */
    uint64_t posts;
    uint64_t posts_refused;
    uint64_t caller_ran;
    pthread_t poster;
    bool posting; /* atomic: the second thread is to go on */
    struct mail mail[STORM_MAIL];
    pid_t child;   /* that never ends */
    uint64_t turn; /* those begun */
    uint64_t scanned_ns;
    bool in_callback;
    bool closing;      /* the loop is */
    unsigned char tag; /* the last one given */
    int null;
    char path[64]; /* a file by name */
    unsigned char *quarantine[STORM_QUARANTINE];
    size_t quarantine_length[STORM_QUARANTINE];
    unsigned quarantine_next;
    uint64_t kinds[WEIR_KIND_COUNT];
    uint64_t forgets;
    uint64_t reused; /* an fd number given again at once after forget and close */
};

/* storm.c */
uint64_t storm_random(struct world *world, uint64_t below);
_Noreturn void storm_fail(struct world *world, const char *site, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define STORM_CHECK(world, condition)                                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            storm_fail((world), WEIR_SITE, "%s", #condition);                                      \
        }                                                                                          \
    } while (0)

/* storm_step.c: the engine's answers must be what the model says. */
void storm_submit(struct world *world, struct item *item);
void storm_post(struct world *world, struct item *item);
void storm_cancel(struct world *world, struct item *item);
/* The engine has promised to give it back. */
void storm_asked(struct item *item);
/* One random thing, also from a callback. */
void storm_step(struct world *world);

/* Everything accepted and not back. */
unsigned storm_live(const struct world *world);
/* How many of a bound there may be. */
unsigned storm_most(const struct world *world, enum bound bound);
/* A post of it was accepted: counts it. */
void storm_accepted(struct world *world, struct item *item);
/* It was not: it leaves the model. */
void storm_drop(struct item *item);
void storm_on_item(struct weir_op *op);

/* storm_mail.c */
void mail_start(struct world *world);
/* Lets the second thread post it, if there is room in the mail. */
void mail_send(struct world *world, struct item *item);
/* Looks at the answers. */
void mail_collect(struct world *world);
/* The item came back. */
void mail_forget(struct world *world, struct item *item);
/* Waits until all mail is answered. */
void mail_settle(struct world *world);
/* Ends the second thread when its mail is answered. */
void mail_end(struct world *world);

/* storm_channel.c */
void channel_open(struct world *world, unsigned place);
/* An end that ops may be submitted on, or -1. */
int channel_open_end(struct world *world, const struct channel *channel);
/* One of two ends is closed, or on its way. */
bool channel_ended(const struct channel *channel);
/* Closes the ends that are open, or one of two, by forget and close(2) or by CLOSE ops. */
void channel_close(struct world *world, struct channel *channel);
/* After an op came back: closes what only waited for that; a channel that is gone is replaced. */
void channel_settle(struct world *world, const struct item *item);
/* After a CLOSE op's result. */
void channel_closed(struct world *world, struct channel *channel, int end, int64_t result);
void channel_release(struct channel *channel);
/* Everything live on that fd number may come back cancelled now. */
void channel_mark(struct world *world, int fd);

/* storm_item.c */
struct item *item_new(struct world *world, struct channel *channel, int end);
/* A random op, filled; NULL where its channel is not to be used now. */
struct item *item_random(struct world *world);
/* A random op that is on no fd. */
struct item *item_without_channel(struct world *world);
void item_free(struct item *item);
/* Checks and frees the buffers of items that came back earlier. */
void item_quarantine_empty(struct world *world);
unsigned char item_file_byte(uint64_t offset);

/* storm_judge.c */
#define STORM_UNTOUCHED 0xa5 /* in buffers that are handed in */
/* The op's callback's work: judges the result. */
void item_judge(struct item *item);

#endif
