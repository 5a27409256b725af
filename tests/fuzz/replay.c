/* SPDX-License-Identifier: MIT */
/*
 * replay.c: carries out the inputs that are kept, each twice, in a process of its own; one that
 * fails again, as lines to read. replay [--loud] FILE|FOLDER...
 */
#include "input.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned inputs;
static unsigned failures;

static void replay_here(const char *path)
{
    uint8_t *bytes = malloc(fuzz_input_max);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 || !bytes ? -1 : read(fd, bytes, fuzz_input_max);
    if (size < 0) {
        perror(path);
        exit(1);
    }
    close(fd);
    uint64_t hash = fuzz_run(bytes, (size_t)size);
    if (!fuzz_loud && fuzz_run(bytes, (size_t)size) != hash) {
        fputs("the same input, another run\n", stderr);
        exit(1);
    }
    free(bytes);
}

/* Whether it passes. */
static bool replay_apart(const char *path, bool loud)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        fuzz_loud = loud;
        replay_here(path);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        exit(1);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void replay(const char *path, bool loud)
{
    inputs++;
    if (!replay_apart(path, loud)) {
        failures++;
        fprintf(stderr, "%s fails:\n", path);
        if (!loud) {
            replay_apart(path, true);
        }
    }
}

static void replay_folder(const char *folder, bool loud)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (entries[i]->d_name[0] != '.' &&
            snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name) < (int)sizeof path) {
            replay(path, loud);
        }
        free(entries[i]);
    }
    if (count < 0) {
        perror(folder);
        exit(1);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    bool loud = false;
    for (int i = 1; i < argc; i++) {
        struct stat status;
        if (strcmp(argv[i], "--loud") == 0) {
            loud = true;
        } else if (stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode)) {
            replay_folder(argv[i], loud);
        } else {
            replay(argv[i], loud);
        }
    }
    printf("%u inputs, %u failed\n", inputs, failures);
    return failures > 0 || inputs == 0;
}
