/* SPDX-License-Identifier: MIT */
#include <engine/backend/epoll_watch.h>

static uint32_t index_of(const struct weir_watches *watches, const struct weir_watch *watch)
{
    return (uint32_t)(watch - watches->array);
}

static uint32_t buckets_for(uint32_t count)
{
    uint32_t buckets = 16;
    while (buckets < count) {
        buckets *= 2;
    }
    return buckets;
}

size_t weir_watches_size(uint32_t count)
{
    return (size_t)count * sizeof(struct weir_watch) +
           (size_t)buckets_for(count) * sizeof(uint32_t);
}

void weir_watches_init(struct weir_watches *watches, uint32_t count, void *memory, int epoll_fd)
{
    *watches = (struct weir_watches){
        .array = memory,
        .count = count,
        .bucket_mask = buckets_for(count) - 1,
        .free = 1,
        .epoll_fd = epoll_fd,
    };
    watches->buckets = (uint32_t *)(void *)(watches->array + count);
    for (uint32_t i = 0; i < count; i++) {
        watches->array[i].fd = -1;
        watches->array[i].next = i + 1 < count ? i + 2 : 0;
    }
}

/* --- the set ---------------------------------------------------------------------------------- */

static int control(struct weir_watches *watches, struct weir_watch *watch, int what,
                   uint32_t events)
{
    struct epoll_event event = {
        .events = events,
        .data.u64 = (uint64_t)watch->generation << 32 | index_of(watches, watch),
    };
    return epoll_ctl(watches->epoll_fd, what, watch->fd, &event) < 0 ? -errno : 0;
}

/* What was learned of another file that had the number before. */
static void unlearn(struct weir_watch *watch)
{
    watch->flags &= WEIR_WATCH_TRUSTED | WEIR_WATCH_DRY_IN | WEIR_WATCH_DRY_OUT;
}

/* Also where the fd was closed and its number given anew, though nobody said so. */
static int change(struct weir_watches *watches, struct weir_watch *watch, uint32_t events)
{
    int r = control(watches, watch, watch->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, events);
    if (weir_unlikely(r == -ENOENT)) {
        unlearn(watch);
        r = control(watches, watch, EPOLL_CTL_ADD, events);
    } else if (weir_unlikely(r == -EEXIST)) {
        r = control(watches, watch, EPOLL_CTL_MOD, events);
    }
    weir_watches_prove(watches, watch);
    if (r == 0) {
        watches->registered += watch->armed == 0;
        watch->armed = events;
    }
    return r;
}

int weir_watches_arm(struct weir_watches *watches, struct weir_watch *watch, uint32_t events)
{
    uint32_t wanted = watch->armed | events | WEIR_WATCH_BASE;
    if (events & EPOLLIN) {
        wanted &= ~(uint32_t)EPOLLET;
    }
    if (weir_likely(watch->armed == wanted)) {
        watches->trusted += !(watch->flags & WEIR_WATCH_TRUSTED);
        watch->flags |= WEIR_WATCH_TRUSTED;
        return 0;
    }
    int r = change(watches, watch, wanted);
    if (r == -EPERM) {
        watch->flags |= WEIR_WATCH_FILE;
    } else if (r == 0 && watch->flags & WEIR_WATCH_FILE) {
        unlearn(watch);
    }
    return r;
}

void weir_watches_rearm(struct weir_watches *watches, struct weir_watch *watch, uint32_t events)
{
    change(watches, watch, events | WEIR_WATCH_BASE); /* a failure leaves it as it is */
}

void weir_watches_verify(struct weir_watches *watches, uint32_t most)
{
    for (uint32_t i = 0; i < watches->count && most > 0 && watches->trusted > 0; i++) {
        struct weir_watch *watch = &watches->array[watches->hand];
        watches->hand = watches->hand + 1 < watches->count ? watches->hand + 1 : 0;
        if (watch->flags & WEIR_WATCH_TRUSTED) {
            most--;
            weir_watches_rearm(watches, watch, watch->armed);
        }
    }
}

/* --- the table -------------------------------------------------------------------------------- */

void weir_watches_drop(struct weir_watches *watches, struct weir_watch *watch)
{
    WEIR_CHECK(weir_watch_is_idle(watch));
    if (watch->armed) {
        control(watches, watch, EPOLL_CTL_DEL, 0); /* fails if it was closed: then it is gone */
        watches->registered--;
    }
    weir_watches_prove(watches, watch);
    uint32_t place = index_of(watches, watch) + 1;
    uint32_t *at = &watches->buckets[(uint32_t)watch->fd & watches->bucket_mask];
    while (*at != place) {
        at = &watches->array[*at - 1].next;
    }
    *at = watch->next;
    *watch = (struct weir_watch){
        .fd = -1,
        .generation = watch->generation + 1,
        .next = watches->free,
    };
    watches->free = place;
}

static bool may_go(const struct weir_watch *watch, const struct weir_slots *slots)
{
    return weir_watch_is_idle(watch) && !weir_slots_find(slots, watch->claims[WEIR_SIDE_IN]) &&
           !weir_slots_find(slots, watch->claims[WEIR_SIDE_OUT]);
}

/* Goes round, so that those used last are the last to go. */
static void evict(struct weir_watches *watches, const struct weir_slots *slots)
{
    for (uint32_t i = 0; i < watches->count; i++) {
        struct weir_watch *watch = &watches->array[watches->hand];
        watches->hand = watches->hand + 1 < watches->count ? watches->hand + 1 : 0;
        if (may_go(watch, slots)) {
            weir_watches_drop(watches, watch);
            return;
        }
    }
    WEIR_CHECK(!"a watch that nobody waits on");
}

struct weir_watch *weir_watches_take(struct weir_watches *watches, const struct weir_slots *slots,
                                     int fd)
{
    struct weir_watch *watch = weir_watches_find(watches, fd);
    if (watch) {
        return watch;
    }
    if (watches->free == 0) {
        evict(watches, slots);
    }
    uint32_t place = watches->free;
    uint32_t *bucket = &watches->buckets[(uint32_t)fd & watches->bucket_mask];
    watch = &watches->array[place - 1];
    watches->free = watch->next;
    watch->fd = fd;
    watch->next = *bucket;
    *bucket = place;
    return watch;
}

struct weir_watch *weir_watches_of(const struct weir_watches *watches, uint64_t key)
{
    uint32_t index = (uint32_t)key;
    if (index >= watches->count) {
        return NULL;
    }
    struct weir_watch *watch = &watches->array[index];
    return watch->fd >= 0 && watch->generation == key >> 32 ? watch : NULL;
}
