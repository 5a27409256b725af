/* SPDX-License-Identifier: MIT */
/*
 * fields.h: the numbers of a task, a loop and a gate as tables: what each is called by whom, and
 * whether it only grows. A new counter is written, and subtracted, once it stands here.
 */
#ifndef WEIR_ENGINE_FIELDS_H
#define WEIR_ENGINE_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

struct weir_field {
    const char *key;    /* the field's name, and that in JSON; NULL ends a table */
    const char *metric; /* of Prometheus; NULL: it is told otherwise there */
    const char *help;
    uint16_t offset;
    uint8_t size; /* 4 or 8 bytes; totals have 8 */
    bool total;   /* it only grows; else it is a number of the moment */
    bool nanoseconds;
};

extern const struct weir_field weir_task_fields[]; /* of struct weir_task_counters */
extern const struct weir_field weir_loop_fields[]; /* of struct weir_counters */
extern const struct weir_field weir_gate_fields[]; /* of struct weir_gate_state */

/* of: the struct of the field's table. */
uint64_t weir_field_value(const struct weir_field *field, const void *of);

/* "main", "offload". */
const char *weir_gate_name(unsigned gate);
/* "as_opened", "loop_goal", "task_goal"; NULL past them. */
const char *weir_depth_reason_name(unsigned reason);
/* "EIO" for -EIO; NULL: no such errno. */
const char *weir_error_name(int error);

#endif
