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
#include <time.h>

#include "top_draw.h"
#include "top_fetch.h"
#include "top_ops.h"
#include "top_options.h"
#include "top_screen.h"

#define PAGE "/json?interval=1"
#define NS_A_SECOND 1e9
#define KEYS_NS 20000000u /* how long keys are waited for between two looks for an answer */
#define HEIGHT_LOW 10     /* lines; in fewer there may be no room for ops */
#define OPS_PRINTED 20    /* where there is no window to fill */

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

/* 0, and the old one is freed; or as top_fetch(), and why in ret_why. */
static int sample_take(struct sample *sample, const char *path, const struct top_patience *patience,
                       char *ret_why, size_t why_size)
{
    struct sample taken = {0};
    json_error_t error;
    int r = top_fetch(path, PAGE, patience, &taken.page, ret_why, why_size);
    if (r < 0) {
        return r;
    }
    taken.document = json_loadb(taken.page.body, taken.page.size, 0, &error);
    if (!taken.document || !top_is_sound(taken.document)) {
        snprintf(ret_why, why_size, "%s: who listens there is no endpoint of weir: %s", path,
                 taken.document ? "members are missing" : error.text);
        sample_free(&taken);
        return -EPROTO;
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
        top_draw_loops(&text, &(struct top_view){
                                  .document = sample->document,
                                  .path = options->path,
                                  .pid = sample->page.pid,
                                  .now = time(NULL),
                              });
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

/* What is on it: the last look that came to something, and what has become of the service since. */
struct live {
    struct top_screen screen;
    const struct top_options *options;
    bool styled;
    struct sample sample;
    time_t seen;       /* when the sample was taken; 0: there is none */
    uint64_t asked_ns; /* the first look without an answer since; 0: all is well */
    int error;         /* as top_fetch(), of the last look; 0: it is waited for still */
    time_t gone;       /* since when nobody was there; 0: somebody is */
    uint64_t shown_ns;
    bool quit;
    char why[1024]; /* of the last look that failed */
};

static const char *clock_text(time_t at, char *buffer, size_t size)
{
    struct tm local;
    buffer[0] = '\0';
    if (localtime_r(&at, &local)) {
        strftime(buffer, size, "%H:%M:%S", &local);
    }
    return buffer;
}

/* NULL: none. */
static const char *trouble_of(const struct live *live, char *buffer, size_t size)
{
    char clock[16];
    uint64_t silent_s = live->asked_ns ? (top_now() - live->asked_ns) / (uint64_t)NS_A_SECOND : 0;
    if (live->gone != 0) {
        snprintf(buffer, size, "gone since %s, waiting for it to come back",
                 clock_text(live->gone, clock, sizeof clock));
    } else if (live->error != 0 && live->error != -ETIMEDOUT) {
        return live->why;
    } else if (silent_s == 0) {
        return NULL;
    } else {
        int used =
            snprintf(buffer, size, "no answer for %jus: is the process stopped, or without a CPU?",
                     (uintmax_t)silent_s);
        if (live->seen != 0) {
            snprintf(buffer + used, size - (size_t)used, " (last seen %s)",
                     clock_text(live->seen, clock, sizeof clock));
        }
    }
    return buffer;
}

/* The ops get a third of the window at least, and all that loops and tasks leave. */
static void show(struct live *live)
{
    struct top_screen *screen = &live->screen;
    struct top_text loops = {.width = screen->width, .styled = live->styled};
    struct top_text ops = {.width = screen->width, .styled = live->styled};
    char trouble[256];
    struct top_view view = {
        .document = live->sample.document,
        .path = live->options->path,
        .pid = live->sample.page.pid,
        .now = time(NULL),
        .trouble = trouble_of(live, trouble, sizeof trouble),
        .hint = screen->has_keys ? "q ends" : NULL,
    };
    unsigned least = screen->height / 3;
    if (screen->height >= HEIGHT_LOW && least <= TOP_OPS_TITLES) {
        least = TOP_OPS_TITLES + 1;
    }
    top_draw_loops(&loops, &view);
    unsigned left = loops.lines < screen->height ? screen->height - loops.lines : 0;
    unsigned lines = left > least ? left : least;
    if (view.document && lines > TOP_OPS_TITLES) {
        top_draw_ops(&ops, view.document, lines - TOP_OPS_TITLES);
    }
    if (loops.lines + ops.lines > screen->height) {
        view.lines_max = screen->height - ops.lines;
        top_free(&loops);
        top_draw_loops(&loops, &view);
    }
    top_screen_show(screen, &loops, &ops);
    top_free(&loops);
    top_free(&ops);
    live->shown_ns = top_now();
}

/* While no answer comes, the screen is the user's all the same. */
static bool go_on(void *context)
{
    struct live *live = context;
    enum top_event event = top_screen_wait(&live->screen, top_now() + KEYS_NS);
    live->quit = event == TOP_QUIT;
    bool is_late = top_now() >= live->shown_ns + (uint64_t)NS_A_SECOND && live->asked_ns != 0 &&
                   top_now() >= live->asked_ns + (uint64_t)NS_A_SECOND;
    if (event == TOP_RESIZED || (event == TOP_NOTHING && is_late)) {
        show(live);
    }
    return !live->quit;
}

static void look(struct live *live)
{
    const struct top_patience patience = {go_on, live};
    if (live->asked_ns == 0) {
        live->asked_ns = top_now();
    }
    int r = sample_take(&live->sample, live->options->path, &patience, live->why, sizeof live->why);
    live->error = r;
    if (r == 0) {
        live->seen = time(NULL);
        live->asked_ns = 0;
        live->gone = 0;
    } else if (r == -ECONNREFUSED) {
        live->gone = live->gone ? live->gone : time(NULL);
    } else if (r == -ETIMEDOUT && live->gone) { /* it is back, but silent */
        live->gone = 0;
        live->asked_ns = top_now();
    }
}

/* Ends with 1 where nothing could be shown: later the service may come back. */
static int run_screen(struct live *live)
{
    enum top_event event = TOP_NOTHING;
    uint64_t next_ns = 0;
    while (event != TOP_QUIT) {
        if (event == TOP_NOTHING) {
            next_ns = top_now() + (uint64_t)(live->options->interval_s * NS_A_SECOND);
            look(live);
            if (live->quit || live->seen == 0) {
                break;
            }
        }
        show(live);
        event = top_screen_wait(&live->screen, next_ns);
    }
    bool failed = live->seen == 0 && !live->quit;
    sample_free(&live->sample);
    top_screen_close(&live->screen);
    return failed ? complain(live->why) : 0;
}

int main(int argc, char **argv)
{
    struct top_options options;
    const char *no_color = getenv("NO_COLOR");
    struct live live = {.options = &options, .styled = !no_color || no_color[0] == '\0'};
    top_options_parse(argc, argv, &options);
    if (!options.once && !options.json && top_screen_open(&live.screen) == 0) {
        return run_screen(&live);
    }
    return print_all(&options);
}
