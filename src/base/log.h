/* SPDX-License-Identifier: Apache-2.0 */
/* Leveled log lines on standard error, as text or JSON, that never flood: each call site is limited
 * to LOG_BURST lines a LOG_WINDOW_S, after which one line says how many were left out. Any thread
 * may call. */
#ifndef LYMER_BASE_LOG_H
#define LYMER_BASE_LOG_H

#include "base/str.h"

#include <stdatomic.h>

#define LOG_BURST    10
#define LOG_WINDOW_S 10

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_site {
    _Atomic uint64_t window_s;
    _Atomic uint32_t lines, left_out;
};

void log_setup(enum log_level least, enum log_format format);
MUST_CHECK bool log_level_from(struct str name, enum log_level *level);
bool log_on(enum log_level level);
void log_line(struct log_site *site, enum log_level level, const char *area, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* A macro because each call site owns its limiter. */
#define LOG(level, area, ...)                               \
    do {                                                    \
        static struct log_site log_site_;                   \
        if (log_on(level))                                  \
            log_line(&log_site_, level, area, __VA_ARGS__); \
    } while (0)
#define log_debug(area, ...) LOG(LOG_DEBUG, area, __VA_ARGS__)
#define log_info(area, ...)  LOG(LOG_INFO, area, __VA_ARGS__)
#define log_warn(area, ...)  LOG(LOG_WARN, area, __VA_ARGS__)
#define log_error(area, ...) LOG(LOG_ERROR, area, __VA_ARGS__)

#endif
