/* SPDX-License-Identifier: MIT */
/*
 * perf/workload.c: makes a workload ready: the file with real data, its place in the page cache,
 * and the buffers. Never writes to a file that it did not fill, unless told to.
 */
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "echo.h"
#include "interval.h"
#include "report.h"

#define CHUNK (1u << 20)

/*
 * What a file of ours begins with. It stands in every sector, so that any block written from a
 * buffer that was filled here, or read from such a file before, keeps the file ours.
 */
static const char mark[16] = "weir-perf data\n";
#define SECTOR 512

static void fill_data(char *data, size_t length, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i + sizeof state <= length; i += sizeof state) {
        uint64_t number = random_next(&state);
        memcpy(data + i, &number, sizeof number);
    }
    for (size_t i = 0; i + sizeof mark <= length; i += SECTOR) {
        memcpy(data + i, mark, sizeof mark);
    }
}

/* Writes real data from `from` to `size`: holes and unwritten extents read faster than files do. */
static int fill_file(int fd, uint64_t from, uint64_t size)
{
    char *chunk = malloc(CHUNK);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    int r = 0;
    for (uint64_t at = from - from % CHUNK; at < size && r == 0;) {
        size_t length = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        fill_data(chunk, CHUNK, at + 1);
        if (at % (64 * CHUNK) == 0) {
            progress("filling the file: %d %%", (int)(100 * at / size));
        }
        ssize_t written = pwrite(fd, chunk, length, (off_t)at);
        if (written < 0 && errno != EINTR) {
            r = -errno;
        } else if (interrupted) {
            r = -EINTR;
        } else if (written > 0) {
            at += (uint64_t)written -
                  (uint64_t)written % (at + (uint64_t)written < size ? SECTOR : 1);
        }
    }
    free(chunk);
    /* Else the kernel would write it back in the middle of what is measured. */
    return r == 0 && fdatasync(fd) < 0 ? -errno : r;
}

static bool is_marked(int fd)
{
    char start[sizeof mark];
    return pread(fd, start, sizeof start, 0) == (ssize_t)sizeof start &&
           memcmp(start, mark, sizeof mark) == 0;
}

static int open_nameless(void)
{
    const char *folder = getenv("TMPDIR");
    if (folder == NULL || *folder == '\0') {
        folder = "/var/tmp"; /* on a disk, where /tmp often is not */
    }
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) {
        return fd;
    }
    char name[4096];
    snprintf(name, sizeof name, "%s/weir-perf-XXXXXX", folder);
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        int error = errno;
        complain("cannot make a file in %s: %s; give --path", folder, strerror(error));
        return -1;
    }
    unlink(name);
    return fd;
}

/* The file, made if missing; *ret_made says so. */
static int open_named(const char *path, bool *ret_made)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        *ret_made = fd >= 0;
    }
    if (fd < 0) {
        complain("cannot open %s: %s; give another --path", path, strerror(errno));
    }
    return fd;
}

/* The same file once more, with other flags: works for nameless ones too. */
static int reopen(int fd, int flags)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return open(name, flags | O_CLOEXEC);
}

static const char *name_of(const struct options *options)
{
    return options->path != NULL ? options->path : "the temporary file";
}

/* Brings the file to its size with data. 0, or -1 after a message. */
static int make_full(const struct options *options, int fd, const struct stat *about)
{
    off_t end = lseek(fd, 0, SEEK_END);
    if (end >= 0 && (uint64_t)end >= options->size) {
        return 0;
    }
    if (!S_ISREG(about->st_mode)) {
        complain("%s holds %lld bytes only; give --size", name_of(options), (long long)end);
        return -1;
    }
    if (end > 0 && !is_marked(fd) && !options->overwrite) {
        complain(
            "%s holds %lld bytes of somebody else's data; give a smaller --size, another --path, "
            "or --overwrite to lengthen it",
            name_of(options), (long long)end);
        return -1;
    }
    int writable = reopen(fd, O_RDWR);
    int r = writable < 0 ? -errno : fill_file(writable, (uint64_t)end, options->size);
    if (writable >= 0) {
        close(writable);
    }
    if (r == -EINTR) {
        return -1;
    }
    if (r < 0) {
        char text[32];
        format_bytes(text, sizeof text, options->size);
        complain("cannot fill %s with %s: %s; give a smaller --size or another --path",
                 name_of(options), text, strerror(-r));
        return -1;
    }
    return 0;
}

/* Opens it the way the ops will use it. The fd, or -1 after a message. */
static int open_for_ops(const struct options *options, const struct workload *workload, int fd)
{
    if (workload->write && !options->overwrite && !is_marked(fd)) {
        complain(
            "%s was not made by weir-perf: --rw %s would destroy its data; give another --path, "
            "or --overwrite if that is meant",
            name_of(options), access_name(options->access));
        return -1;
    }
    int flags = workload->write ? O_RDWR : O_RDONLY;
    int result = reopen(fd, flags | (options->direct ? O_DIRECT : 0));
    if (result < 0) {
        complain("cannot open %s%s: %s%s", name_of(options),
                 options->direct ? " with O_DIRECT" : "", strerror(errno),
                 options->direct ? "; leave out --direct, or give a --path on another file system"
                                 : "; give another --path");
    } else if (options->direct) {
        posix_fadvise(result, 0, 0, POSIX_FADV_DONTNEED); /* direct reads look there first */
    }
    return result;
}

static int open_file(const struct options *options, struct workload *workload)
{
    bool made = options->path == NULL;
    int fd = options->path == NULL ? open_nameless() : open_named(options->path, &made);
    if (fd < 0) {
        return -1;
    }
    struct stat about;
    int result = -1;
    if (fstat(fd, &about) < 0 || (!S_ISREG(about.st_mode) && !S_ISBLK(about.st_mode))) {
        complain("%s is neither a file nor a block device; give another --path", name_of(options));
    } else if (make_full(options, fd, &about) < 0) {
        if (made && options->path != NULL) {
            unlink(options->path);
        }
    } else {
        result = open_for_ops(options, workload, fd);
    }
    close(fd);
    return result;
}

static int make_buffers(struct workload *workload)
{
    size_t length = (size_t)workload->depth * workload->block;
    if (posix_memalign((void **)&workload->buffers, 4096, length) != 0) {
        workload->buffers = NULL;
        complain("no memory for %u buffers of %u bytes; give a smaller --depth or --block",
                 workload->depth, workload->block);
        return -1;
    }
    fill_data(workload->buffers, length, 1);
    return 0;
}

int workload_open(const struct options *options, struct workload *ret_workload)
{
    enum access access = options->access;
    struct workload workload = {
        .job = options->job,
        .fake_enter = options->fake_enter,
        .depth = options->depth != 0 ? options->depth : 32,
        .workers = options->workers,
        .fd = -1,
        .write = access == ACCESS_RANDWRITE || access == ACCESS_WRITE || access == ACCESS_RANDRW,
        .mixed = access == ACCESS_RANDRW,
        .random = access != ACCESS_READ && access != ACCESS_WRITE,
        .direct = options->direct,
        .block = options->block,
        .blocks = options->size / options->block,
        .tcp = options->tcp,
        .client_spin = options->client_spin,
        .pin = options->pin,
        .listener = -1,
        .stop_fd = -1,
    };
    if (workload.job == JOB_ECHO) {
        workload.size = (uint32_t)options->size;
        workload.depth = options->connections;
        if (echo_raise_limit(options) < 0) {
            return -1;
        }
    }
    workload.state = workload.random ? 0x9e3779b97f4a7c15u : 0;
    if (workload.job == JOB_FILE) {
        if (workload.blocks > UINT32_MAX) {
            complain("--size holds more than 2^32 blocks; give a larger --block");
            return -1;
        }
        if (make_buffers(&workload) < 0) {
            return -1;
        }
        workload.fd = open_file(options, &workload);
        if (workload.fd < 0) {
            free(workload.buffers);
            return -1;
        }
    }
    *ret_workload = workload;
    return 0;
}

void workload_close(struct workload *workload)
{
    if (workload->job == JOB_FILE) {
        close(workload->fd);
        free(workload->buffers);
    }
}

double workload_resident(const struct workload *workload)
{
    size_t size = (size_t)(workload->blocks * workload->block);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (size + page - 1) / page;
    unsigned char *map = malloc(pages);
    void *mapping = mmap(NULL, size, PROT_READ, MAP_SHARED, workload->fd, 0);
    size_t resident = 0;
    if (map != NULL && mapping != MAP_FAILED && mincore(mapping, size, map) == 0) {
        for (size_t i = 0; i < pages; i++) {
            resident += map[i] & 1;
        }
    }
    if (mapping != MAP_FAILED) {
        munmap(mapping, size);
    }
    free(map);
    return (double)resident / (double)pages;
}

double workload_warm(const struct workload *workload)
{
    double share = workload_resident(workload);
    char *chunk = malloc(CHUNK);
    for (int attempt = 0; share < 1 && attempt < 3 && chunk != NULL; attempt++) {
        uint64_t size = workload->blocks * workload->block;
        uint64_t at = 0;
        ssize_t got = 1;
        while (at < size && got > 0 && !interrupted) {
            got = pread(workload->fd, chunk, CHUNK, (off_t)at);
            at += got > 0 ? (uint64_t)got : 0;
        }
        share = workload_resident(workload);
    }
    free(chunk);
    return share;
}
