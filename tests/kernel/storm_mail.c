/* SPDX-License-Identifier: MIT */
/*
 * storm_mail.c: the second thread. It gets ops by mail and posts them; until its answer is looked
 * at the storm does not touch the op, which may have come back before that.
 */
#include "check.h"
#include "storm.h"

#include <errno.h>
#include <sched.h>

static void *post_mail(void *context)
{
    struct world *world = context;
    uint64_t pace = world->seed;
    bool posting = true;
    while (posting) {
        /* Read first: what was sent before the end is still seen below. */
        posting = __atomic_load_n(&world->posting, __ATOMIC_ACQUIRE);
        for (unsigned i = 0; i < STORM_MAIL; i++) {
            struct mail *mail = &world->mail[i];
            /* Acquire and release: the op goes to this thread and back with the word. */
            if (__atomic_load_n(&mail->state, __ATOMIC_ACQUIRE) != MAIL_SENT) {
                continue;
            }
            pace = pace * 6364136223846793005u + 1442695040888963407u;
            for (uint64_t delay = (pace >> 33) % 2000; delay > 0; delay--) {
                __asm__ volatile("" ::: "memory");
            }
            mail->answer = weir_loop_post(world->loop, &mail->item->op);
            __atomic_store_n(&mail->state, MAIL_ANSWERED, __ATOMIC_RELEASE);
        }
        sched_yield();
    }
    return NULL;
}

void mail_start(struct world *world)
{
    world->posting = true;
    CHECK_EQUAL(pthread_create(&world->poster, NULL, post_mail, world), 0);
}

void mail_send(struct world *world, struct item *item)
{
    for (unsigned i = 0; i < STORM_MAIL; i++) {
        struct mail *mail = &world->mail[i];
        if (__atomic_load_n(&mail->state, __ATOMIC_RELAXED) == MAIL_FREE) {
            item->mailed = true;
            mail->item = item;
            __atomic_store_n(&mail->state, MAIL_SENT, __ATOMIC_RELEASE);
            return;
        }
    }
    item->mailed = false;
    storm_drop(item);
}

static void look_at_answer(struct world *world, struct mail *mail)
{
    struct item *item = mail->item;
    int answer = mail->answer;
    mail->item = NULL;
    __atomic_store_n(&mail->state, MAIL_FREE, __ATOMIC_RELAXED);
    if (answer != 0 && answer != -EAGAIN && !(answer == -ESHUTDOWN && world->closing)) {
        storm_fail(world, WEIR_SITE, "post answered %d", answer);
    }
    world->posts_refused += answer == -EAGAIN;
    if (item == NULL) {
        STORM_CHECK(world, answer == 0);
        return;
    }
    item->mailed = false;
    if (answer == 0) {
        storm_accepted(world, item);
    } else {
        storm_drop(item);
    }
}

void mail_collect(struct world *world)
{
    for (unsigned i = 0; i < STORM_MAIL; i++) {
        if (__atomic_load_n(&world->mail[i].state, __ATOMIC_ACQUIRE) == MAIL_ANSWERED) {
            look_at_answer(world, &world->mail[i]);
        }
    }
}

void mail_forget(struct world *world, struct item *item)
{
    for (unsigned i = 0; i < STORM_MAIL && item->mailed; i++) {
        if (world->mail[i].item == item) {
            world->mail[i].item = NULL;
            item->mailed = false;
            storm_accepted(world, item);
            return;
        }
    }
    STORM_CHECK(world, !item->mailed);
}

void mail_settle(struct world *world)
{
    for (unsigned i = 0; i < STORM_MAIL; i++) {
        while (__atomic_load_n(&world->mail[i].state, __ATOMIC_ACQUIRE) == MAIL_SENT) {
            sched_yield();
        }
    }
    mail_collect(world);
}

void mail_end(struct world *world)
{
    __atomic_store_n(&world->posting, false, __ATOMIC_RELEASE);
    CHECK_EQUAL(pthread_join(world->poster, NULL), 0);
    mail_settle(world);
}
