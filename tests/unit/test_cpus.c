/* SPDX-License-Identifier: MIT */
/* engine/offload/cpus.c: against trees that look like /proc and /sys, and a live cgroup. */
#include "unit.h"

#include <engine/offload/offload.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOUNT_2 "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
#define MOUNT_1 "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu\n"
#define V1 "/sys/fs/cgroup/cpu"
#define V2 "/sys/fs/cgroup"

static char root[256];
static char reason[96];
static uint32_t online; /* CPUs by affinity */

static int make_root(void **state)
{
    (void)state;
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    online = (uint32_t)CPU_COUNT(&set);
    const char *folder = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/weir-cpus-XXXXXX", folder ? folder : "/tmp");
    assert_non_null(mkdtemp(root));
    return 0;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *at)
{
    (void)stat;
    (void)type;
    (void)at;
    return remove(path);
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Writes a file under root, and makes the folders above it. */
static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_proc(const char *own, const char *mounts)
{
    put("/proc/self/cgroup", own);
    put("/proc/self/mountinfo", mounts);
}

/* limit: CPUs in hundredths; 0: none. */
static void expect(const char *from, uint32_t limit)
{
    char wanted[96];
    const char *plural = online == 1 ? "" : "s";
    uint32_t cpus = online;
    if (limit == 0 || limit >= online * 100) {
        snprintf(wanted, sizeof wanted, "affinity allows %u CPU%s", online, plural);
    } else {
        snprintf(wanted, sizeof wanted, "%s allows %u.%02u of %u CPU%s", from, limit / 100,
                 limit % 100, online, plural);
        cpus = (limit + 99) / 100;
    }
    memset(reason, 'x', sizeof reason);
    uint32_t got = weir_cpus_allowed(root, reason, sizeof reason);
    assert_string_equal(reason, wanted);
    assert_int_equal(got, cpus);
}

static void expect_v2(uint32_t limit)
{
    expect("cgroup v2 cpu.max", limit);
}

static void expect_v1(uint32_t limit)
{
    expect("cgroup v1 cpu.cfs_quota_us", limit);
}

/* --- affinity --------------------------------------------------------------------------------- */

static void affinity_counts_where_nothing_limits(void **state)
{
    (void)state;
    expect("", 0);
    put_proc("0::/a\n", MOUNT_2 MOUNT_1);
    expect("", 0);
}

static void affinity_of_one_gives_one(void **state)
{
    (void)state;
    cpu_set_t all;
    cpu_set_t one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all)) {
        cpu++;
    }
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    uint32_t got = weir_cpus_allowed(root, reason, sizeof reason);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(got, 1);
    assert_string_equal(reason, "affinity allows 1 CPU");
}

static void a_limit_above_affinity_is_none(void **state)
{
    (void)state;
    char quota[64];
    put_proc("0::/\n", MOUNT_2);
    snprintf(quota, sizeof quota, "%u 100000\n", online * 100000);
    put(V2 "/cpu.max", quota);
    expect("", 0);
    put(V2 "/cpu.max", "100000000 100000\n");
    expect("", 0);
}

/* --- version 2 -------------------------------------------------------------------------------- */

static void half_a_cpu_gives_one(void **state)
{
    (void)state;
    put_proc("1:name=systemd:/other\n0::/a\n", MOUNT_2);
    put(V2 "/a/cpu.max", "50000 100000\n");
    expect_v2(50);
}

static void a_part_of_a_cpu_counts_as_one(void **state)
{
    (void)state;
    char quota[64];
    put_proc("0::/a\n", MOUNT_2);
    snprintf(quota, sizeof quota, "%u 20000\n", online * 20000 - 10000);
    put(V2 "/a/cpu.max", quota);
    expect_v2(online * 100 - 50);
    assert_int_equal(weir_cpus_allowed(root, reason, sizeof reason), online);
}

static void the_least_limit_of_all_groups_above_wins(void **state)
{
    (void)state;
    put_proc("0::/a/b/c\n", MOUNT_2);
    put(V2 "/cpu.max", "90000 100000\n");
    expect_v2(90);
    put(V2 "/a/cpu.max", "150000 200000\n");
    put(V2 "/a/b/cpu.max", "max 100000\n");
    put(V2 "/a/b/c/cpu.max", "8000 10000\n");
    expect_v2(75);
    put(V2 "/a/b/c/cpu.max", "7000 10000\n");
    expect_v2(70);
    put("/sys/fs/cpu.max", "1000 10000\n"); /* above the mount */
    put(V2 "/a/b/c/d/cpu.max", "1000 10000\n");
    expect_v2(70);
}

static void a_mount_that_shows_a_part_is_looked_into_from_there(void **state)
{
    (void)state;
    put_proc("0::/pods/one/inner\n",
             "50 31 0:38 /pods/on /wrong rw - cgroup2 cgroup2 rw\n"
             "51 31 0:38 /pods/two /other rw - cgroup2 cgroup2 rw\n"
             "52 31 0:38 /pods/one /with\\040blank rw - cgroup2 cgroup2 rw\n");
    put("/wrong/cpu.max", "10000 100000\n");
    put("/wronge/cpu.max", "10000 100000\n");
    put("/other/cpu.max", "10000 100000\n");
    put(V2 "/cpu.max", "10000 100000\n");
    expect("", 0);
    put("/with blank/cpu.max", "60000 100000\n");
    expect_v2(60);
    put("/with blank/inner/cpu.max", "40000 100000\n");
    expect_v2(40);
    put_proc("0::/pods/one\n", "52 31 0:38 /pods/one /with\\040blank rw - cgroup2 cgroup2 rw\n");
    expect_v2(60);
}

static void without_a_mount_the_usual_place_is_looked_into(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "3:cpu:/a\n0::/a\n");
    put(V2 "/a/cpu.max", "60000 100000\n");
    expect_v2(60);
    put(V1 "/a/cpu.cfs_quota_us", "40000\n");
    put(V1 "/a/cpu.cfs_period_us", "100000\n");
    expect_v1(40);
}

static void a_group_outside_of_the_namespace_says_nothing(void **state)
{
    (void)state;
    put_proc("0::/../a\n", MOUNT_2);
    put(V2 "/cpu.max", "10000 100000\n");
    put("/sys/fs/a/cpu.max", "10000 100000\n");
    expect("", 0);
}

/* --- version 1 -------------------------------------------------------------------------------- */

static void half_a_cpu_by_version_1_gives_one(void **state)
{
    (void)state;
    put_proc("5:cpuset:/x\n4:cpuacct,cpu:/a/b\n0::/\n", MOUNT_2 MOUNT_1);
    put(V1 "/a/b/cpu.cfs_quota_us", "-1\n");
    put(V1 "/a/b/cpu.cfs_period_us", "100000\n");
    expect("", 0);
    put(V1 "/a/cpu.cfs_quota_us", "50000\n");
    expect("", 0); /* of what, is not known */
    put(V1 "/a/cpu.cfs_period_us", "100000\n");
    expect_v1(50);
    put(V1 "/a/b/cpu.cfs_quota_us", "25000\n");
    expect_v1(25);
}

static void the_lesser_of_both_versions_wins(void **state)
{
    (void)state;
    put_proc("4:cpu:/a\n0::/b\n", MOUNT_1 MOUNT_2);
    put(V1 "/a/cpu.cfs_quota_us", "50000\n");
    put(V1 "/a/cpu.cfs_period_us", "100000\n");
    put(V2 "/b/cpu.max", "60000 100000\n");
    expect_v1(50);
    put(V2 "/b/cpu.max", "40000 100000\n");
    expect_v2(40);
}

static void other_controllers_are_not_asked(void **state)
{
    (void)state;
    put_proc("4:cpuset,cpuacct:/a\n", MOUNT_1);
    put(V1 "/a/cpu.cfs_quota_us", "50000\n");
    put(V1 "/a/cpu.cfs_period_us", "100000\n");
    expect("", 0);
    put_proc("4:cpu:/b\n", "32 31 0:29 / /others rw - cgroup cgroup rw,cpuset,cpuacct\n");
    put("/others/b/cpu.cfs_quota_us", "50000\n");
    put("/others/b/cpu.cfs_period_us", "100000\n");
    expect("", 0);
}

/* --- what nobody should write ----------------------------------------------------------------- */

static void nonsense_is_no_limit(void **state)
{
    (void)state;
    static const char *const files[] = {
        "",      "\n",      "nonsense\n", "0 0\n",    "100\n",
        "-5 7 ", "5 -0\n",  "max\n",      "50000 \n", "99999999999999999999999 100000\n",
        " ",     "5 max\n",
    };
    put_proc("0::/a\n", MOUNT_2);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        put(V2 "/a/cpu.max", files[i]);
        expect("", 0);
    }
    static const char *const lines[] = {"",      "\n",   "0\n",    "0:\n",
                                        "0::\n", "::\n", "0::a\n", ":::::\n"};
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        put("/proc/self/cgroup", lines[i]);
        expect("", 0);
    }
    static const char *const mounts[] = {
        "",
        "\n",
        " - \n",
        " - cgroup2\n",
        "1 2 3 - cgroup2 x rw\n",
        "1 2 3 / - cgroup cgroup cpu\n",
        "1 2 3 / - cgroup cgroup\n",
        "1 2 3 \\ \\0 - cgroup2 x y\n",
    };
    put_proc("4:cpu:/a\n0::/a\n", "");
    for (size_t i = 0; i < COUNT_OF(mounts); i++) {
        put("/proc/self/mountinfo", mounts[i]);
        expect("", 0);
    }
}

static void lines_that_are_too_long_are_stepped_over(void **state)
{
    (void)state;
    static char mounts[20000];
    size_t length = 9000;
    memset(mounts, 'l', length);
    /* Where a reader of 4 KiB begins anew, what stands there must not pass for a line. */
    int end = snprintf(mounts + 8190, 64, "1 2 3 / /wrong rw - cgroup2 x ");
    mounts[8190 + end] = 'l';
    snprintf(mounts + length, sizeof mounts - length, "\n%s", MOUNT_2);
    put_proc("0::/a\n", mounts);
    put("/wrong/cpu.max", "10000 100000\n");
    put(V2 "/a/cpu.max", "60000 100000\n");
    expect_v2(60);
}

static void a_reason_is_cut_to_its_room(void **state)
{
    (void)state;
    memset(reason, 'x', sizeof reason);
    weir_cpus_allowed(root, reason, 9);
    assert_string_equal(reason, "affinity");
    assert_int_equal(reason[9], 'x');
}

/* --- live ------------------------------------------------------------------------------------- */

static bool write_to(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        close(fd);
    }
    return written;
}

/* Makes a group of half a CPU under `top` and asks in a child that is in it. */
static void ask_in_a_live_group(const char *top, const char *name, const char *text)
{
    char folder[128];
    snprintf(folder, sizeof folder, "%s/weir-test-%d", top, (int)getpid());
    if (mkdir(folder, 0700) != 0) {
        print_message("skipped: no group can be made in %s: %s\n", top, strerror(errno));
        skip();
    }
    if (!write_to(folder, name, text)) {
        print_message("skipped: %s cannot be set in %s\n", name, top);
        rmdir(folder);
        skip();
    }
    pid_t child = fork();
    if (child == 0) {
        if (!write_to(folder, "cgroup.procs", "0")) {
            _exit(2);
        }
        uint32_t cpus = weir_cpus_allowed("", reason, sizeof reason);
        print_message("%s\n", reason);
        _exit(cpus == 1 && strstr(reason, "allows 0.50 of") ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    rmdir(folder);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
        print_message("skipped: %s takes no process\n", top);
        skip();
    }
    assert_int_equal(status, 0);
}

static void half_a_cpu_of_a_live_group_of_version_1_gives_one(void **state)
{
    (void)state;
    ask_in_a_live_group(V1, "cpu.cfs_quota_us", "50000");
}

static void half_a_cpu_of_a_live_group_of_version_2_gives_one(void **state)
{
    (void)state;
    ask_in_a_live_group(V2, "cpu.max", "50000 100000");
}

int main(void)
{
#define CPUS_TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        CPUS_TEST(affinity_counts_where_nothing_limits),
        CPUS_TEST(affinity_of_one_gives_one),
        CPUS_TEST(a_limit_above_affinity_is_none),
        CPUS_TEST(half_a_cpu_gives_one),
        CPUS_TEST(a_part_of_a_cpu_counts_as_one),
        CPUS_TEST(the_least_limit_of_all_groups_above_wins),
        CPUS_TEST(a_mount_that_shows_a_part_is_looked_into_from_there),
        CPUS_TEST(without_a_mount_the_usual_place_is_looked_into),
        CPUS_TEST(a_group_outside_of_the_namespace_says_nothing),
        CPUS_TEST(half_a_cpu_by_version_1_gives_one),
        CPUS_TEST(the_lesser_of_both_versions_wins),
        CPUS_TEST(other_controllers_are_not_asked),
        CPUS_TEST(nonsense_is_no_limit),
        CPUS_TEST(lines_that_are_too_long_are_stepped_over),
        CPUS_TEST(a_reason_is_cut_to_its_room),
        CPUS_TEST(half_a_cpu_of_a_live_group_of_version_1_gives_one),
        CPUS_TEST(half_a_cpu_of_a_live_group_of_version_2_gives_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
