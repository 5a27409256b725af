/* SPDX-License-Identifier: MIT */
#include "watching.h"

#include <engine/observe/symbol.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *keep(char *into, size_t size, const char *from)
{
    if (from) {
        snprintf(into, size, "%s", from);
    }
    return from ? into : NULL;
}

static void on_stall(void *context, const struct weir_stall *stall)
{
    struct watching *watching = context;
    unsigned count = watching->count;
    if (count < WATCHING_MAX) {
        struct watching_report *report = &watching->reports[count];
        report->stall = *stall;
        report->stall.loop = keep(report->loop, sizeof report->loop, stall->loop);
        report->stall.task = keep(report->task, sizeof report->task, stall->task);
        report->stall.kind = keep(report->kind, sizeof report->kind, stall->kind);
        report->stall.site = keep(report->site, sizeof report->site, stall->site);
        report->stall.callback_symbol =
            keep(report->symbol, sizeof report->symbol, stall->callback_symbol);
    }
    if (watching->then) {
        watching->then(watching, stall);
    }
    __atomic_store_n(&watching->count, count + 1, __ATOMIC_RELEASE);
}

void watching_open(struct watching *watching, struct weir_watchdog_options options)
{
    options.callback = on_stall;
    options.context = watching;
    CHECK_EQUAL(weir_watchdog_open(&options, &watching->watchdog), 0);
}

void watching_close(struct watching *watching)
{
    CHECK_EQUAL(weir_watchdog_close(watching->watchdog), 0);
}

unsigned watching_count(const struct watching *watching)
{
    return __atomic_load_n(&watching->count, __ATOMIC_ACQUIRE);
}

struct weir_watchdog_counters watching_counters(const struct watching *watching)
{
    struct weir_watchdog_counters counters;
    CHECK_EQUAL(weir_watchdog_read_counters(watching->watchdog, &counters), 0);
    return counters;
}

void watching_await(const struct watching *watching, unsigned count)
{
    while (watching_count(watching) < count) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

void watching_spin(const struct watching *watching, unsigned count)
{
    while (watching_count(watching) < count) {
    }
}

/* What addr2line says of an address of this program as it was linked. */
static bool says(unsigned long linked, const char *function)
{
    char command[128];
    char line[1024];
    bool found = false;
    snprintf(command, sizeof command, "addr2line -f -i -e /proc/%d/exe 0x%lx", (int)getpid(),
             linked);
    FILE *output = popen(command, "r");
    CHECK(output != NULL);
    while (fgets(line, sizeof line, output)) {
        found = found || strstr(line, function);
    }
    if (pclose(output) != 0) {
        check_skip("there is no addr2line (binutils)");
    }
    return found;
}

/* False: it is of another module. */
static bool linked_of(const char *symbol, unsigned long *ret_linked)
{
    const char *plus = strrchr(symbol, '+');
    const char *name = strrchr(program_invocation_name, '/');
    name = name ? name + 1 : program_invocation_name;
    return plus && strncmp(symbol, name, (size_t)(plus - symbol)) == 0 &&
           sscanf(plus, "+0x%lx", ret_linked) == 1;
}

bool watching_symbol_names(const char *symbol, const char *function)
{
    unsigned long linked;
    return linked_of(symbol, &linked) && says(linked, function);
}

bool watching_names(const struct weir_stall *stall, const char *function)
{
    for (uint32_t i = 0; i < stall->frame_count; i++) {
        char symbol[WEIR_SYMBOL_MAX];
        const char *frame = stall->frames[i];
        weir_symbol_write(i == 0 ? frame : frame - 1, symbol, sizeof symbol); /* the call itself */
        if (watching_symbol_names(symbol, function)) {
            return true;
        }
    }
    return false;
}

struct weir_loop *watching_loop(struct watching *watching, enum weir_policy policy,
                                const char *name)
{
    struct weir_loop *loop; /* check_open() is for one thread */
    CHECK_EQUAL(
        weir_loop_open(&(struct weir_options){.policy = policy, .flags = WEIR_INSPECTABLE}, &loop),
        0);
    CHECK_EQUAL(weir_watchdog_watch(watching->watchdog, loop, name), 0);
    return loop;
}

void watching_end(struct weir_loop *loop)
{
    CHECK_EQUAL(weir_loop_close(loop, 60 * WEIR_S, NULL), 0);
}

void watching_call(struct weir_loop *loop, struct watching_op *op, weir_callback *callback)
{
    op->op.callback = callback;
    weir_op_nop(&op->op);
    CHECK_EQUAL(weir_submit(loop, &op->op), 0);
    CHECK_EQUAL(weir_loop_run(loop), 0);
}

void watching_on_both(void (*body)(enum weir_policy policy))
{
    body(WEIR_IO_URING);
    body(WEIR_EPOLL);
}
