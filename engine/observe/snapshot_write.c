/* SPDX-License-Identifier: MIT */
#include <engine/observe/snapshot.h>
#include <errno.h>

int weir_snapshot_write(const struct weir_snapshot *snapshot, enum weir_format format,
                        weir_writer *writer, void *context)
{
    if (!snapshot || !writer || (format == WEIR_FORMAT_PROMETHEUS && snapshot->interval)) {
        return -EINVAL;
    }
    int r = 0;
    struct weir_text text;
    weir_text_begin(&text, writer, context);
    switch (format) {
    case WEIR_FORMAT_PROMETHEUS:
        weir_snapshot_write_prometheus(snapshot, &text);
        break;
    case WEIR_FORMAT_JSON:
        weir_snapshot_write_json(snapshot, &text);
        break;
    case WEIR_FORMAT_HLOG:
        r = weir_snapshot_write_hlog(snapshot, &text);
        break;
    default:
        return -EINVAL;
    }
    int written = weir_text_end(&text);
    return r < 0 ? r : written;
}
