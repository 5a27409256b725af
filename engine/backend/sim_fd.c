/* SPDX-License-Identifier: MIT */
/* sim_fd.c: a world's open files and its table of fds. The lowest free number is given. */
#include "sim.h"

#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_PATH | O_DIRECTORY)

static struct weir_sim_fd *slot_of(const struct weir_sim *sim, int fd)
{
    if (fd < WEIR_SIM_FD_FIRST || (uint32_t)(fd - WEIR_SIM_FD_FIRST) >= sim->fds_max) {
        return NULL;
    }
    struct weir_sim_fd *slot = &sim->fds[fd - WEIR_SIM_FD_FIRST];
    return slot->file ? slot : NULL;
}

struct weir_sim_file *weir_sim_file_of(const struct weir_sim *sim, int fd)
{
    const struct weir_sim_fd *slot = slot_of(sim, fd);
    return slot ? slot->file : NULL;
}

int weir_sim_may_open(const struct weir_sim *sim)
{
    return sim->fds_open >= sim->plan.fds_max ? -EMFILE : 0;
}

int weir_sim_file_number(struct weir_sim *sim, struct weir_sim_file *file, int flags)
{
    uint32_t number = 0;
    while (sim->fds[number].file) {
        number++;
    }
    sim->fds[number] = (struct weir_sim_fd){
        .file = file,
        .flags = flags & O_CLOEXEC ? FD_CLOEXEC : 0,
    };
    sim->fds_open++;
    file->holds++;
    return WEIR_SIM_FD_FIRST + (int)number;
}

static void look(struct weir_sim *sim, struct weir_happening *happening)
{
    weir_sim_try_waiting(sim, WEIR_CONTAINER(happening, struct weir_sim_file, look));
}

int weir_sim_file_open(struct weir_sim *sim, enum weir_sim_file_kind kind, int flags,
                       struct weir_sim_file **ret_file)
{
    struct weir_sim_file *file = weir_arena_take(&sim->arena, sizeof *file);
    if (!file) {
        return -ENOMEM;
    }
    file->look.happen = look;
    file->serial = ++sim->files;
    file->kind = kind;
    file->flags = flags & OPEN_FLAGS;
    *ret_file = file;
    return weir_sim_file_number(sim, file, flags);
}

void weir_sim_file_name(struct weir_sim *sim, struct weir_sim_file *file, const char *path)
{
    size_t size = strlen(path) + 1;
    file->path = weir_arena_take(&sim->arena, size);
    if (file->path) {
        file->path_size = size;
        memcpy(file->path, path, size);
    }
}

void weir_sim_file_hold(struct weir_sim_file *file)
{
    file->holds++;
}

static void free_file(struct weir_sim *sim, struct weir_sim_file *file)
{
    weir_sim_send_away(sim, file);
    weir_sim_unplan(sim, &file->look);
    if (file->stream) {
        file->stream->user = NULL;
        weir_stream_close(file->stream,
                          &(struct weir_when){
                              .now_ns = sim->now_ns,
                              .way_ns = weir_sim_draw(sim, WEIR_SIM_DIE_TIME, &sim->plan.network),
                          });
    }
    if (file->inode) {
        weir_disk_release(sim->disk, file->inode);
    }
    weir_arena_give(&sim->arena, file->path, file->path_size);
    weir_arena_give(&sim->arena, file, sizeof *file);
}

void weir_sim_file_release(struct weir_sim *sim, struct weir_sim_file *file)
{
    file->holds--;
    if (file->holds == 0) {
        free_file(sim, file);
    }
}

int weir_sim_file_close(struct weir_sim *sim, int fd)
{
    struct weir_sim_fd *slot = slot_of(sim, fd);
    if (!slot) {
        return -EBADF;
    }
    struct weir_sim_file *file = slot->file;
    *slot = (struct weir_sim_fd){0};
    sim->fds_open--;
    weir_sim_file_release(sim, file);
    return 0;
}

void weir_sim_file_expect(struct weir_sim *sim, struct weir_sim_file *file)
{
    if (!file->waiting.head || !file->stream) {
        return;
    }
    uint64_t next_ns = weir_stream_next_ns(file->stream, sim->now_ns);
    bool planned = file->look.sequence != 0;
    if (next_ns != UINT64_MAX && (!planned || next_ns < file->look.at_ns)) {
        weir_sim_plan(sim, &file->look, next_ns);
    }
}

void weir_sim_stream_changed(void *context, struct weir_stream *stream)
{
    struct weir_sim *sim = context;
    struct weir_sim_file *file = stream->user;
    if (!file || !file->waiting.head) {
        return;
    }
    if (file->look.sequence == 0 || file->look.at_ns > sim->now_ns) {
        weir_sim_plan(sim, &file->look, sim->now_ns);
    }
}

/* The disk has dropped its holds itself. */
void weir_sim_file_drop_all(struct weir_sim *sim)
{
    for (uint32_t i = 0; i < sim->fds_max; i++) {
        struct weir_sim_file *file = sim->fds[i].file;
        sim->fds[i] = (struct weir_sim_fd){0};
        if (file) {
            file->inode = NULL;
            weir_sim_file_release(sim, file);
        }
    }
    sim->fds_open = 0;
}
