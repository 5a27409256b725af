/* SPDX-License-Identifier: MIT */
#include <engine/observe/live.h>

#define WORDS (sizeof(struct weir_view_words) / sizeof(uint64_t))
_Static_assert(sizeof(struct weir_view_words) % sizeof(uint64_t) == 0 &&
                   sizeof(void *) == sizeof(uint64_t),
               "a view is copied word by word");

static const char *const states[] = {
    [WEIR_WITH_CALLER] = "with caller", [WEIR_POSTED] = "posted", [WEIR_AT_GATE] = "at gate",
    [WEIR_IN_FLIGHT] = "in flight",     [WEIR_DONE] = "done",
};

/* --- views ------------------------------------------------------------------------------------ */

static void begin_change(struct weir_view *view)
{
    weir_relaxed_store(&view->sequence, view->sequence + 1);
    /* A reader that sees any word of the change sees that the sequence has moved. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void end_change(struct weir_view *view)
{
    /* Release: pairs with the acquire in weir_view_read(); and for what the pointers lead to. */
    __atomic_store_n(&view->sequence, view->sequence + 1, __ATOMIC_RELEASE);
}

static void copy_words(void *into, const void *from, size_t words)
{
    uint64_t *to = into;
    const uint64_t *word = from;
    for (size_t i = 0; i < words; i++) {
        weir_relaxed_store(&to[i], weir_relaxed_load(&word[i]));
    }
}

/* Where in the file, and how much: of kinds that say so. */
static void extent_of(const struct weir_op *op, uint64_t *ret_offset, uint64_t *ret_length)
{
    bool bytes = weir_kind_traits(op->kind) & WEIR_KIND_BYTES;
    bool vector = weir_kind_traits(op->kind) & WEIR_KIND_VECTOR;
    *ret_offset = bytes || vector ? op->arg.io.offset : 0;
    *ret_length = bytes || vector ? weir_op_bytes(op) : 0;
}

void weir_view_set(struct weir_view *view, const struct weir_op *op, const struct weir_task *task,
                   const char *site, void *const *frames, uint32_t frame_count)
{
    struct weir_view_words words = {
        .op = (uint64_t)(uintptr_t)op,
        .born_ns = op->born_ns,
        .task = task,
        .site = site,
        .kind_and_fd = (uint64_t)op->kind << 32 | (uint32_t)op->fd,
        .state = op->state,
        .frame_count = frame_count,
    };
    extent_of(op, &words.offset, &words.length);
    for (uint32_t i = 0; i < frame_count; i++) {
        words.frames[i] = (uint64_t)(uintptr_t)frames[i];
    }
    begin_change(view);
    copy_words(&view->words, &words, WORDS - WEIR_FRAMES_MAX + frame_count);
    end_change(view);
}

void weir_view_move(struct weir_view *view, enum weir_state state, uint64_t left_ns)
{
    begin_change(view);
    weir_relaxed_store(&view->words.state, state);
    weir_relaxed_store(&view->words.left_ns, left_ns);
    end_change(view);
}

void weir_view_clear(struct weir_view *view)
{
    begin_change(view);
    weir_relaxed_store(&view->words.op, 0);
    end_change(view);
}

static uint64_t age(uint64_t now_ns, uint64_t from_ns)
{
    return now_ns > from_ns ? now_ns - from_ns : 0;
}

/* False: nobody's. A writer that is stopped in the middle of a change has the reader wait for it;
 * a change is a few stores. */
static bool read_words(const struct weir_view *view, struct weir_view_words *ret_words)
{
    uint64_t before;
    do {
        before = __atomic_load_n(&view->sequence, __ATOMIC_ACQUIRE);
        copy_words(ret_words, &view->words, WORDS);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (before % 2 != 0 || before != weir_relaxed_load(&view->sequence));
    return ret_words->op != 0;
}

bool weir_view_read(const struct weir_view *view, uint64_t now_ns, struct weir_live *ret_live,
                    struct weir_seen *ret_seen)
{
    struct weir_view_words words;
    if (weir_relaxed_load(&view->words.op) == 0 || !read_words(view, &words)) {
        return false;
    }
    *ret_live = (struct weir_live){
        .op = (const struct weir_op *)(uintptr_t)words.op,
        .kind = weir_kind_name((unsigned)(words.kind_and_fd >> 32)),
        .state = states[words.state],
        .site = words.site,
        .fd = (int32_t)words.kind_and_fd,
        .offset = words.offset,
        .length = words.length,
        .age_ns = age(now_ns, words.born_ns),
        .flight_ns = words.left_ns != 0 ? age(now_ns, words.left_ns) : 0,
        .frame_count = (uint32_t)words.frame_count,
    };
    for (uint32_t i = 0; i < ret_live->frame_count; i++) {
        ret_live->frames[i] = (void *)(uintptr_t)words.frames[i];
    }
    weir_task_copy_name(words.task, ret_live->task);
    if (ret_seen) {
        ret_seen->task = words.task;
        ret_seen->left_ns = words.left_ns;
        ret_seen->kind = (uint8_t)(words.kind_and_fd >> 32);
    }
    return true;
}

/* --- lists ------------------------------------------------------------------------------------ */

void weir_live_describe(const struct weir_op *op, const struct weir_task *task, const char *site,
                        uint64_t now_ns, struct weir_live *ret_live)
{
    bool left = op->state == WEIR_IN_FLIGHT || (op->state == WEIR_DONE && op->with != 0);
    *ret_live = (struct weir_live){
        .op = op,
        .kind = weir_kind_name(op->kind),
        .state = states[op->state],
        .site = site,
        .fd = op->fd,
        .age_ns = age(now_ns, op->born_ns),
        .flight_ns = left ? age(now_ns, op->left_ns) : 0,
    };
    extent_of(op, &ret_live->offset, &ret_live->length);
    weir_task_copy_name(task, ret_live->task);
}

/* The list is a heap while it is made: the youngest on top, to be thrown out. */
static void sift_down(struct weir_live *list, size_t count, size_t at)
{
    struct weir_live moving = list[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && list[child + 1].age_ns < list[child].age_ns;
        if (list[child].age_ns >= moving.age_ns) {
            break;
        }
        list[at] = list[child];
    }
    list[at] = moving;
}

static void sift_up(struct weir_live *list, size_t at)
{
    struct weir_live moving = list[at];
    for (size_t parent; at > 0 && list[parent = (at - 1) / 2].age_ns > moving.age_ns; at = parent) {
        list[at] = list[parent];
    }
    list[at] = moving;
}

void weir_live_add(struct weir_live *list, size_t max, size_t count, const struct weir_live *live)
{
    if (count < max) {
        list[count] = *live;
        sift_up(list, count);
    } else if (max > 0 && live->age_ns > list[0].age_ns) {
        list[0] = *live;
        sift_down(list, max, 0);
    }
}

void weir_live_sort(struct weir_live *list, size_t count)
{
    while (count > 1) {
        count--;
        struct weir_live youngest = list[0];
        list[0] = list[count];
        sift_down(list, count, 0);
        list[count] = youngest;
    }
}
