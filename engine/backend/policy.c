/* SPDX-License-Identifier: MIT */
#include <engine/backend/choose.h>
#include <engine/backend/epoll.h>
#include <engine/backend/policy.h>
#include <engine/backend/sim.h>
#include <engine/backend/uring.h>
#include <engine/op/perform.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#define VARIABLE "WEIR_POLICY"
#define PROBE_DEPTH 4
#define CAP_SYS_ADMIN_BIT 21
#define KIND(kind) (1ULL << (kind))

/* What the reactor does without a worker whatever the fd. Not: a read, write, splice or close of a
 * file; an accept from a blocking listener. */
#define EPOLL_KINDS                                                                                \
    (KIND(WEIR_KIND_NOP) | KIND(WEIR_KIND_CONNECT) | KIND(WEIR_KIND_RECV) | KIND(WEIR_KIND_SEND) | \
     KIND(WEIR_KIND_RECVMSG) | KIND(WEIR_KIND_SENDMSG) | KIND(WEIR_KIND_SHUTDOWN) |                \
     KIND(WEIR_KIND_POLL) | KIND(WEIR_KIND_SIGNAL) | KIND(WEIR_KIND_CHILD))

static const struct weir_backend_table *table_of(enum weir_policy policy)
{
    return policy == WEIR_IO_URING ? &weir_uring_table : &weir_epoll_table;
}

static enum weir_policy policy_of(const struct weir_backend *backend)
{
    return backend->table == &weir_uring_table ? WEIR_IO_URING : WEIR_EPOLL;
}

/* --- who refuses ------------------------------------------------------------------------------ */

/* A number in a small file of /proc. */
static long number_in(const char *path, long otherwise)
{
    long value;
    FILE *file = fopen(path, "re");
    if (!file) {
        return otherwise;
    }
    value = fscanf(file, "%ld", &value) == 1 ? value : otherwise;
    fclose(file);
    return value;
}

/* What /proc says of this thread; both stay as they are where it does not. */
static void read_status(int *ret_seccomp_mode, uint64_t *ret_capabilities)
{
    char line[256];
    FILE *file = fopen("/proc/thread-self/status", "re");
    if (!file) {
        return;
    }
    while (fgets(line, sizeof line, file)) {
        unsigned long long capabilities;
        sscanf(line, "Seccomp: %d", ret_seccomp_mode);
        if (sscanf(line, "CapEff: %llx", &capabilities) == 1) {
            *ret_capabilities = capabilities;
        }
    }
    fclose(file);
}

/* Asked only about a refusal. */
static enum weir_cause classify(enum weir_policy policy, int error)
{
    struct utsname system = {0};
    struct rlimit memlock = {0};
    uint64_t capabilities = 0;
    uname(&system);
    getrlimit(RLIMIT_MEMLOCK, &memlock);
    long group = number_in("/proc/sys/kernel/io_uring_group", -1);
    struct weir_surroundings surroundings = {
        .release = system.release,
        .io_uring_disabled = (int)number_in("/proc/sys/kernel/io_uring_disabled", 0),
        .seccomp_mode = -1,
        .memlock_limited = memlock.rlim_cur != RLIM_INFINITY,
    };
    read_status(&surroundings.seccomp_mode, &capabilities);
    surroundings.io_uring_permitted =
        capabilities >> CAP_SYS_ADMIN_BIT & 1 || (group >= 0 && group_member((gid_t)group));
    return weir_policy_classify(policy, error, &surroundings);
}

/* --- what the system offers ------------------------------------------------------------------- */

static uint64_t native_kinds_of(struct weir_backend *backend)
{
    uint64_t kinds = KIND(WEIR_KIND_TIMEOUT); /* the loop's own */
    for (uint8_t kind = 0; kind < WEIR_KIND_COUNT; kind++) {
        kinds |= (uint64_t)weir_op_is_quick(&(struct weir_op){.kind = kind}) << kind;
    }
    return kinds | (policy_of(backend) == WEIR_IO_URING ? backend->in_memory : EPOLL_KINDS);
}

static void note_error(struct weir_probe *probe, enum weir_policy policy, int error)
{
    enum weir_cause cause = classify(policy, error);
    if (policy == WEIR_IO_URING) {
        probe->io_uring.error = error;
        probe->io_uring.cause = cause;
    } else {
        probe->epoll.error = error;
        probe->epoll.cause = cause;
    }
}

static void note_kinds(struct weir_probe *probe, enum weir_policy policy, uint64_t kinds)
{
    if (policy == WEIR_IO_URING) {
        probe->io_uring.native_kinds = kinds;
    } else {
        probe->epoll.native_kinds = kinds;
    }
}

/* As a table's open; and what a bug of this kernel spoils is left to the workers, if there are
 * any. */
static int open_table(enum weir_policy policy, const struct weir_options *options,
                      struct weir_facts *facts, struct weir_backend **ret_backend)
{
    struct utsname system;
    int r = table_of(policy)->open(options, facts, ret_backend);
    if (r == 0 && policy == WEIR_IO_URING && options->offload_workers != WEIR_NO_OFFLOAD &&
        uname(&system) == 0) {
        (*ret_backend)->in_memory &= ~weir_policy_kernel_bugs(system.release, system.machine).kinds;
    }
    return r;
}

/* Of one that has proved itself. */
static void note_features(struct weir_probe *probe, struct weir_backend *backend,
                          const struct weir_facts *facts)
{
    note_kinds(probe, policy_of(backend), native_kinds_of(backend));
    if (policy_of(backend) == WEIR_IO_URING) {
        probe->io_uring.ring_flags = facts->ring_flags;
        probe->io_uring.ring_features = facts->ring_features;
    } else {
        probe->epoll.has_pwait2 = weir_epoll_of(backend)->has_pwait2;
    }
}

/* Opens one as a loop does, has it prove itself, and closes it. */
static void try_out(struct weir_probe *probe, enum weir_policy policy)
{
    const struct weir_options options = {.depth = PROBE_DEPTH};
    struct weir_facts facts = {.depth_asked = PROBE_DEPTH};
    struct weir_counters counters = {0};
    struct weir_backend *backend;
    int r = open_table(policy, &options, &facts, &backend);
    if (r < 0) {
        note_error(probe, policy, r);
        return;
    }
    backend->counters = &counters;
    facts.workers_bounded = 0; /* 0: what loops of this thread have set stays */
    facts.workers_unbounded = 0;
    r = backend->table->adopt(backend, &facts);
    if (r < 0) {
        note_error(probe, policy, r);
    } else {
        note_features(probe, backend, &facts);
    }
    backend->table->close(backend, false);
}

/* What is known without a trial: nothing speaks against either. */
static void know_kernel(struct weir_probe *probe)
{
    struct utsname system = {0};
    uname(&system);
    *probe = (struct weir_probe){.size = sizeof *probe};
    snprintf(probe->kernel, sizeof probe->kernel, "%s", system.release);
    probe->io_uring.bug = weir_policy_kernel_bugs(system.release, system.machine).bug;
    probe->io_uring.native_kinds = UINT64_MAX;
    probe->epoll.native_kinds = UINT64_MAX;
}

void weir_policy_probe(struct weir_probe *ret_probe)
{
    know_kernel(ret_probe);
    note_kinds(ret_probe, WEIR_IO_URING, 0);
    note_kinds(ret_probe, WEIR_EPOLL, 0);
    try_out(ret_probe, WEIR_IO_URING);
    try_out(ret_probe, WEIR_EPOLL);
}

/* --- opening ---------------------------------------------------------------------------------- */

static int refuse_option(struct weir_decision *decision, const char *hint)
{
    struct weir_rejection *rejection = &decision->rejected[decision->rejected_count++];
    *rejection = (struct weir_rejection){
        .backend = "none",
        .error = -EINVAL,
        .cause = WEIR_CAUSE_OPTION,
    };
    snprintf(rejection->hint, sizeof rejection->hint, "%s", hint);
    return -EINVAL;
}

/* The one place that reads the variable. */
static int ask_environment(struct weir_decision *decision)
{
    static const char *const values[] = {
        [WEIR_AUTO] = "auto",
        [WEIR_IO_URING] = "io_uring",
        [WEIR_EPOLL] = "epoll",
    };
    const char *value = decision->policy == WEIR_AUTO ? secure_getenv(VARIABLE) : NULL;
    if (!value) {
        return 0;
    }
    decision->from_environment = 1;
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        if (strcmp(value, values[i]) == 0) {
            decision->policy = (enum weir_policy)i;
            return 0;
        }
    }
    return refuse_option(decision, "the environment variable " VARIABLE
                                   " is none of auto, io_uring, epoll: set it to one or unset it");
}

/* Whether a backend lacks memory, fds or watches is for each open to find out anew. */
static bool is_for_now(int error)
{
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -ENOSPC;
}

static int know(const struct weir_options *options, struct weir_probe *ret_known,
                struct weir_decision *decision)
{
    know_kernel(ret_known);
    if (!options->probe) {
        return 0;
    }
    if (options->probe->size != sizeof *options->probe) {
        return refuse_option(decision, "options.probe was not filled by weir_probe(), or by that "
                                       "of another version of this library");
    }
    struct weir_probe fresh = *ret_known;
    *ret_known = *options->probe;
    if (is_for_now(ret_known->io_uring.error)) {
        ret_known->io_uring = fresh.io_uring;
    }
    if (is_for_now(ret_known->epoll.error)) {
        ret_known->epoll = fresh.epoll;
    }
    return 0;
}

/* Opens the one that was chosen. On failure what was learned is noted, for another choice. */
static int open_chosen(enum weir_policy chosen, const struct weir_options *options,
                       struct weir_facts *facts, struct weir_probe *known,
                       struct weir_backend **ret_backend)
{
    struct weir_backend *backend;
    struct weir_facts own = *facts;
    int r = open_table(chosen, options, &own, &backend);
    if (r < 0) {
        note_error(known, chosen, r);
        return r;
    }
    uint64_t kinds = native_kinds_of(backend);
    if (options->native_kinds & ~kinds) {
        note_kinds(known, chosen, kinds);
        backend->table->close(backend, false);
        return -EOPNOTSUPP;
    }
    own.backend = backend->table->name;
    *facts = own;
    *ret_backend = backend;
    return 0;
}

static const char *world_hint(int error)
{
    switch (-error) {
    case EINVAL:
        return "options.sim.plan has a value out of its range: see weir/sim.h";
    case EOWNERDEAD:
        return "options.sim.world has crashed: weir_sim_restart() once its loops are abandoned";
    case ENOMEM:
        return "no memory for the world: options.sim.plan.memory_bytes, or the machine's";
    default:
        return "a world lives in the thread that made it, and does without SIGNAL and CHILD";
    }
}

static void reject_world(struct weir_decision *decision, int error)
{
    struct weir_rejection *rejection = &decision->rejected[decision->rejected_count++];
    *rejection = (struct weir_rejection){
        .backend = weir_sim_table.name,
        .error = error,
        .cause = error == -EOPNOTSUPP ? WEIR_CAUSE_FEATURE
                 : error == -EINVAL   ? WEIR_CAUSE_OPTION
                                      : WEIR_CAUSE_OTHER,
    };
    snprintf(rejection->hint, sizeof rejection->hint, "%s", world_hint(error));
    decision->chosen = NULL;
}

/* Asked for by its name alone: neither the system nor the environment has a say. */
static int open_world(const struct weir_options *options, struct weir_facts *facts,
                      struct weir_decision *decision, struct weir_backend **ret_backend)
{
    int r = -EOPNOTSUPP;
    if ((options->native_kinds & (KIND(WEIR_KIND_SIGNAL) | KIND(WEIR_KIND_CHILD))) == 0) {
        r = weir_sim_table.open(options, facts, ret_backend);
    }
    if (r < 0) {
        reject_world(decision, r);
        return r;
    }
    facts->backend = weir_sim_table.name;
    decision->chosen = weir_sim_table.name;
    weir_policy_reason(decision, facts->reason, sizeof facts->reason);
    return 0;
}

struct weir_sim *weir_policy_world(const struct weir_backend *backend)
{
    return backend->table == &weir_sim_table ? weir_sim_world_of(backend) : NULL;
}

int weir_policy_open(const struct weir_options *options, struct weir_facts *facts,
                     struct weir_backend **ret_backend)
{
    struct weir_decision unseen;
    struct weir_decision *decision = options->decision ? options->decision : &unseen;
    struct weir_probe known;
    *decision = (struct weir_decision){.policy = options->policy};
    if (options->policy == WEIR_SIM) {
        return open_world(options, facts, decision, ret_backend);
    }
    int r = ask_environment(decision);
    r = r < 0 ? r : know(options, &known, decision);
    if (r < 0) {
        return r;
    }
    snprintf(facts->kernel, sizeof facts->kernel, "%s", known.kernel);
    /* Each round that fails leaves one candidate less. */
    do {
        r = weir_policy_choose(options->native_kinds, &known, decision);
        if (r < 0) {
            return r;
        }
        r = open_chosen((enum weir_policy)r, options, facts, &known, ret_backend);
    } while (r < 0);
    weir_policy_reason(decision, facts->reason, sizeof facts->reason);
    return 0;
}

int weir_policy_adopt(const struct weir_options *options, struct weir_backend *backend,
                      struct weir_facts *facts)
{
    int r = backend->table->adopt(backend, facts);
    if (r < 0 && options && options->decision) {
        enum weir_policy policy = policy_of(backend);
        weir_policy_reject(options->decision, policy, r, classify(policy, r));
    }
    return r;
}
