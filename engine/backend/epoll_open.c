/* SPDX-License-Identifier: MIT */
/* epoll_open.c: making the reactor, the proof that it works, and taking it down. */
#include <engine/backend/epoll.h>
#include <engine/base/sigpipe.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE ((size_t)64)
#define WATCHES_MIN 64
#define READY_MAX 1024                      /* events taken in one call */
#define PROBE_MS 1000                       /* for an event that is there already */
#define NR_PWAIT2 441                       /* epoll_pwait2(2) on every machine */
#define CQ_ENTRIES(depth) (2 * (depth) + 4) /* what the loop sizes its events by */

#ifdef SYS_epoll_pwait2
_Static_assert(SYS_epoll_pwait2 == NR_PWAIT2, "as the kernel has it");
#endif

static size_t aligned(size_t size)
{
    return (size + LINE - 1) & ~(LINE - 1);
}

/* One mapping: the reactor, the watches, the events of a turn. */
static struct weir_epoll *map(uint32_t watches)
{
    uint32_t ready_max = watches < READY_MAX ? watches + 1 : READY_MAX;
    size_t at_watches = aligned(sizeof(struct weir_epoll));
    size_t at_ready = at_watches + aligned(weir_watches_size(watches));
    size_t size = at_ready + aligned(ready_max * sizeof(struct epoll_event));
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    struct weir_epoll *epoll = (struct weir_epoll *)(void *)memory;
    epoll->size = size;
    epoll->ready = (struct epoll_event *)(void *)(memory + at_ready);
    epoll->ready_max = ready_max;
    epoll->epoll_fd = -1;
    epoll->wake_fd = -1;
    weir_watches_init(&epoll->watches, watches, memory + at_watches, -1);
    return epoll;
}

static int make_fds(struct weir_epoll *epoll)
{
    epoll->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll->epoll_fd < 0) {
        return -errno;
    }
    epoll->watches.epoll_fd = epoll->epoll_fd;
    epoll->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll->wake_fd < 0) {
        return -errno;
    }
    /* Edge-triggered: a wake is an event and needs no read. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = WEIR_EPOLL_WAKE};
    return epoll_ctl(epoll->epoll_fd, EPOLL_CTL_ADD, epoll->wake_fd, &event) < 0 ? -errno : 0;
}

/* Any failure: also filters deny calls that they do not know. */
static bool probe_pwait2(const struct weir_epoll *epoll)
{
    struct timespec no_time = {0};
    return syscall(NR_PWAIT2, epoll->epoll_fd, epoll->ready, 1, &no_time, NULL, 0) >= 0;
}

static int finish_open(struct weir_epoll *epoll, struct weir_facts *facts)
{
    int r = make_fds(epoll);
    r = r < 0 ? r : weir_sigpipe_probe(&epoll->base.write_flags);
    if (r < 0) {
        return r;
    }
    epoll->has_pwait2 = probe_pwait2(epoll);
    facts->depth = facts->depth_asked;
    facts->cq_entries = CQ_ENTRIES(facts->depth);
    facts->clock = epoll->clock.ticking ? "tsc" : "monotonic";
    facts->wakes_by = "eventfd";
    facts->memory_ring = epoll->size;
    return 0;
}

int weir_epoll_open(const struct weir_options *options, struct weir_facts *facts,
                    struct weir_backend **ret_backend)
{
    (void)options;
    uint32_t watches = 2 * facts->depth_asked;
    struct weir_epoll *epoll = map(watches > WATCHES_MIN ? watches : WATCHES_MIN);
    if (!epoll) {
        return -ENOMEM;
    }
    epoll->base.table = &weir_epoll_table;
    weir_clock_init(&epoll->clock);
    int r = finish_open(epoll, facts);
    if (r < 0) {
        weir_epoll_close(&epoll->base, false);
        return r;
    }
    *ret_backend = &epoll->base;
    return 0;
}

/* A wake there and back under the process's real limits and filters. */
static int round_trip(struct weir_epoll *epoll)
{
    uint64_t one = 1;
    if (write(epoll->wake_fd, &one, sizeof one) < 0) {
        return -errno;
    }
    int count;
    do {
        count = epoll_wait(epoll->epoll_fd, epoll->ready, 1, PROBE_MS);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
        return -errno;
    }
    return count == 1 && epoll->ready[0].data.u64 == WEIR_EPOLL_WAKE ? 0 : -EIO;
}

int weir_epoll_adopt(struct weir_backend *backend, struct weir_facts *facts)
{
    struct weir_epoll *epoll = weir_epoll_of(backend);
    int r = round_trip(epoll);
    if (r == 0 && backend->write_flags == 0) {
        weir_sigpipe_block();
        epoll->blocks_sigpipe = true;
        facts->sigpipe_blocked = 1;
    }
    return r;
}

void weir_epoll_close(struct weir_backend *backend, bool forked)
{
    struct weir_epoll *epoll = weir_epoll_of(backend);
    /* Not a word to the set, which a child shares with its parent. */
    if (epoll->epoll_fd >= 0) {
        close(epoll->epoll_fd);
    }
    if (epoll->wake_fd >= 0) {
        close(epoll->wake_fd);
    }
    if (forked) {
        return;
    }
    if (epoll->blocks_sigpipe) {
        weir_sigpipe_unblock(true);
    }
    munmap(epoll, epoll->size);
}
