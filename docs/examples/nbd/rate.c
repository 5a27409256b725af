/* SPDX-License-Identifier: MIT */
#include "rate.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { COLUMNS_DEFAULT = 80, LINE_MAX_BYTES = 512 };

struct line {
    char bytes[LINE_MAX_BYTES];
    size_t length;
    size_t columns; /* that may be used */
};

/* Adds a part, if it fits as a whole: half a number would be a wrong one. */
__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
    char part[64];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(part, sizeof part, format, arguments);
    va_end(arguments);
    size_t gap = line->length > 0 ? 3 : 0;
    if (line->length + gap + (size_t)length > line->columns || (size_t)length >= sizeof part) {
        return;
    }
    memset(line->bytes + line->length, ' ', gap);
    memcpy(line->bytes + line->length + gap, part, (size_t)length);
    line->length += gap + (size_t)length;
}

/* 45.2 k, 176 M, 7: three figures or so. */
struct scaled {
    double value;
    const char *unit;
    int decimals;
};

static struct scaled scale(double value, double step, const char *const *units)
{
    unsigned i = 0;
    while (value >= 0.9995 * step && units[i + 1]) {
        value /= step;
        i++;
    }
    return (struct scaled){value, units[i], i > 0 && value < 99.95};
}

static void add_kind(struct line *line, const char *name, uint64_t count, uint64_t bytes,
                     double seconds)
{
    static const char *const thousands[] = {"", "k ", "M ", "G ", NULL};
    static const char *const binaries[] = {"B", "KiB", "MiB", "GiB", "TiB", NULL};
    struct scaled rate = scale((double)count / seconds, 1000, thousands);
    struct scaled flow = scale((double)bytes / seconds, 1024, binaries);
    add(line, "%.*f %s%s/s %.*f %s/s", rate.decimals, rate.value, rate.unit, name, flow.decimals,
        flow.value, flow.unit);
}

void rate_print(FILE *file, const struct rate *now, const struct rate *before, double seconds)
{
    int fd = fileno(file);
    if (!isatty(fd) || !(seconds > 0)) {
        return;
    }
    struct winsize window = {0};
    ioctl(fd, TIOCGWINSZ, &window);
    struct line line = {.columns = window.ws_col > 0 ? window.ws_col : COLUMNS_DEFAULT};
    /* The last column stays free: a terminal may go to its next line behind it. */
    line.columns = line.columns <= LINE_MAX_BYTES ? line.columns - 1 : LINE_MAX_BYTES;
    add_kind(&line, "reads", now->reads - before->reads, now->read_bytes - before->read_bytes,
             seconds);
    add_kind(&line, "writes", now->writes - before->writes,
             now->written_bytes - before->written_bytes, seconds);
    add(&line, "%u connection%s", now->connections, now->connections == 1 ? "" : "s");
    if (now->errors > 0) {
        add(&line, "%llu error%s", (unsigned long long)now->errors, now->errors == 1 ? "" : "s");
    }
    add(&line, "%u in flight", now->in_flight);
    if (now->others > before->others) {
        add(&line, "%.0f others/s", (double)(now->others - before->others) / seconds);
    }
    fprintf(file, "\r%.*s\033[K", (int)line.length, line.bytes); /* and clear what was longer */
    fflush(file);
}

void rate_end(FILE *file)
{
    if (isatty(fileno(file))) {
        fputs("\r\033[K", file);
        fflush(file);
    }
}
