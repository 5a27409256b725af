/* SPDX-License-Identifier: MIT */
/*
 * cpus.c: how many CPUs the process may use: its affinity (which knows cpusets), and the least CPU
 * limit of its cgroups and all above them, of version 2 (cpu.max) and 1 (cpu.cfs_quota_us). A part
 * of a CPU counts as one: half a CPU still needs a worker, and of two workers on one and a half
 * CPUs neither idles. Must not know what the number is for.
 */
#include "offload.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Eight times what Linux can be built for, so that no second try with a larger set is needed. */
#define CPU_WORDS (65536 / (8 * sizeof(unsigned long)))

enum version { VERSION_1, VERSION_2, VERSIONS };

struct search {
    const char *root;         /* stands before every path read */
    char own[VERSIONS][1024]; /* the process's cgroup; "": none */
    bool mounted[VERSIONS];   /* and a mount was found that shows it */
    uint64_t least;           /* CPUs, in thousandths, rounded up; UINT64_MAX: no limit */
    const char *least_from;
};

/* The CPUs that the scheduler may run this thread on; 0: it does not say. */
uint32_t weir_cpus_of_thread(void)
{
    unsigned long words[CPU_WORDS] = {0};
    uint32_t cpus = 0;
    if (sched_getaffinity(0, sizeof words, (cpu_set_t *)words) == 0) {
        for (size_t i = 0; i < CPU_WORDS; i++) {
            cpus += (uint32_t)__builtin_popcountl(words[i]);
        }
    }
    return cpus;
}

/* --- one cgroup ------------------------------------------------------------------------------- */

/* Reads the first line of a cgroup's file. */
static bool read_line(const char *folder, const char *name, char *line, size_t size)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path) {
        return false;
    }
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    bool read = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return read;
}

/* quota and period: us of CPU time that may be used in so many us; what is no such pair ("max",
 * "-1") is no limit. */
static void note_limit(struct search *search, const char *quota, const char *period,
                       const char *from)
{
    if (quota[0] < '0' || quota[0] > '9') {
        return;
    }
    uint64_t used = strtoull(quota, NULL, 10);
    uint64_t in = strtoull(period, NULL, 10);
    if (in == 0 || used > UINT64_MAX / 1000 - in) {
        return;
    }
    uint64_t limit = (used * 1000 + in - 1) / in;
    if (limit < search->least) {
        search->least = limit;
        search->least_from = from;
    }
}

static void look_into(struct search *search, const char *folder, enum version version)
{
    char quota[64];
    char period[64];
    if (version == VERSION_2) {
        if (read_line(folder, "cpu.max", quota, sizeof quota)) { /* "quota period" */
            note_limit(search, quota, quota + strcspn(quota, " "), "cgroup v2 cpu.max");
        }
    } else if (read_line(folder, "cpu.cfs_quota_us", quota, sizeof quota) &&
               read_line(folder, "cpu.cfs_period_us", period, sizeof period)) {
        note_limit(search, quota, period, "cgroup v1 cpu.cfs_quota_us");
    }
}

/* Looks into a cgroup and all above it, up to the mount. */
static void climb(struct search *search, const char *mount, const char *below, enum version version)
{
    char folder[PATH_MAX];
    size_t top = strlen(search->root) + strlen(mount);
    int length = snprintf(folder, sizeof folder, "%s%s%s", search->root, mount, below);
    if ((size_t)length >= sizeof folder) {
        return;
    }
    for (;;) {
        look_into(search, folder, version);
        char *slash = strrchr(folder, '/');
        if (!slash || slash < folder + top) {
            return;
        }
        *slash = '\0';
    }
}

/* --- which cgroups ---------------------------------------------------------------------------- */

/* Whether a word stands in a list with commas. */
static bool lists(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (; *list; list += strcspn(list, ","), list += *list == ',') {
        if (strcspn(list, ",\n") == length && strncmp(list, word, length) == 0) {
            return true;
        }
    }
    return false;
}

/* A line of /proc/self/cgroup: id:controllers:path */
static void note_own(struct search *search, char *line)
{
    strsep(&line, ":");
    const char *controllers = strsep(&line, ":");
    const char *path = strsep(&line, "\n");
    if (!path || path[0] != '/' || strncmp(path, "/..", 3) == 0) { /* outside of what is shown */
        return;
    }
    enum version version = controllers[0] == '\0' ? VERSION_2 : VERSION_1;
    if (version == VERSION_2 || lists(controllers, "cpu")) {
        snprintf(search->own[version], sizeof search->own[version], "%s", path);
    }
}

/* Blanks and the like stand as octal numbers in mountinfo: \040. */
static char *unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] && from[2] && from[3]) {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
    return text;
}

/* A line of /proc/self/mountinfo: id parent device root mount options [more] - type source options.
 * root is the cgroup that the mount shows as its top. */
static void note_mount(struct search *search, char *line)
{
    char *rest = strstr(line, " - ");
    if (!rest) {
        return;
    }
    rest += 3;
    const char *type = strsep(&rest, " ");
    strsep(&rest, " ");
    bool version_1 = strcmp(type, "cgroup") == 0 && rest && lists(rest, "cpu");
    if (!version_1 && strcmp(type, "cgroup2") != 0) {
        return;
    }
    for (int field = 0; field < 3; field++) {
        strsep(&line, " ");
    }
    char *root = strsep(&line, " ");
    char *mount = strsep(&line, " ");
    if (!root || !mount) {
        return;
    }
    enum version version = version_1 ? VERSION_1 : VERSION_2;
    const char *own = search->own[version];
    unescape(root);
    size_t above = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (own[0] == '\0' || strncmp(own, root, above) != 0 || (own[above] && own[above] != '/')) {
        return; /* it shows other groups */
    }
    search->mounted[version] = true;
    climb(search, unescape(mount), own + above + (strcmp(own + above, "/") == 0), version);
}

static void each_line(struct search *search, const char *name,
                      void (*note)(struct search *, char *))
{
    char path[PATH_MAX];
    char line[4096];
    if ((size_t)snprintf(path, sizeof path, "%s%s", search->root, name) >= sizeof path) {
        return;
    }
    FILE *file = fopen(path, "re");
    if (!file) {
        return;
    }
    bool whole = true; /* the rest of a line that is too long is no line */
    while (fgets(line, sizeof line, file)) {
        bool ends = strchr(line, '\n') != NULL;
        if (whole && ends) {
            note(search, line);
        }
        whole = ends;
    }
    fclose(file);
}

static void find_limit(struct search *search)
{
    static const char *const usual[VERSIONS] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup"};
    each_line(search, "/proc/self/cgroup", note_own);
    each_line(search, "/proc/self/mountinfo", note_mount);
    for (unsigned version = 0; version < VERSIONS; version++) {
        if (search->own[version][0] && !search->mounted[version]) {
            climb(search, usual[version], search->own[version], version);
        }
    }
}

uint32_t weir_cpus_allowed(const char *root, char *ret_reason, size_t reason_size)
{
    struct search search = {.root = root, .least = UINT64_MAX};
    const char *from = "affinity";
    uint32_t cpus = weir_cpus_of_thread();
    if (cpus == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        cpus = online > 0 ? (uint32_t)online : 1;
        from = "the number online";
    }
    find_limit(&search);
    const char *plural = cpus == 1 ? "" : "s";
    if (search.least >= cpus * 1000ULL) {
        snprintf(ret_reason, reason_size, "%s allows %u CPU%s", from, cpus, plural);
        return cpus;
    }
    uint32_t hundredths = (uint32_t)(search.least + 5) / 10;
    snprintf(ret_reason, reason_size, "%s allows %u.%02u of %u CPU%s", search.least_from,
             hundredths / 100, hundredths % 100, cpus, plural);
    return search.least > 1000 ? (uint32_t)((search.least + 999) / 1000) : 1;
}
