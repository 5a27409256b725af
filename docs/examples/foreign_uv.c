/* SPDX-License-Identifier: MIT */
/* foreign_uv SOURCE TARGET: weir inside a libuv loop. Both know errors as negative errnos. */
#include "guest.h"
#include <stdio.h>
#include <string.h>
#include <uv.h>

static uv_poll_t poll;
static uv_timer_t timer; /* something of the program's own */
static int result;
static unsigned ticks;

static void on_tick(uv_timer_t *handle)
{
    (void)handle;
    ticks++;
}

static void on_weir(uv_poll_t *handle, int status, int events)
{
    (void)events;
    result = status < 0 ? status : weir_loop_turn(handle->data, 0); /* never sleeps */
    if (result < 0 || guest_is_done()) {
        uv_close((uv_handle_t *)&poll, NULL); /* before the loop is closed, and its fd with it */
        uv_close((uv_handle_t *)&timer, NULL);
    }
}

static int host(uv_loop_t *uv, struct weir_loop *loop, char **files)
{
    int fd = weir_loop_fd(loop);
    result = fd < 0 ? fd : uv_poll_init(uv, &poll, fd);
    result = result < 0 ? result : guest_start(loop, files[0], files[1]);
    if (result < 0) {
        return result;
    }
    poll.data = loop;
    uv_poll_start(&poll, UV_READABLE, on_weir);
    uv_timer_init(uv, &timer);
    uv_timer_start(&timer, on_tick, 5, 5);
    weir_loop_turn(loop, 0); /* what was submitted outside a turn leaves */
    uv_run(uv, UV_RUN_DEFAULT);
    return result;
}

int main(int argc, char **argv)
{
    struct weir_loop *loop;
    if (argc != 3) {
        fprintf(stderr, "usage: foreign_uv SOURCE TARGET\n");
        return 2;
    }
    int r = weir_loop_open(NULL, &loop);
    r = r < 0 ? r : host(uv_default_loop(), loop, argv + 1);
    r = r < 0 ? r : guest_end();
    if (r < 0) {
        fprintf(stderr, "foreign_uv: %s\n", strerror(-r));
        return 1;
    }
    printf("ticks of the program's own clock: %u\n", ticks);
    uv_loop_close(uv_default_loop());
    return weir_loop_close(loop, WEIR_S, NULL) < 0;
}
