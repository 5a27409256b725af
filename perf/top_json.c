/* SPDX-License-Identifier: MIT */
#include "top_json.h"

#include <string.h>

const char *top_string_of(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

uint64_t top_number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

uint64_t top_counter_of(const json_t *object, const char *key)
{
    return top_number_of(json_object_get(object, "counters"), key);
}

double top_interval_of(const json_t *document)
{
    uint64_t since_ns = top_number_of(document, "since_ns");
    uint64_t taken_ns = top_number_of(document, "taken_ns");
    return since_ns == 0 || taken_ns <= since_ns ? 0 : (double)(taken_ns - since_ns) / 1e9;
}

bool top_are_equal(const json_t *a, const json_t *b, const char *key)
{
    return strcmp(top_string_of(a, key), top_string_of(b, key)) == 0;
}
