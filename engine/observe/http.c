/* SPDX-License-Identifier: MIT */
#include <engine/base/clock.h>
#include <engine/observe/http.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define BODY_FIRST 16384
#define ACCEPT_PAUSE_NS (100 * WEIR_MS)
#define DRAIN_ROUNDS 64 /* 256 KiB of what nobody asked for, read before a connection is closed */

enum { POLL_END, POLL_LISTENER, POLL_CONNECTIONS };

/* --- requests and answers --------------------------------------------------------------------- */

int weir_http_append(void *context, const char *text, size_t size)
{
    struct weir_http_answer *answer = context;
    if (size > answer->capacity - answer->size) {
        size_t capacity = answer->capacity ? answer->capacity : BODY_FIRST;
        while (capacity < answer->size + size) {
            capacity *= 2;
        }
        char *body = realloc(answer->body, capacity);
        if (!body) {
            return -ENOMEM;
        }
        answer->body = body;
        answer->capacity = capacity;
    }
    memcpy(answer->body + answer->size, text, size);
    answer->size += size;
    return 0;
}

void weir_http_say(struct weir_http_answer *answer, unsigned status, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    size_t length = strlen(line);
    line[length++] = '\n';
    answer->status = status;
    answer->type = "text/plain; charset=utf-8";
    answer->size = 0;
    if (weir_http_append(answer, line, length) < 0) {
        answer->size = 0; /* the status must do */
    }
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = c ? strchr(digits, c | 0x20) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* From `text` up to '&' or its end. */
static int decode(const char *text, char *ret_value, size_t size)
{
    size_t used = 0;
    for (; *text && *text != '&'; text++) {
        char c = *text;
        if (c == '%') {
            int high = hex_digit(text[1]);
            int low = high < 0 ? -1 : hex_digit(text[2]);
            if (low < 0 || high + low == 0) {
                return -EINVAL;
            }
            c = (char)(high << 4 | low);
            text += 2;
        }
        if (used + 1 >= size) {
            return -EINVAL;
        }
        ret_value[used++] = c;
    }
    ret_value[used] = '\0';
    return 1;
}

int weir_http_parameter(const char *query, const char *name, char *ret_value, size_t size)
{
    size_t length = strlen(name);
    for (const char *at = query; at; at = strchr(at, '&')) {
        at += *at == '&';
        if (strncmp(at, name, length) == 0 && at[length] == '=') {
            return decode(at + length + 1, ret_value, size);
        }
    }
    return 0;
}

static const char *phrase_of(unsigned status)
{
    static const struct {
        unsigned status;
        const char *phrase;
    } phrases[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {431, "Request Header Fields Too Large"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++) {
        if (phrases[i].status == status) {
            return phrases[i].phrase;
        }
    }
    return "Internal Server Error";
}

/* Of an answer that is whole. Its length, which is not 0. */
static size_t write_head(const struct weir_http_answer *answer, char *ret_head, size_t size)
{
    unsigned status = answer->status ? answer->status : 200;
    int length = snprintf(ret_head, size,
                          "HTTP/1.0 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
                          "Connection: close\r\n\r\n",
                          status, phrase_of(status),
                          answer->type ? answer->type : "text/plain; charset=utf-8", answer->size,
                          status == 405 ? "Allow: GET, HEAD\r\n" : "");
    return (size_t)length;
}

/* Cuts the request line into its parts. NULL, or what is wrong with it. */
static const char *parse_request(char *line, struct weir_http_request *ret_request,
                                 unsigned *ret_status)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    *ret_status = 400;
    if (!version || strncmp(version + 1, "HTTP/1.", 7) != 0 || target[1] != '/') {
        return "give a line such as: GET /metrics HTTP/1.0";
    }
    *target++ = '\0';
    *version = '\0';
    bool head_only = strcmp(line, "HEAD") == 0;
    if (!head_only && strcmp(line, "GET") != 0) {
        *ret_status = 405;
        return "GET and HEAD only";
    }
    char *query = strchr(target, '?');
    if (query) {
        *query++ = '\0';
    }
    *ret_request = (struct weir_http_request){
        .head_only = head_only, .path = target, .query = query ? query : ""};
    return NULL;
}

/* --- a connection ----------------------------------------------------------------------------- */

/* shutdown, since a child of fork(2) may have a copy of the fd: the client must see the end all the
 * same. What it sent and nobody read would make it see a reset. */
static void hang_up(struct weir_http_connection *connection)
{
    char rest[4096];
    for (int i = 0; i < DRAIN_ROUNDS; i++) {
        if (recv(connection->fd, rest, sizeof rest, MSG_DONTWAIT) <= 0) {
            break;
        }
    }
    shutdown(connection->fd, SHUT_RDWR);
    close(connection->fd);
    free(connection->answer.body);
    connection->answer = (struct weir_http_answer){0};
    connection->fd = -1;
}

static void send_answer(struct weir_http_connection *connection)
{
    const struct weir_http_answer *answer = &connection->answer;
    while (connection->sent < connection->head_size + connection->body_size) {
        size_t of_head =
            connection->sent < connection->head_size ? connection->sent : connection->head_size;
        size_t of_body = connection->sent - of_head;
        struct iovec parts[] = {
            {connection->head + of_head, connection->head_size - of_head},
            {connection->body_size > 0 ? answer->body + of_body : NULL,
             connection->body_size - of_body},
        };
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = connection->body_size > 0 ? 2 : 1};
        ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            return;
        }
        if (sent < 0) {
            break;
        }
        connection->sent += (size_t)sent;
    }
    hang_up(connection);
}

static void begin_answer(struct weir_http_connection *connection, bool head_only)
{
    connection->body_size = head_only ? 0 : connection->answer.size;
    connection->head_size =
        write_head(&connection->answer, connection->head, sizeof connection->head);
    connection->sent = 0;
    send_answer(connection);
}

static void say_full(struct weir_http_answer *answer)
{
    weir_http_say(answer, 503, "%d connections are open: ask again", WEIR_HTTP_CONNECTIONS);
}

/* Making it may take long, and nobody is served meanwhile: that is no client's fault. */
static void answer_request(struct weir_http *http, struct weir_http_connection *connection)
{
    struct weir_http_request request = {0};
    unsigned status;
    uint64_t before_ns = weir_clock_monotonic();
    connection->request[strcspn(connection->request, "\r\n")] = '\0';
    const char *wrong = parse_request(connection->request, &request, &status);
    if (connection >= http->connections + WEIR_HTTP_CONNECTIONS) {
        say_full(&connection->answer);
    } else if (wrong) {
        weir_http_say(&connection->answer, status, "%s", wrong);
    } else {
        http->answerer(http->context, &request, &connection->answer);
    }
    uint64_t spent_ns = weir_clock_monotonic() - before_ns;
    for (size_t i = 0; i < WEIR_HTTP_PLACES; i++) {
        http->connections[i].deadline_ns += spent_ns;
    }
    begin_answer(connection, request.head_only);
}

/* Its lines end with CR LF, or LF alone; a NUL is no part of a request. */
static bool is_whole(const char *request)
{
    return strstr(request, "\r\n\r\n") != NULL || strstr(request, "\n\n") != NULL;
}

static void read_request(struct weir_http *http, struct weir_http_connection *connection)
{
    size_t space = WEIR_HTTP_REQUEST_MAX - connection->received;
    ssize_t got =
        recv(connection->fd, connection->request + connection->received, space, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got < 0 || (got == 0 && connection->received == 0)) {
        hang_up(connection);
        return;
    }
    connection->received += (size_t)got;
    connection->request[connection->received] = '\0';
    if (is_whole(connection->request)) {
        answer_request(http, connection);
    } else if (got == 0 || strlen(connection->request) < connection->received) {
        weir_http_say(&connection->answer, 400, "the request ends before its empty line");
        begin_answer(connection, false);
    } else if (connection->received == WEIR_HTTP_REQUEST_MAX) {
        weir_http_say(&connection->answer, 431, "a request is %d bytes at most",
                      WEIR_HTTP_REQUEST_MAX);
        begin_answer(connection, false);
    }
}

/* --- all of them ------------------------------------------------------------------------------ */

/* At once, whatever the others do: the answer fits into any socket's buffer. */
static void refuse(int fd)
{
    struct weir_http_connection connection = {.fd = fd};
    say_full(&connection.answer);
    begin_answer(&connection, false);
    if (connection.fd >= 0) {
        hang_up(&connection);
    }
}

static void welcome(struct weir_http *http, int fd)
{
    for (size_t i = 0; i < WEIR_HTTP_PLACES; i++) {
        struct weir_http_connection *connection = &http->connections[i];
        if (connection->fd < 0) {
            connection->fd = fd;
            connection->deadline_ns = weir_clock_monotonic() + WEIR_HTTP_PATIENCE_NS;
            connection->received = 0;
            connection->head_size = 0;
            return;
        }
    }
    refuse(fd);
}

static void accept_all(struct weir_http *http)
{
    for (int i = 0; i < WEIR_HTTP_CONNECTIONS; i++) { /* then it is the connections' turn */
        int fd = accept4(http->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(http, fd);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            /* No fd or no memory: who waits stays readable, and poll would never sleep. */
            http->accept_from_ns = errno == EAGAIN ? 0 : weir_clock_monotonic() + ACCEPT_PAUSE_NS;
            return;
        }
    }
}

static void expire(struct weir_http *http)
{
    uint64_t now_ns = weir_clock_monotonic();
    for (size_t i = 0; i < WEIR_HTTP_PLACES; i++) {
        struct weir_http_connection *connection = &http->connections[i];
        if (connection->fd >= 0 && connection->deadline_ns <= now_ns) {
            hang_up(connection);
        }
    }
}

/* Fills `polled`; how long poll may sleep, ms, or -1. */
static int prepare(const struct weir_http *http, struct pollfd *polled)
{
    uint64_t now_ns = weir_clock_monotonic();
    uint64_t first_ns = UINT64_MAX;
    bool pauses = http->accept_from_ns > now_ns;
    polled[POLL_LISTENER].fd = pauses ? -1 : http->listener;
    if (pauses) {
        first_ns = http->accept_from_ns;
    }
    for (size_t i = 0; i < WEIR_HTTP_PLACES; i++) {
        const struct weir_http_connection *connection = &http->connections[i];
        struct pollfd *of = &polled[POLL_CONNECTIONS + i];
        *of = (struct pollfd){.fd = connection->fd,
                              .events = connection->head_size > 0 ? POLLOUT : POLLIN};
        if (connection->fd >= 0 && connection->deadline_ns < first_ns) {
            first_ns = connection->deadline_ns;
        }
    }
    if (first_ns == UINT64_MAX) {
        return -1;
    }
    return first_ns <= now_ns ? 0 : (int)((first_ns - now_ns) / (uint64_t)WEIR_MS) + 1;
}

void weir_http_init(struct weir_http *http, int listener, weir_http_answerer *answerer,
                    void *context)
{
    *http = (struct weir_http){.listener = listener, .answerer = answerer, .context = context};
    for (size_t i = 0; i < WEIR_HTTP_PLACES; i++) {
        http->connections[i].fd = -1;
    }
}

void weir_http_serve(struct weir_http *http, int end)
{
    struct pollfd polled[POLL_CONNECTIONS + WEIR_HTTP_PLACES];
    polled[POLL_END] = (struct pollfd){.fd = end, .events = POLLIN};
    polled[POLL_LISTENER] = (struct pollfd){.events = POLLIN};
    for (;;) {
        int timeout_ms = prepare(http, polled);
        if (poll(polled, POLL_CONNECTIONS + WEIR_HTTP_PLACES, timeout_ms) < 0) {
            continue; /* EINTR of a debugger; ENOMEM passes */
        }
        if (polled[POLL_END].revents) {
            break;
        }
        for (size_t i = 0; i < WEIR_HTTP_PLACES; i++) {
            struct weir_http_connection *connection = &http->connections[i];
            if (connection->fd < 0 || polled[POLL_CONNECTIONS + i].revents == 0) {
                continue;
            }
            if (connection->head_size > 0) {
                send_answer(connection);
            } else {
                read_request(http, connection);
            }
        }
        expire(http);
        if (polled[POLL_LISTENER].revents) {
            accept_all(http);
        }
    }
    for (size_t i = 0; i < WEIR_HTTP_PLACES; i++) {
        if (http->connections[i].fd >= 0) {
            hang_up(&http->connections[i]);
        }
    }
}
