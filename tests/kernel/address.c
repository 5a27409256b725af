/* SPDX-License-Identifier: MIT */
/* address.c: where an endpoint's socket appears, and what it leaves alone. */
#include "endpoint_check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATH_MAX_BYTES 107
#define STARTERS 8
#define ROUNDS 60
#define NOBODY 65534

static struct weir_endpoint *const untouched = (struct weir_endpoint *)0x5a;

static int try_at(const char *path, uint32_t mode, struct weir_endpoint **ret_endpoint)
{
    return weir_endpoint_open(&(struct weir_endpoint_options){.path = path, .mode = mode},
                              ret_endpoint);
}

/* An endpoint of this process may still have to hang up on who has looked whether it lives. */
static void check_fds_are(size_t fds)
{
    for (int i = 0; i < 500 && check_fd_count() != fds; i++) {
        usleep(10000);
    }
    CHECK_EQUAL(check_fd_count(), fds);
}

/* No endpoint opens there, and what is there is what was there. */
static void check_refused(const char *path, int error)
{
    struct stat before = {0};
    struct stat after = {0};
    struct weir_endpoint *endpoint = untouched;
    size_t fds = check_fd_count();
    int was = lstat(path, &before);
    CHECK_EQUAL(try_at(path, 0, &endpoint), error);
    CHECK(endpoint == untouched);
    CHECK_EQUAL(lstat(path, &after), was);
    CHECK_EQUAL(after.st_ino, before.st_ino);
    CHECK_EQUAL(after.st_mode, before.st_mode);
    check_fds_are(fds);
}

static int socket_at(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path));
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void make_file(const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
}

static void an_endpoint_that_makes_no_sense_is_refused(void)
{
    char path[PATH_MAX_BYTES + 2];
    struct weir_endpoint *endpoint = untouched;
    endpoint_enter_folder();
    struct weir_endpoint_options options = {.path = "s", .mode = 01600};
    CHECK_EQUAL(weir_endpoint_open(NULL, &endpoint), -EINVAL);
    CHECK_EQUAL(weir_endpoint_open(&options, NULL), -EINVAL);
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), -EINVAL);
    options = (struct weir_endpoint_options){.path = "s", .loops_max = 65537};
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), -EINVAL);
    options = (struct weir_endpoint_options){.path = "s", .tasks_max = 65537};
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), -EINVAL);
    CHECK(endpoint == untouched);
    check_refused("", -EINVAL);
    check_refused("none/s", -ENOENT);
    check_refused("./", -ENOTSOCK);
    check_refused(".", -ENOTSOCK);
    make_file("file");
    check_refused("file/s", -ENOTDIR);
    CHECK_EQUAL(unlink("file"), 0);
    CHECK_EQUAL(weir_endpoint_close(NULL), 0);

    memset(path, 'x', sizeof path);
    path[PATH_MAX_BYTES + 1] = '\0';
    check_refused(path, -ENAMETOOLONG);
    path[PATH_MAX_BYTES] = '\0'; /* the longest */
    CHECK_EQUAL(weir_endpoint_close(endpoint_open_at(path)), 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint_open_at("s")), 0); /* the shortest */
    endpoint_leave_folder();
}

static void a_socket_has_the_bits_asked_for_whatever_the_umask(void)
{
    static const struct {
        uint32_t asked;
        mode_t got;
    } cases[] = {{0, 0600}, {0660, 0660}, {0777, 0777}, {0600, 0600}};
    struct stat status;
    endpoint_enter_folder();
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        struct weir_endpoint *endpoint;
        mode_t mask = i % 2 ? 0777 : 0;
        umask(mask);
        CHECK_EQUAL(try_at("s", cases[i / 2].asked, &endpoint), 0);
        CHECK_EQUAL(umask(022), mask);
        CHECK_EQUAL(lstat("s", &status), 0);
        CHECK(S_ISSOCK(status.st_mode));
        CHECK_EQUAL(status.st_mode & 07777, cases[i / 2].got);
        CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    }
    endpoint_leave_folder();
}

static void a_socket_that_nobody_listens_to_is_replaced(void)
{
    size_t size;
    endpoint_enter_folder();
    size_t fds = check_fd_count();
    int fd = socket_at("s", SOCK_STREAM);
    CHECK_EQUAL(listen(fd, 1), 0);
    check_refused("s", -EADDRINUSE); /* its owner lives */
    close(fd);
    struct weir_endpoint *endpoint = endpoint_open_at("s");
    CHECK_EQUAL(endpoint_ask("s", "/", &size), 200);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(check_fd_count(), fds);
    endpoint_leave_folder();
}

static void what_somebody_uses_is_left_alone(void)
{
    endpoint_enter_folder();
    struct weir_endpoint *endpoint = endpoint_open_at("s");
    check_refused("s", -EADDRINUSE);
    CHECK_EQUAL(symlink("s", "link"), 0);
    check_refused("link", -ENOTSOCK);
    CHECK_EQUAL(unlink("link"), 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);

    int fd = socket_at("s", SOCK_STREAM); /* one whose backlog is full */
    CHECK_EQUAL(listen(fd, 0), 0);
    int client = endpoint_connect("s");
    CHECK(client >= 0);
    check_refused("s", -EADDRINUSE);
    close(client);
    close(fd);
    CHECK_EQUAL(unlink("s"), 0);

    fd = socket_at("s", SOCK_DGRAM);
    check_refused("s", -EADDRINUSE);
    close(fd);
    CHECK_EQUAL(unlink("s"), 0);
    make_file("s");
    check_refused("s", -ENOTSOCK);
    CHECK_EQUAL(unlink("s"), 0);
    endpoint_leave_folder();
}

static void a_name_beside_it_that_is_taken_does_no_harm(void)
{
    endpoint_enter_folder();
    make_file("s.soc~");
    make_file("s.soc%");
    struct weir_endpoint *endpoint = endpoint_open_at("s.sock");
    CHECK_EQUAL(access("s.sock", F_OK), 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(unlink("s.soc~"), 0);
    CHECK_EQUAL(unlink("s.soc%"), 0);
    endpoint_leave_folder();
}

static void close_removes_its_own_socket_and_no_other(void)
{
    char folder[64];
    endpoint_enter_folder();
    CHECK(getcwd(folder, sizeof folder) != NULL);
    struct weir_endpoint *endpoint = endpoint_open_at("s");
    CHECK_EQUAL(unlink("s"), 0);
    make_file("s");
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(unlink("s"), 0); /* it was there still */

    endpoint = endpoint_open_at("s");
    CHECK_EQUAL(unlink("s"), 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);

    endpoint = endpoint_open_at("s");
    CHECK_EQUAL(chdir("/"), 0); /* where no "s" is */
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(chdir(folder), 0);
    CHECK_EQUAL(access("s", F_OK), -1);
    endpoint_leave_folder();
}

/* Holds a socket there, if it gets it, until all have tried. Exit code: whether it did. */
static void start_one(pthread_barrier_t *barrier)
{
    struct weir_endpoint *endpoint;
    pthread_barrier_wait(barrier);
    int r = try_at("s", 0, &endpoint);
    pthread_barrier_wait(barrier);
    if (r == 0) {
        size_t size;
        CHECK_EQUAL(endpoint_ask("s", "/", &size), 200);
        CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
        _exit(10);
    }
    CHECK_EQUAL(r, -EADDRINUSE);
    _exit(11);
}

static void of_many_that_start_at_once_one_gets_the_place(void)
{
    pthread_barrier_t *barrier =
        mmap(NULL, sizeof *barrier, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_barrierattr_t shared;
    CHECK(barrier != MAP_FAILED);
    CHECK_EQUAL(pthread_barrierattr_init(&shared), 0);
    CHECK_EQUAL(pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED), 0);
    CHECK_EQUAL(pthread_barrier_init(barrier, &shared, STARTERS), 0);
    endpoint_enter_folder();
    for (int round = 0; round < ROUNDS; round++) {
        pid_t children[STARTERS];
        int winners = 0;
        if (round % 2) {
            close(socket_at("s", SOCK_STREAM)); /* one to be replaced */
        }
        for (int i = 0; i < STARTERS; i++) {
            children[i] = fork();
            CHECK(children[i] >= 0);
            if (children[i] == 0) {
                start_one(barrier);
            }
        }
        for (int i = 0; i < STARTERS; i++) {
            int code = check_wait(children[i]);
            CHECK(code == 10 || code == 11);
            winners += code == 10;
        }
        CHECK_EQUAL(winners, 1);
    }
    endpoint_leave_folder();
}

/* --- what is not to be had -------------------------------------------------------------------- */

static void be_without_threads(void *argument)
{
    (void)argument;
    if (getuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0) {
        check_skip("no limit of threads for root, and it may not become another: %s",
                   strerror(errno));
    }
    CHECK_EQUAL(setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 0}), 0);
    check_refused("s", -EAGAIN);
}

static void without_fds_or_threads_nothing_is_left_behind(void)
{
    struct weir_endpoint *endpoint = untouched;
    struct rlimit most;
    size_t fds = check_fd_count();
    int r = -EMFILE;
    endpoint_enter_folder();
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &most), 0);
    for (rlim_t more = 0; r == -EMFILE; more++) {
        struct rlimit limit = {.rlim_cur = fds + more, .rlim_max = most.rlim_max};
        CHECK(more < 8);
        CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
        r = try_at("s", 0, &endpoint);
        CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &most), 0);
        CHECK((r == 0 && more > 0) || (endpoint == untouched && access("s", F_OK) < 0));
        CHECK_EQUAL(check_fd_count() > fds, r == 0);
    }
    CHECK_EQUAL(r, 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);

    CHECK_EQUAL(chmod(".", 0777), 0);
    check_in_child(be_without_threads, NULL);
    endpoint_leave_folder();
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(an_endpoint_that_makes_no_sense_is_refused),
        CHECK_TEST(a_socket_has_the_bits_asked_for_whatever_the_umask),
        CHECK_TEST(a_socket_that_nobody_listens_to_is_replaced),
        CHECK_TEST(what_somebody_uses_is_left_alone),
        CHECK_TEST(a_name_beside_it_that_is_taken_does_no_harm),
        CHECK_TEST(close_removes_its_own_socket_and_no_other),
        CHECK_TEST(of_many_that_start_at_once_one_gets_the_place),
        CHECK_TEST(without_fds_or_threads_nothing_is_left_behind),
    };
    check_guard(150);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
