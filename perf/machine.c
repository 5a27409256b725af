/* SPDX-License-Identifier: MIT */
/* perf/machine.c: reads it from uname, /proc and /sys; what is missing stays "unknown". */
#include "machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <weir/base.h>

#include "json.h"

/* The rest of the first line that begins with `prefix`, behind its colon if it has one. */
static void read_line(const char *path, const char *prefix, char ret_text[MACHINE_TEXT_MAX])
{
    snprintf(ret_text, MACHINE_TEXT_MAX, "unknown");
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    char line[512];
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, prefix, strlen(prefix)) != 0) {
            continue;
        }
        line[strcspn(line, "\n")] = '\0';
        const char *colon = strchr(line, ':');
        const char *value = colon != NULL ? colon + 1 : line;
        snprintf(ret_text, MACHINE_TEXT_MAX, "%.*s", MACHINE_TEXT_MAX - 1,
                 value + strspn(value, " \t"));
        break;
    }
    fclose(file);
}

void machine_read(struct machine *ret_machine)
{
    struct machine machine = {
        .cpus = sysconf(_SC_NPROCESSORS_ONLN),
        .memory_gib =
            (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (double)(1u << 30),
    };
    struct utsname names;
    uname(&names);
    snprintf(machine.kernel, sizeof machine.kernel, "%s", names.release);
    snprintf(machine.architecture, sizeof machine.architecture, "%s", names.machine);
    read_line("/proc/cpuinfo", "model name", machine.cpu);
    read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", "",
              machine.clocksource);
    *ret_machine = machine;
}

void machine_json(struct json *json, const char *key)
{
    struct machine machine;
    machine_read(&machine);
    json_begin(json, key, '{');
    json_string(json, "kernel", machine.kernel);
    json_string(json, "architecture", machine.architecture);
    json_string(json, "cpu", machine.cpu);
    json_integer(json, "cpus", (uint64_t)machine.cpus);
    json_number(json, "memory_gib", machine.memory_gib);
    json_string(json, "clocksource", machine.clocksource);
    json_string(json, "weir", weir_version());
    json_end(json, '}');
}

void machine_file_system(int fd, char ret_name[32])
{
    /* Numbers, since <linux/magic.h> of Debian 12 lacks some of the names. */
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {
        {0xef53, "ext4"},      {0x58465342, "xfs"}, {0x9123683e, "btrfs"},   {0xf2f52010, "f2fs"},
        {0x01021994, "tmpfs"}, {0x6969, "nfs"},     {0x858458f6, "ramfs"},   {0x2fc12fc1, "zfs"},
        {0x65735546, "fuse"},  {0x1cd1, "devpts"},  {0x794c7630, "overlay"},
    };
    struct statfs about;
    if (fstatfs(fd, &about) < 0) {
        snprintf(ret_name, 32, "unknown");
        return;
    }
    snprintf(ret_name, 32, "0x%lx", (unsigned long)about.f_type);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if ((unsigned long)about.f_type == known[i].magic) {
            snprintf(ret_name, 32, "%s", known[i].name);
        }
    }
}
