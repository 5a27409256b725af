/* SPDX-License-Identifier: MIT */
/*
 * perf/top.c: weir-top: what the loops of a running service do, by what it says at the socket of
 * its endpoint (weir/endpoint.h).
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "top_draw.h"
#include "top_fetch.h"
#include "top_options.h"
#include "top_screen.h"

#define PAGE "/json?interval=1"
#define NS_A_SECOND 1e9
#define OPS_PRINTED 20 /* where there is no window to fill */

/* One look at the service. */
struct sample {
    struct top_page page;
    json_t *document;
};

static void sample_free(struct sample *sample)
{
    free(sample->page.body);
    json_decref(sample->document);
    *sample = (struct sample){0};
}

/* 0, and the old one is freed; or -1, and why in ret_why. */
static int sample_take(struct sample *sample, const char *path, bool (*is_over)(void),
                       char *ret_why, size_t why_size)
{
    struct sample taken = {0};
    json_error_t error;
    if (top_fetch(path, PAGE, is_over, &taken.page, ret_why, why_size) < 0) {
        return -1;
    }
    taken.document = json_loadb(taken.page.body, taken.page.size, 0, &error);
    if (!taken.document || !top_is_sound(taken.document)) {
        snprintf(ret_why, why_size, "%s: who listens there is no endpoint of weir: %s", path,
                 taken.document ? "members are missing" : error.text);
        sample_free(&taken);
        return -1;
    }
    sample_free(sample);
    *sample = taken;
    return 0;
}

static int complain(const char *why)
{
    fprintf(stderr, "weir-top: %s\n", why);
    return 1;
}

/* --- printing --------------------------------------------------------------------------------- */

static int print_sample(const struct sample *sample, const struct top_options *options)
{
    if (options->json) {
        fwrite(sample->page.body, 1, sample->page.size, stdout);
    } else {
        struct top_text text = {0};
        top_draw_loops(&text, sample->document, options->path, sample->page.pid);
        top_draw_ops(&text, sample->document, OPS_PRINTED);
        fwrite(text.bytes, 1, text.size, stdout);
        top_free(&text);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "weir-top: cannot write to standard output: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}

/* The first look only begins the interval. */
static int print_all(const struct top_options *options)
{
    struct sample sample = {0};
    char why[1024];
    int code = 0;
    if (sample_take(&sample, options->path, NULL, why, sizeof why) < 0) {
        return complain(why);
    }
    do {
        uint64_t until_ns = top_now() + (uint64_t)(options->interval_s * NS_A_SECOND);
        while (top_now() < until_ns) {
            top_wait(-1, 0, until_ns);
        }
        if (sample_take(&sample, options->path, NULL, why, sizeof why) < 0) {
            code = complain(why);
        } else {
            code = print_sample(&sample, options);
            if (!options->once && !options->json) {
                putchar('\n');
            }
        }
    } while (code == 0 && !options->once);
    sample_free(&sample);
    return code;
}

/* --- the screen ------------------------------------------------------------------------------- */

/* The ops get a third of the window at least, and all that loops and tasks leave. */
static void show(struct top_screen *screen, const struct sample *sample,
                 const struct top_options *options, bool styled)
{
    struct top_text loops = {.width = screen->width, .styled = styled};
    struct top_text ops = {.width = screen->width, .styled = styled};
    unsigned least = screen->height / 3;
    top_draw_loops(&loops, sample->document, options->path, sample->page.pid);
    unsigned left = loops.lines < screen->height ? screen->height - loops.lines : 0;
    unsigned lines = left > least ? left : least;
    top_draw_ops(&ops, sample->document, lines > 2 ? lines - 2 : 0);
    top_screen_show(screen, &loops, &ops);
    top_free(&loops);
    top_free(&ops);
}

static int run_screen(struct top_screen *screen, const struct top_options *options)
{
    const char *no_color = getenv("NO_COLOR");
    bool styled = !no_color || no_color[0] == '\0';
    struct sample sample = {0};
    char why[1024] = "";
    enum top_event event = TOP_NOTHING;
    uint64_t next_ns = 0;
    while (event != TOP_QUIT) {
        if (event == TOP_NOTHING) {
            next_ns = top_now() + (uint64_t)(options->interval_s * NS_A_SECOND);
            if (sample_take(&sample, options->path, top_screen_is_over, why, sizeof why) < 0) {
                break;
            }
        }
        show(screen, &sample, options, styled);
        event = top_screen_wait(screen, next_ns);
    }
    sample_free(&sample);
    top_screen_close(screen);
    return event == TOP_QUIT || top_screen_is_over() ? 0 : complain(why);
}

int main(int argc, char **argv)
{
    struct top_options options;
    struct top_screen screen;
    top_options_parse(argc, argv, &options);
    if (!options.once && !options.json && top_screen_open(&screen) == 0) {
        return run_screen(&screen, &options);
    }
    return print_all(&options);
}
