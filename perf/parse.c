/* SPDX-License-Identifier: MIT */
/* perf/parse.c: numbers and their units. */
#include "parse.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The number that text begins with, *ret_end behind it. */
static bool parse_digits(const char *text, uint64_t *ret_value, const char **ret_end)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *text == '-') {
        return false;
    }
    *ret_value = value;
    *ret_end = end;
    return true;
}

bool parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    const char *end;
    uint64_t value;
    if (!parse_digits(text, &value, &end)) {
        return false;
    }
    unsigned shift = 0;
    if (*end == 'k' || *end == 'K') {
        shift = 10;
    } else if (*end == 'm' || *end == 'M') {
        shift = 20;
    } else if (*end == 'g' || *end == 'G') {
        shift = 30;
    }
    if (shift != 0) {
        end++;
    }
    if (*end != '\0' || value > (UINT64_MAX >> shift)) {
        return false;
    }
    value <<= shift;
    if (value < min || value > max) {
        return false;
    }
    *ret_value = value;
    return true;
}

bool parse_duration(const char *text, uint64_t max_ns, uint64_t *ret_ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"", 1}, {"ns", 1}, {"us", 1000}, {"ms", 1000000}};
    const char *end;
    uint64_t value;
    if (!parse_digits(text, &value, &end)) {
        return false;
    }
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].name) == 0 && value <= max_ns / units[i].ns) {
            *ret_ns = value * units[i].ns;
            return true;
        }
    }
    return false;
}

uint32_t parse_number_or_usage(struct argp_state *state, const char *option, const char *text,
                               uint32_t min, uint32_t max)
{
    uint64_t value = 0;
    if (!parse_size(text, min, max, &value)) {
        argp_error(state, "%s %s: give a whole number from %u to %u", option, text, min, max);
    }
    return (uint32_t)value;
}

double parse_seconds_or_usage(struct argp_state *state, const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0.01 && value <= 86400)) {
        argp_error(state, "%s %s: give seconds from 0.01 to 86400", option, text);
    }
    return value;
}
