/* SPDX-License-Identifier: Apache-2.0 */
/* The taker's side of a stream: order is checked here once for both engines. */
#include "serve/engine.h"

void stream_head(struct stream *s, int status, const struct http_header *headers, size_t count,
                 bool end)
{
    ensure(!s->ended && !s->head_sent);
    s->head_sent = true;
    s->ended = end;
    s->engine->head(s, status, headers, count, end);
}

bool stream_send(struct stream *s, struct str data, bool end)
{
    ensure(!s->ended && s->head_sent);
    s->ended = end;
    s->engine->send(s, data, end);
    if (!end && s->engine->queued(s) > STREAM_HIGH_BYTES)
        s->high = true;
    return !s->high;
}

void stream_trailers(struct stream *s, const struct http_header *headers, size_t count)
{
    ensure(!s->ended && s->head_sent);
    s->ended = true;
    s->engine->trailers(s, headers, count);
}

void stream_reset(struct stream *s, uint32_t h2_code)
{
    if (s->ended)
        return;
    s->ended = true;
    s->engine->reset(s, h2_code);
}

size_t stream_queued(const struct stream *s)
{
    return s->engine->queued(s);
}

void stream_consumed(struct stream *s, size_t n)
{
    s->engine->consumed(s, n);
}

void stream_drained(struct stream *s)
{
    if (!s->high || s->engine->queued(s) > STREAM_LOW_BYTES)
        return;
    s->high = false;
    if (!s->ended && s->sink->drained)
        s->sink->drained(s);
}
