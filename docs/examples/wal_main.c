/* SPDX-License-Identifier: MIT */
/* wal DIRECTORY append|list: appends lines from standard input to a log, or lists what it holds. */
#include "wal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINES = 1024 }; /* on their way at a time */

static struct weir_loop *loop;
static struct wal wal;
static struct wal_append lines[LINES];
static struct wal_append *unused; /* of them */
static int underway;
static struct weir_op reading; /* standard input, when all that was read before is appended */
static bool is_reading, at_end;
static char input[WAL_RECORD_MAX];
static size_t used, taken; /* bytes of input that were read, and of these appended */
static uint64_t safe;
static int error; /* the first */

static bool good(const char *what, int64_t result)
{
    if (result < 0 && !error) {
        fprintf(stderr, "wal: %s: %s\n", what, strerror((int)-result));
        error = (int)result;
        weir_loop_stop(loop);
    }
    return !error;
}

static void on_closed(struct wal *log, int result)
{
    (void)log;
    good("close", result);
}

static void on_recovered(struct wal *log, uint64_t number, const void *bytes, uint32_t length)
{
    if (log->user) { /* to be listed */
        printf("%" PRIu64 " %.*s\n", number, (int)length, (const char *)bytes);
    }
}

static void take_lines(void);

static void on_appended(struct wal_append *append)
{
    append->next = unused;
    unused = append;
    underway--;
    if (good("append", append->result)) {
        safe = append->number;
    }
    take_lines(); /* there may be room again */
}

/* False: not now, or never. */
static bool append_line(size_t length)
{
    struct wal_append *append = unused;
    if (!append) {
        return false;
    }
    struct wal_append *others = append->next; /* the log has its own use for `next` */
    append->callback = on_appended;
    int result = wal_append(&wal, append, input + taken, (uint32_t)length);
    if (result == 0) {
        unused = others;
        underway++;
        return true;
    }
    return result == -EAGAIN ? false : good("append", result);
}

static void on_read(struct weir_op *op)
{
    is_reading = false;
    if (good("read", op->result)) {
        at_end = op->result == 0;
        used += (size_t)op->result;
        take_lines();
    }
}

static void read_more(void)
{
    memmove(input, input + taken, used - taken);
    used -= taken;
    taken = 0;
    if (used == sizeof input) {
        good("a line", -EMSGSIZE);
        return;
    }
    weir_op_read(&reading, STDIN_FILENO, input + used, sizeof input - used, WEIR_CURRENT);
    reading.callback = on_read;
    is_reading = good("read", weir_submit(loop, &reading));
}

/* Appends what was read, as far as the log takes it; then reads more, or ends. */
static void take_lines(void)
{
    while (!error && taken < used) {
        const char *end = memchr(input + taken, '\n', used - taken);
        if (!end && !at_end) {
            break;
        }
        size_t length = end ? (size_t)(end - input) - taken : used - taken;
        if (!append_line(length)) {
            return; /* on_appended() goes on */
        }
        taken += length + (end != NULL);
    }
    if (!error && !at_end && !is_reading) {
        read_more();
    } else if (!error && at_end && underway == 0) {
        good("close", wal_close(&wal, on_closed));
    }
}

static void on_opened(struct wal *log, int result)
{
    if (!good("open", result)) {
        return;
    }
    if (log->user) {
        good("close", wal_close(log, on_closed));
    } else {
        take_lines();
    }
}

int main(int argc, char **argv)
{
    bool lists = argc == 3 && strcmp(argv[2], "list") == 0;
    if (argc != 3 || (!lists && strcmp(argv[2], "append") != 0)) {
        fprintf(stderr, "usage: wal DIRECTORY append|list\n");
        return 2;
    }
    for (int i = 0; i < LINES; i++) {
        lines[i].next = unused;
        unused = &lines[i];
    }
    int result = weir_loop_open(NULL, &loop);
    if (result < 0) {
        fprintf(stderr, "wal: opening a loop: %s\n", strerror(-result));
        return 1;
    }
    wal.user = lists ? &wal : NULL;
    if (good("open", wal_open(&wal, loop, argv[1], on_recovered, on_opened))) {
        good("run", weir_loop_run(loop)); /* until all is closed, or an error stops it */
    }
    good("end", weir_loop_close(loop, -1, NULL));
    if (safe > 0) {
        printf("safe to record %" PRIu64 "\n", safe);
    }
    return error != 0;
}
