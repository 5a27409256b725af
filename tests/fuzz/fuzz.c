/* SPDX-License-Identifier: MIT */
/* fuzz.c: an input from its first byte to its last, and what all files use. */
#include "fuzz.h"

#include <inttypes.h>
#include <stdarg.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_POISONS 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define FUZZ_POISONS 1
#endif

#ifdef FUZZ_POISONS
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

struct fuzz fuzz;
struct fuzz_item fuzz_items[FUZZ_OPS + 1];
const size_t fuzz_input_max = FUZZ_INPUT_MAX;
bool fuzz_loud;

uint8_t fuzz_take(void)
{
    if (fuzz.left == 0) {
        return 0;
    }
    fuzz.left--;
    return *fuzz.bytes++;
}

uint8_t fuzz_below(uint8_t end)
{
    return (uint8_t)(fuzz_take() % end);
}

void fuzz_say(const char *format, ...)
{
    va_list list;
    if (!fuzz_loud) {
        return;
    }
    uint64_t now_ns = fuzz.sim ? weir_sim_now(fuzz.sim) - WEIR_SIM_BEGIN_NS : 0;
    fprintf(stderr, "%10" PRIu64 " ns %*s", now_ns, (int)fuzz.depth * 4, "");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

void fuzz_fail(const char *what, int64_t value)
{
    fprintf(stderr, "fuzz: %s (%" PRId64 ")\n", what, value);
    abort();
}

void fuzz_note(int64_t value)
{
    fuzz.hash = (fuzz.hash ^ (uint64_t)value) * 0x100000001b3ULL;
    fuzz.hash ^= fuzz.hash >> 29;
}

void fuzz_show(unsigned op)
{
    ASAN_UNPOISON_MEMORY_REGION(&fuzz_items[op], sizeof fuzz_items[op]);
}

void fuzz_hide(unsigned op)
{
    ASAN_POISON_MEMORY_REGION(&fuzz_items[op], sizeof fuzz_items[op]);
}

void fuzz_opened(int64_t fd)
{
    int64_t number = fd - WEIR_SIM_FD_FIRST;
    fuzz_expect(number >= 0 && number < FUZZ_FDS_MAX, "a new fd", fd);
    fuzz.told[number]++;
    fuzz.fds++;
}

void fuzz_closed(int64_t fd)
{
    int64_t number = fd - WEIR_SIM_FD_FIRST;
    fuzz_expect(number >= 0 && number < FUZZ_FDS_MAX, "a closed fd", fd);
    if (fuzz.told[number] == 0) {
        fuzz.fds_unknown = true;
        return;
    }
    fuzz.told[number]--;
    fuzz.fds--;
}

uint64_t fuzz_run(const uint8_t *bytes, size_t size)
{
    fuzz = (struct fuzz){.bytes = bytes, .left = size < FUZZ_INPUT_MAX ? size : FUZZ_INPUT_MAX};
    for (unsigned i = 0; i <= FUZZ_OPS; i++) {
        fuzz_show(i);
        memset(&fuzz_items[i], 0, sizeof fuzz_items[i]);
        fuzz_hide(i);
    }
    fuzz_open_world();
    while (fuzz.left > 0) {
        fuzz_act();
        if (fuzz_crashed()) {
            fuzz_restart();
        }
        fuzz_audit();
    }
    fuzz_end_loops();
    fuzz_note((int64_t)weir_sim_hash(fuzz.sim));
    fuzz_say("hash %016" PRIx64, fuzz.hash);
    fuzz_close_world();
    return fuzz.hash;
}
