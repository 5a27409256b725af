/* SPDX-License-Identifier: MIT */
#include <engine/observe/recorder.h>

#define EVENTS_LEAST 1024

static uint64_t count_places(uint32_t events)
{
    uint64_t places = EVENTS_LEAST;
    while (places < events) {
        places *= 2;
    }
    return places;
}

size_t weir_recorder_size(uint32_t events)
{
    return events == 0 ? 0 : count_places(events) * sizeof(struct weir_record);
}

void weir_recorder_init(struct weir_recorder *recorder, uint32_t events, void *memory)
{
    recorder->records = events == 0 ? NULL : memory;
    recorder->mask = events == 0 ? 0 : count_places(events) - 1;
    recorder->written = 0;
}

