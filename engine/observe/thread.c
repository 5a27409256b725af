/* SPDX-License-Identifier: MIT */
#include <engine/observe/thread.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The clock of a thread by its number, as the kernel makes it (posix-timers: per thread, of the
 * scheduler); pthread_getcpuclockid(3) wants a pthread_t, which a loop's owner is not asked for. */
static clockid_t clock_of(pid_t thread)
{
    return (clockid_t)(~(unsigned)thread << 3 | 6);
}

static bool read_file(pid_t thread, const char *name, char *ret_text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/%s", (int)thread, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, ret_text, size - 1);
    close(fd);
    ret_text[got > 0 ? got : 0] = 0;
    return got > 0;
}

/* The state follows the name, which may contain anything, ") R" too, and is 15 bytes at most. */
static char state_in(const char *text)
{
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' ? end[2] : 0;
}

void weir_thread_see(pid_t thread, struct weir_thread_sight *ret_sight)
{
    char text[128];
    struct timespec cpu;
    memset(ret_sight, 0, sizeof *ret_sight);
    if (clock_gettime(clock_of(thread), &cpu) == 0) {
        ret_sight->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000ULL + (uint64_t)cpu.tv_nsec;
    }
    if (read_file(thread, "stat", text, sizeof text)) {
        ret_sight->state = state_in(text);
    }
    if (read_file(thread, "schedstat", text, sizeof text)) {
        sscanf(text, "%*u %" SCNu64, &ret_sight->wait_ns);
    }
}

bool weir_thread_is_pending(pid_t thread, int signal)
{
    char text[4096];
    uint64_t set;
    const char *line =
        read_file(thread, "status", text, sizeof text) ? strstr(text, "\nSigPnd:") : NULL;
    return line && sscanf(line, "\nSigPnd: %" SCNx64, &set) == 1 && (set >> (signal - 1) & 1);
}
