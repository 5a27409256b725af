/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd/tls.h against a client of GnuTLS, through memory, in pieces of any size. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tls_peer.h"

#define READER "reader"
#define READER_KEY "00112233445566778899aabbccddeeff"

static struct peer_files files;
static struct tls_config *by_certificate;
static struct tls_config *by_key;

static const struct kind {
    const char *name;
    struct tls_config **config;
    const char *priority;
    const char *user; /* NULL: certificates */
} kinds[] = {
    {"certificates, TLS 1.2", &by_certificate, PEER_VERSION_12, NULL},
    {"certificates, TLS 1.3", &by_certificate, PEER_VERSION_13, NULL},
    {"keys, TLS 1.2", &by_key, PEER_VERSION_12, READER},
    {"keys, TLS 1.3", &by_key, PEER_VERSION_13, READER},
};

static int open_configs(void **state)
{
    (void)state;
    char why[256];
    return peer_files_make(&files) &&
                   tls_config_open(files.folder, NULL, why, sizeof why, &by_certificate) == 0 &&
                   tls_config_open(NULL, files.psk, why, sizeof why, &by_key) == 0
               ? 0
               : -1;
}

static int close_configs(void **state)
{
    (void)state;
    tls_config_close(by_certificate);
    tls_config_close(by_key);
    peer_files_remove(&files);
    return 0;
}

static struct pair pair_open(struct tls_config *config, const char *priority, const char *user,
                             const char *key)
{
    struct pair pair = {.peer = peer_open(&files, priority, user, key)};
    assert_non_null(pair.peer);
    assert_int_equal(tls_open(config, &pair.tls), 0);
    return pair;
}

static void pair_close(struct pair *pair)
{
    tls_close(pair->tls);
    peer_close(pair->peer);
}

static struct pair pair_shaken(const struct kind *kind, struct random *random, size_t piece)
{
    struct pair pair = pair_open(*kind->config, kind->priority, kind->user, READER_KEY);
    int server;
    int client;
    pair_shake(&pair, random, piece, &server, &client);
    if (server != 0 || client != GNUTLS_E_SUCCESS) {
        fail_msg("%s, pieces of %zu: %d, %s", kind->name, piece, server, gnutls_strerror(client));
    }
    return pair;
}

/* All that stands in the output goes to the client, who reads it, to the expected end. How much
 * it was. */
static size_t client_reads(struct pair *pair, uint8_t *bytes, size_t room, ssize_t expected_end)
{
    size_t length = 0;
    ssize_t result;
    while (peer_carry_to_client(pair->peer, pair->tls, SIZE_MAX) > 0) {
    }
    const struct wire *wire = &pair->peer->to_client;
    do { /* it also says EAGAIN after a change of keys */
        result = gnutls_record_recv(pair->peer->session, bytes + length, room - length);
        length += result > 0 ? (size_t)result : 0;
    } while (result > 0 || (result == GNUTLS_E_AGAIN && wire->start < wire->end));
    assert_int_equal(result, expected_end);
    return length;
}

/* --- what goes well --------------------------------------------------------------------------- */

static void both_kinds_and_versions_shake_hands_in_pieces_of_any_size(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 7, 1000, WIRE_SIZE};
    struct random random = random_open();
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        for (size_t j = 0; j < COUNT_OF(pieces); j++) {
            struct pair pair = pair_shaken(&kinds[i], &random, pieces[j]);
            pair_close(&pair);
        }
    }
}

enum { LARGE = 3 << 20 };

static uint8_t large[LARGE];

static void fill_large(struct random *random)
{
    for (size_t i = 0; i < LARGE; i += 8) {
        uint64_t value = random_next(random);
        memcpy(large + i, &value, sizeof value);
    }
}

/* One direction of a transfer. */
struct flow {
    size_t sent;
    size_t received;
    size_t again; /* what GnuTLS wants once more, when it said EAGAIN */
};

static void flow_to_server(struct pair *pair, struct random *random, struct flow *flow)
{
    static uint8_t bytes[50000];
    if (flow->sent < LARGE) {
        size_t length = flow->again ? flow->again : random_piece(random, sizeof bytes);
        length = length < LARGE - flow->sent ? length : LARGE - flow->sent;
        ssize_t result = gnutls_record_send(pair->peer->session, large + flow->sent, length);
        assert_true(result > 0 || result == GNUTLS_E_AGAIN);
        flow->again = result < 0 ? length : 0;
        flow->sent += result < 0 ? 0 : (size_t)result;
    }
    peer_carry_to_server(pair->peer, pair->tls, random_piece(random, sizeof bytes));
    int64_t got;
    while ((got = tls_read(pair->tls, bytes, random_piece(random, sizeof bytes))) > 0) {
        assert_memory_equal(bytes, large + flow->received, (size_t)got);
        flow->received += (size_t)got;
    }
    assert_int_equal(got, -EAGAIN);
}

static void flow_to_client(struct pair *pair, struct random *random, struct flow *flow)
{
    static uint8_t bytes[50000];
    size_t length = random_piece(random, 2 * sizeof bytes);
    length = length < LARGE - flow->sent ? length : LARGE - flow->sent;
    int64_t taken = tls_write(pair->tls, large + flow->sent, length);
    assert_true(taken >= 0 && (size_t)taken <= length);
    flow->sent += (size_t)taken;
    peer_carry_to_client(pair->peer, pair->tls, random_piece(random, sizeof bytes));
    ssize_t got;
    while ((got = gnutls_record_recv(pair->peer->session, bytes, sizeof bytes)) > 0) {
        assert_memory_equal(bytes, large + flow->received, (size_t)got);
        flow->received += (size_t)got;
    }
    assert_int_equal(got, GNUTLS_E_AGAIN);
}

static void large_transfers_arrive_whole_both_ways_at_once(void **state)
{
    (void)state;
    struct random random = random_open();
    fill_large(&random);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct pair pair = pair_shaken(&kinds[i], &random, 5000);
        struct flow up = {0};
        struct flow down = {0};
        while (up.received < LARGE || down.received < LARGE) {
            flow_to_server(&pair, &random, &up);
            flow_to_client(&pair, &random, &down);
        }
        pair_close(&pair);
    }
}

static void what_waits_to_be_sent_stays_where_it_is_until_it_was(void **state)
{
    (void)state;
    struct random random = random_open();
    struct pair pair = pair_shaken(&kinds[1], &random, WIRE_SIZE);
    static uint8_t before[TLS_OUTPUT_SIZE];
    assert_int_equal(tls_write(pair.tls, large, 40000), 40000);
    size_t length;
    const void *bytes = tls_output(pair.tls, &length);
    memcpy(before, bytes, length);
    /* While the kernel sends that, others write and read. */
    assert_int_equal(tls_write(pair.tls, large + 40000, 60000), 60000);
    assert_true(gnutls_record_send(pair.peer->session, "x", 1) == 1);
    size_t room;
    uint8_t *input = tls_input(pair.tls, &room);
    assert_int_equal(tls_read(pair.tls, &(char){0}, 1), -EAGAIN);
    peer_carry_to_server(pair.peer, pair.tls, SIZE_MAX);
    size_t room_then;
    assert_true(input < (uint8_t *)tls_input(pair.tls, &room_then) && room_then < room);
    char byte;
    assert_int_equal(tls_read(pair.tls, &byte, 1), 1);
    assert_memory_equal(bytes, before, length);
    /* Part of it went out, and what is left moved: nothing is lost. */
    static uint8_t got[LARGE];
    for (size_t part = length - 1; part > 0; part /= 2) {
        peer_carry_to_client(pair.peer, pair.tls, part);
    }
    assert_int_equal(client_reads(&pair, got, sizeof got, GNUTLS_E_AGAIN), 100000);
    assert_memory_equal(got, large, 100000);
    pair_close(&pair);
}

static void a_full_output_takes_no_more_until_it_is_sent(void **state)
{
    (void)state;
    struct random random = random_open();
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct pair pair = pair_shaken(&kinds[i], &random, WIRE_SIZE);
        static uint8_t got[LARGE];
        size_t sent = 0;
        size_t received = 0;
        for (int round = 0; round < 3; round++) {
            size_t begun = sent;
            int64_t taken;
            while ((taken = tls_write(pair.tls, large + sent, random_piece(&random, 30000))) > 0) {
                sent += (size_t)taken;
            }
            assert_int_equal(taken, 0);
            /* It is put to use, but for what headers need. */
            assert_true(sent - begun > TLS_OUTPUT_SIZE * 9 / 10);
            /* When most of it is sent, there is room for as much, before the rest is. */
            peer_carry_to_client(pair.peer, pair.tls, TLS_OUTPUT_SIZE * 3 / 4);
            assert_int_equal(tls_write(pair.tls, large + sent, 100000), 100000);
            sent += 100000;
            received += client_reads(&pair, got + received, LARGE - received, GNUTLS_E_AGAIN);
            assert_int_equal(received, sent);
            assert_memory_equal(got, large, sent);
        }
        pair_close(&pair);
    }
}

static void a_client_may_change_keys_between_two_messages(void **state)
{
    (void)state;
    struct random random = random_open();
    struct pair pair = pair_shaken(&kinds[1], &random, WIRE_SIZE);
    for (int i = 0; i < 3; i++) {
        assert_true(gnutls_session_key_update(pair.peer->session, GNUTLS_KU_PEER) >= 0);
        assert_int_equal(gnutls_record_send(pair.peer->session, "after", 5), 5);
        peer_carry_to_server(pair.peer, pair.tls, SIZE_MAX);
        /* All has come: no more is waited for. */
        char bytes[16];
        assert_int_equal(tls_read(pair.tls, bytes, sizeof bytes), 5);
        assert_memory_equal(bytes, "after", 5);
        /* We were asked to change ours as well, and do so with what we write. */
        size_t written = 0;
        int64_t taken;
        while ((taken = tls_write(pair.tls, large, 16000)) > 0) {
            written += (size_t)taken;
        }
        static uint8_t got[TLS_OUTPUT_SIZE];
        assert_int_equal(client_reads(&pair, got, sizeof got, GNUTLS_E_AGAIN), written);
    }
    pair_close(&pair);
}

static void the_end_is_told_both_ways_and_what_went_before_is_read_first(void **state)
{
    (void)state;
    struct random random = random_open();
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct pair pair = pair_shaken(&kinds[i], &random, WIRE_SIZE);
        char bytes[16];
        assert_int_equal(gnutls_record_send(pair.peer->session, "last", 4), 4);
        assert_int_equal(gnutls_bye(pair.peer->session, GNUTLS_SHUT_WR), GNUTLS_E_SUCCESS);
        peer_carry_to_server(pair.peer, pair.tls, SIZE_MAX);
        assert_int_equal(tls_read(pair.tls, bytes, sizeof bytes), 4);
        assert_int_equal(tls_read(pair.tls, bytes, sizeof bytes), 0);
        assert_int_equal(tls_read(pair.tls, bytes, sizeof bytes), 0);
        /* Our end fits behind whatever was written. */
        size_t written = 0;
        int64_t taken;
        while ((taken = tls_write(pair.tls, large, 9000)) > 0) {
            written += (size_t)taken;
        }
        tls_bye(pair.tls);
        static uint8_t got[TLS_OUTPUT_SIZE];
        assert_int_equal(client_reads(&pair, got, sizeof got, 0), written);
        pair_close(&pair);
    }
}

/* --- what does not ---------------------------------------------------------------------------- */

static void assert_refused(struct tls_config *config, const char *priority, const char *user,
                           const char *key)
{
    struct random random = {1};
    struct pair pair = pair_open(config, priority, user, key);
    int server;
    int client;
    pair_shake(&pair, &random, WIRE_SIZE, &server, &client);
    assert_int_equal(server, -EPROTO);
    assert_true(client < 0);
    pair_close(&pair);
}

static void wrong_keys_users_kinds_and_versions_are_refused(void **state)
{
    (void)state;
    static const char *const versions[] = {PEER_VERSION_12, PEER_VERSION_13};
    for (size_t i = 0; i < COUNT_OF(versions); i++) {
        assert_refused(by_key, versions[i], READER, "00112233445566778899aabbccddeefe");
        assert_refused(by_key, versions[i], "nobody", READER_KEY);
        assert_refused(by_key, versions[i], NULL, NULL);
        assert_refused(by_certificate, versions[i], READER, READER_KEY);
    }
    assert_refused(by_certificate, "NORMAL:-VERS-ALL:+VERS-TLS1.1", NULL, NULL);
}

static void give(struct tls *tls, const void *bytes, size_t length)
{
    size_t room;
    void *input = tls_input(tls, &room);
    assert_true(length <= room);
    memcpy(input, bytes, length);
    tls_received(tls, length);
}

/* Until it fails, or has fetched all: then there is room again. */
static int shake_with_noise(struct tls *tls, struct random *random)
{
    uint8_t noise[TLS_INPUT_SIZE];
    int result = -EAGAIN;
    for (int i = 0; i < 20 && result == -EAGAIN; i++) {
        size_t room;
        tls_input(tls, &room);
        assert_true(room > 0);
        for (size_t j = 0; j < room; j++) {
            noise[j] = (uint8_t)random_next(random);
        }
        give(tls, noise, room);
        result = tls_handshake(tls);
        assert_int_not_equal(result, 0);
    }
    return result;
}

static void noise_instead_of_a_hello_is_refused(void **state)
{
    (void)state;
    struct random random = random_open();
    static const char request[] = "\x25\x60\x95\x13\0\0\0\0";
    for (int i = 0; i < 200; i++) {
        struct tls *tls;
        assert_int_equal(tls_open(by_certificate, &tls), 0);
        if (i % 2 == 1) {
            give(tls, request, sizeof request);
        } else if (i % 4 == 0) {
            give(tls, "\x16\x03\x01\x3f\xff\x01", 6); /* a hello begins like that */
        }
        assert_int_equal(shake_with_noise(tls, &random), -EPROTO);
        assert_int_equal(tls_handshake(tls), -EPROTO);
        tls_close(tls);
    }
}

static void a_changed_byte_breaks_the_session_for_good(void **state)
{
    (void)state;
    struct random random = random_open();
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct pair pair = pair_shaken(&kinds[i], &random, WIRE_SIZE);
        assert_int_equal(gnutls_record_send(pair.peer->session, large, 100), 100);
        struct wire *wire = &pair.peer->to_server;
        wire->bytes[wire->start + 5 + random_below(&random, wire->end - wire->start - 5)] ^= 1;
        peer_carry_to_server(pair.peer, pair.tls, SIZE_MAX);
        char bytes[200];
        assert_int_equal(tls_read(pair.tls, bytes, sizeof bytes), -EPROTO);
        assert_int_equal(tls_read(pair.tls, bytes, sizeof bytes), -EPROTO);
        assert_int_equal(tls_write(pair.tls, bytes, sizeof bytes), -EPROTO);
        uint8_t none;
        assert_int_equal(client_reads(&pair, &none, 1, GNUTLS_E_FATAL_ALERT_RECEIVED), 0);
        pair_close(&pair);
    }
}

static void a_client_that_negotiates_anew_is_refused(void **state)
{
    (void)state;
    struct random random = random_open();
    struct pair pair = pair_shaken(&kinds[0], &random, WIRE_SIZE);
    assert_int_equal(gnutls_handshake(pair.peer->session), GNUTLS_E_AGAIN);
    peer_carry_to_server(pair.peer, pair.tls, SIZE_MAX);
    char byte;
    assert_int_equal(tls_read(pair.tls, &byte, 1), -EPROTO);
    pair_close(&pair);
}

/* --- many, and none --------------------------------------------------------------------------- */

static void *shake_many(void *failed)
{
    struct random random = {(uint64_t)(uintptr_t)failed};
    for (int i = 0; i < 20; i++) {
        const struct kind *kind = &kinds[random_below(&random, COUNT_OF(kinds))];
        struct peer *peer = peer_open(&files, kind->priority, kind->user, READER_KEY);
        struct pair pair = {.peer = peer};
        int server = peer ? tls_open(*kind->config, &pair.tls) : -ENOMEM;
        int client = 0;
        if (server == 0) {
            pair_shake(&pair, &random, 3000, &server, &client);
            pair_close(&pair);
        }
        *(int *)failed += server != 0 || client != 0;
    }
    return NULL;
}

static void threads_share_what_was_configured(void **state)
{
    (void)state;
    pthread_t threads[4];
    int failed[COUNT_OF(threads)] = {0};
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, shake_many, &failed[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(failed[i], 0);
    }
}

static void what_cannot_be_read_is_named(void **state)
{
    (void)state;
    struct tls_config *config = NULL;
    char why[256] = "";
    char key[64];
    char other[64];
    snprintf(key, sizeof key, "%s/server-key.pem", files.folder);
    snprintf(other, sizeof other, "%s/other-key.pem", files.folder);
    assert_int_equal(tls_config_open(NULL, "/nowhere.psk", why, sizeof why, &config), -ENOENT);
    assert_string_equal(why, "/nowhere.psk: No such file or directory");
    assert_int_equal(tls_config_open("/nowhere", NULL, why, sizeof why, &config), -ENOENT);
    assert_non_null(strstr(why, "/nowhere/server-cert.pem: No such file"));
    char kept[64];
    snprintf(kept, sizeof kept, "%s/keys.psk", files.folder);
    assert_int_equal(rename(key, kept), 0);
    assert_int_equal(tls_config_open(files.folder, NULL, why, sizeof why, &config), -ENOENT);
    assert_non_null(strstr(why, key));
    assert_int_equal(rename(other, key), 0); /* does not match */
    assert_int_equal(tls_config_open(files.folder, NULL, why, sizeof why, &config), -EINVAL);
    assert_non_null(strstr(why, "server-cert.pem with its key: "));
    assert_int_equal(rename(kept, key), 0);
    assert_null(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_kinds_and_versions_shake_hands_in_pieces_of_any_size),
        cmocka_unit_test(large_transfers_arrive_whole_both_ways_at_once),
        cmocka_unit_test(what_waits_to_be_sent_stays_where_it_is_until_it_was),
        cmocka_unit_test(a_full_output_takes_no_more_until_it_is_sent),
        cmocka_unit_test(a_client_may_change_keys_between_two_messages),
        cmocka_unit_test(the_end_is_told_both_ways_and_what_went_before_is_read_first),
        cmocka_unit_test(wrong_keys_users_kinds_and_versions_are_refused),
        cmocka_unit_test(noise_instead_of_a_hello_is_refused),
        cmocka_unit_test(a_changed_byte_breaks_the_session_for_good),
        cmocka_unit_test(a_client_that_negotiates_anew_is_refused),
        cmocka_unit_test(threads_share_what_was_configured),
        cmocka_unit_test(what_cannot_be_read_is_named), /* last: it moves the files about */
    };
    return cmocka_run_group_tests(tests, open_configs, close_configs);
}
