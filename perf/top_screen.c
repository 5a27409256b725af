/* SPDX-License-Identifier: MIT */
#include "top_screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "top_fetch.h"

#define ENTER "\033[?1049h\033[?25l" /* alternate screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP};

/* Handlers cannot be given anything: these, and what they need to know, are the process's. */
static volatile sig_atomic_t ended;
static volatile sig_atomic_t resized;
static volatile sig_atomic_t stopped;
static struct termios before;

static void on_signal(int signal)
{
    if (signal == SIGWINCH) {
        resized = 1;
    } else if (signal == SIGTSTP) {
        stopped = 1;
    } else {
        ended = 1;
    }
}

/* All of it, or as much as the terminal takes. */
static void write_all(const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes, size);
        if (written < 0 && errno == EAGAIN) {
            struct pollfd polled = {.fd = STDOUT_FILENO, .events = POLLOUT};
            poll(&polled, 1, 1000);
        } else if (written < 0 && errno != EINTR) {
            return; /* it has gone: SIGHUP says so too */
        } else if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        }
    }
}

static void measure(struct top_screen *screen)
{
    struct winsize size = {0};
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    screen->width = size.ws_col > 0 ? size.ws_col : 80;
    screen->height = size.ws_row > 0 ? size.ws_row : 24;
}

static void enter(struct top_screen *screen)
{
    if (screen->has_keys) {
        struct termios keys = before;
        keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        keys.c_cc[VMIN] = 1;
        keys.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    }
    write_all(ENTER, strlen(ENTER));
    measure(screen);
}

static void leave(const struct top_screen *screen)
{
    write_all(LEAVE, strlen(LEAVE));
    if (screen->has_keys) {
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    }
}

/* They are blocked but where top_wait() sleeps, so none comes between a look and the sleep. */
static void take_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        sigaddset(&set, signals[i]);
        sigaction(signals[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
}

int top_screen_open(struct top_screen *screen)
{
    const char *kind = getenv("TERM");
    if (!isatty(STDOUT_FILENO) || !kind || strcmp(kind, "dumb") == 0) {
        return -1;
    }
    *screen = (struct top_screen){.has_keys = tcgetattr(STDIN_FILENO, &before) == 0};
    screen->reads_keys = screen->has_keys;
    take_signals();
    enter(screen);
    return 0;
}

void top_screen_close(struct top_screen *screen)
{
    leave(screen);
}

/* --- showing ---------------------------------------------------------------------------------- */

static void add_lines(struct top_text *frame, const struct top_text *text, unsigned most)
{
    const char *at = text->bytes;
    for (unsigned line = 0; line < text->lines && line < most; line++) {
        const char *end = memchr(at, '\n', text->size - (size_t)(at - text->bytes));
        /* Cleared before: behind a line that fills the width, its last character would go. */
        top_append(frame, "\033[K", 3);
        top_append(frame, at, (size_t)(end - at));
        top_append(frame, "\r\n", 2);
        at = end + 1;
    }
}

/* The last line ends without going to a next one, by which the terminal would scroll. */
void top_screen_show(struct top_screen *screen, const struct top_text *text,
                     const struct top_text *bottom)
{
    struct top_text frame = {0};
    unsigned below = bottom->lines < screen->height ? bottom->lines : screen->height;
    top_append(&frame, "\033[H", 3);
    add_lines(&frame, text, screen->height - below);
    add_lines(&frame, bottom, below);
    if (frame.size >= 2) {
        frame.size -= 2;
    }
    top_append(&frame, "\033[J", 3);
    write_all(frame.bytes, frame.size);
    top_free(&frame);
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* As the shell expects of who is stopped: with its terminal as it was. */
static void stop(struct top_screen *screen)
{
    leave(screen);
    stopped = 0;
    raise(SIGSTOP);
    enter(screen);
}

/* True: q. */
static bool read_keys(struct top_screen *screen)
{
    char keys[32];
    ssize_t got = read(STDIN_FILENO, keys, sizeof keys);
    if (got <= 0) {
        screen->reads_keys = got < 0 && (errno == EINTR || errno == EAGAIN);
        return false;
    }
    return memchr(keys, 'q', (size_t)got) || memchr(keys, 'Q', (size_t)got);
}

bool top_screen_is_over(void)
{
    return ended;
}

enum top_event top_screen_wait(struct top_screen *screen, uint64_t until_ns)
{
    while (!ended) {
        if (stopped) {
            stop(screen);
            return TOP_RESIZED;
        }
        if (resized) {
            resized = 0;
            measure(screen);
            return TOP_RESIZED;
        }
        if (top_now() >= until_ns) {
            return TOP_NOTHING;
        }
        if (top_wait(screen->reads_keys ? STDIN_FILENO : -1, POLLIN, until_ns) &&
            read_keys(screen)) {
            return TOP_QUIT;
        }
    }
    return TOP_QUIT;
}
