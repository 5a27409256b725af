/* SPDX-License-Identifier: MIT */
/* perf/machine.h: what a figure was measured on. */
#ifndef PERF_MACHINE_H
#define PERF_MACHINE_H

struct json;

#define MACHINE_TEXT_MAX 128

struct machine {
    char kernel[MACHINE_TEXT_MAX];
    char architecture[MACHINE_TEXT_MAX];
    char cpu[MACHINE_TEXT_MAX];
    char clocksource[MACHINE_TEXT_MAX];
    long cpus;
    double memory_gib;
};

void machine_read(struct machine *ret_machine);
void machine_json(struct json *json, const char *key);
/* The type of the file system an open file is on, "ext4"; or its number in hex. */
void machine_file_system(int fd, char ret_name[32]);

#endif
