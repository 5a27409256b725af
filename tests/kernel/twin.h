/* SPDX-License-Identifier: MIT */
/*
 * twin.h: what the twin's parts share. twin_step.c chooses a lane's next op from the lane's own
 * random numbers and says what it brought back; twin.c plays all lanes on a backend, and compares.
 */
#ifndef WEIR_TESTS_KERNEL_TWIN_H
#define WEIR_TESTS_KERNEL_TWIN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <weir/weir.h>

#define TWIN_BUFFER 8192
#define TWIN_NAMES 4

/* What one step brought back: all that a program can see of it. */
struct outcome {
    uint8_t kind;
    uint8_t route;
    uint8_t choice; /* which of the kind's steps */
    uint32_t flags;
    int64_t result; /* an fd counts as 0 */
    uint64_t moved; /* of a WHOLE op */
    uint64_t data;  /* a hash of buffer, status or address */
    uint64_t state; /* and of what the step left behind: file size, bytes in the pipe */
};

/* A stream of bytes on its way, and how many there are. */
struct stream {
    int in;
    int out;
    size_t bytes;
};

/* A script of its own, on files of its own, so that its outcomes do not hang on the others'. */
struct lane {
    struct weir_loop *loop;
    uint64_t random;
    struct weir_op op;
    struct weir_op idle; /* what a CLOSE finds on its fd */
    bool idle_live;
    int64_t idle_result;
    uint8_t choice;
    unsigned steps_left;
    unsigned done;
    struct outcome *outcomes;

    int folder;
    char path[64];
    int file;
    int listener;
    struct sockaddr_in address;
    struct stream pipe;
    struct stream sockets[2]; /* the two directions of one pair */
    int spare[2];             /* a pipe for one step */
    pid_t child;
    struct weir_exit end;
    int64_t value;
    char names[2][8];
    struct statx statx;
    struct sockaddr_in peer;
    socklen_t peer_length;
    struct iovec iov[3];
    struct msghdr message;
    unsigned char buffer[TWIN_BUFFER];
};

uint64_t twin_random(struct lane *lane, uint64_t below);
/* Makes the lane's files; takes them away. */
void lane_open(struct lane *lane, uint64_t seed, bool blocking);
void lane_close(struct lane *lane);
/* Fills lane->op with the lane's next step. */
void lane_fill(struct lane *lane);
/* Writes the outcome of that step, and tidies up after it. */
void lane_record(struct lane *lane, struct outcome *outcome);

#endif
