/* SPDX-License-Identifier: MIT */
/*
 * judge.h: a second reader of the protocol, who has all that a client has sent and all that it has
 * received, and says whether the one is an answer to the other.
 */
#ifndef JUDGE_H
#define JUDGE_H

#include <stdbool.h>
#include <stdint.h>

/* What is served. */
struct judge_export {
    uint64_t size;
    uint32_t block;
    bool read_only;
};

void judge_begin(void);
void judge_sent(const uint8_t *bytes, uint32_t length);
/* export: of the connection by now; NULL: none yet. */
void judge_received(const uint8_t *bytes, uint32_t length, const struct judge_export *export);
/* All that can come has come: whatever was asked completely has been answered. */
void judge_end_of_answers(void);

/* Whether the judge has seen the handshake's end, and so knows what was asked for. */
bool judge_knows_requests(void);
/* Sets the marks of bytes that something was asked for that may have changed them. */
void judge_mark_changes(uint8_t *ret_marks, uint64_t size);

#endif
