/* SPDX-License-Identifier: Apache-2.0 */
/* One turn of a loop: wait for the kernel, handle what is ready, run messages, run timers due,
 * then do the end-of-turn work of connections (gathered writes, interest changes, frees).
 *
 * epoll is level-triggered: a connection reads once a turn (fairness), and what it leaves in the
 * kernel wakes the next turn by itself. Interest changes are gathered to the end of the turn, so a
 * pause and resume within one turn costs no system call.
 *
 * Invariants
 *  1. A struct source registered with epoll lives to the end of the turn in which it was removed:
 *     events of the same epoll_wait may still name it.
 *  2. No message is slept over: a post from another thread that fills the empty box writes the
 *     eventfd; one from the loop's own thread sets own_post, and then the loop does not wait. */
#include "net/loop_priv.h"

#include "base/os/os.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_MAX 256

static uint64_t mono_ns(void)
{
    return os_mono_ns(os_posix());
}

/* Called by the mailbox when it turns from empty to filled. The loop's own thread takes the box
 * before it sleeps and needs no wake. */
static void loop_wake(void *arg)
{
    struct loop *l = arg;
    if (atomic_load_explicit(&l->owner, memory_order_relaxed) == (uint64_t)pthread_self() + 1) {
        l->own_post = true;
        return;
    }
    uint64_t one = 1;
    ssize_t n = write(l->event_fd, &one, sizeof one);
    ensure(n == sizeof one || errno == EAGAIN);
}

struct loop *loop_new(void)
{
    struct loop *l = xcalloc(1, sizeof *l);
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ensure(l->epoll_fd >= 0 && l->event_fd >= 0);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    ensure(epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->event_fd, &ev) == 0);
    mailbox_init(&l->box, SIZE_MAX);
    l->box.wake = loop_wake;
    l->box.wake_arg = l;
    l->read_buf = xmalloc(LOOP_READ_BYTES);
    l->now_ns = mono_ns();
    return l;
}

static void retired_ready(struct source *s, uint32_t events)
{
    (void)s;
    (void)events;
}

void source_retire(struct loop *l, struct source *s)
{
    s->ready = retired_ready;
    s->next_retired = l->retired;
    l->retired = s;
}

static void free_retired(struct loop *l)
{
    struct source **at = &l->retired;
    while (*at) {
        struct source *s = *at;
        if (s->listed) {
            at = &s->next_retired;
            continue;
        }
        *at = s->next_retired;
        free(s);
    }
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    conns_close_all(l);
    free_retired(l);
    while (l->spare) {
        struct chunk *next = l->spare->next;
        free(l->spare);
        l->spare = next;
    }
    mailbox_fini(&l->box);
    close(l->epoll_fd);
    close(l->event_fd);
    free(l->heap);
    free(l->read_buf);
    free(l);
}

void loop_watch(struct loop *l, int fd, struct source *s, uint32_t events, bool add)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};
    ensure(epoll_ctl(l->epoll_fd, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) == 0);
}

uint64_t loop_now_ns(const struct loop *l)
{
    return l->now_ns;
}

void loop_post(struct loop *l, struct loop_msg *m)
{
    bool posted = mailbox_post(&l->box, &m->msg);
    ensure(posted);
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    uint64_t one = 1;
    ssize_t n = write(l->event_fd, &one, sizeof one);
    ensure(n == sizeof one || errno == EAGAIN);
}

/* --- timers: a binary heap by time --- */

static void heap_put(struct loop *l, uint32_t i, struct timer *t)
{
    l->heap[i] = t;
    t->pos = i + 1;
}

static void heap_up(struct loop *l, uint32_t i, struct timer *t)
{
    for (; i > 0; i = (i - 1) / 2) {
        struct timer *parent = l->heap[(i - 1) / 2];
        if (parent->at_ns <= t->at_ns)
            break;
        heap_put(l, i, parent);
    }
    heap_put(l, i, t);
}

static void heap_down(struct loop *l, uint32_t i, struct timer *t)
{
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= l->heap_count)
            break;
        if (child + 1 < l->heap_count && l->heap[child + 1]->at_ns < l->heap[child]->at_ns)
            child++;
        if (l->heap[child]->at_ns >= t->at_ns)
            break;
        heap_put(l, i, l->heap[child]);
        i = child;
    }
    heap_put(l, i, t);
}

static void heap_settle(struct loop *l, uint32_t i, struct timer *t)
{
    if (i > 0 && l->heap[(i - 1) / 2]->at_ns > t->at_ns)
        heap_up(l, i, t);
    else
        heap_down(l, i, t);
}

void timer_arm(struct loop *l, struct timer *t, uint64_t in_ns)
{
    in_ns = max_u64(in_ns, 1); /* a timer that re-arms itself runs once a turn at most */
    uint64_t at = l->now_ns + in_ns;
    t->at_ns = at < in_ns ? UINT64_MAX : at;
    if (t->pos) {
        heap_settle(l, t->pos - 1, t);
        return;
    }
    if (l->heap_count == l->heap_cap) {
        l->heap_cap = l->heap_cap ? 2 * l->heap_cap : 64;
        l->heap = xrealloc(l->heap, l->heap_cap * sizeof(struct timer *));
    }
    heap_up(l, l->heap_count++, t);
}

void timer_cancel(struct loop *l, struct timer *t)
{
    if (!t->pos)
        return;
    uint32_t i = t->pos - 1;
    ensure(i < l->heap_count && l->heap[i] == t);
    t->pos = 0;
    struct timer *last = l->heap[--l->heap_count];
    if (last != t)
        heap_settle(l, i, last);
}

static void run_timers(struct loop *l)
{
    while (l->heap_count && l->heap[0]->at_ns <= l->now_ns) {
        struct timer *t = l->heap[0];
        timer_cancel(l, t);
        t->fn(t);
    }
}

/* --- the turn --- */

static void run_messages(struct loop *l)
{
    l->own_post = false;
    struct msg *m = mailbox_take(&l->box);
    while (m) {
        struct msg *next = m->next; /* fn may free or post the message again */
        struct loop_msg *lm = (struct loop_msg *)m;
        lm->fn(lm);
        m = next;
    }
}

static int wait_ms(struct loop *l)
{
    if (l->dirty || l->own_post || atomic_load_explicit(&l->stop, memory_order_relaxed))
        return 0;
    if (!l->heap_count)
        return -1;
    uint64_t at = l->heap[0]->at_ns, now = mono_ns();
    if (at <= now)
        return 0;
    uint64_t ms = (at - now + NS_PER_MS - 1) / NS_PER_MS; /* rounded up: never early, never spins */
    return ms > 60000 ? 60000 : (int)ms;
}

static void take_events(struct loop *l, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(l->epoll_fd, events, EVENTS_MAX, timeout_ms);
    ensure(n >= 0 || errno == EINTR);
    l->now_ns = mono_ns();
    for (int i = 0; i < n; i++) {
        struct source *s = events[i].data.ptr;
        if (s) {
            s->ready(s, events[i].events);
            continue;
        }
        uint64_t count;
        ssize_t got = read(l->event_fd, &count, sizeof count);
        ensure(got == sizeof count || errno == EAGAIN);
    }
}

static void end_turn(struct loop *l)
{
    run_messages(l);
    run_timers(l);
    conns_end_turn(l);
    free_retired(l);
    run_messages(l); /* what the end of the turn posted to its own loop */
}

void loop_poll(struct loop *l)
{
    ensure(!atomic_load(&l->owner));
    take_events(l, 0);
    end_turn(l);
}

void loop_settle(struct loop *l)
{
    ensure(!atomic_load(&l->owner));
    end_turn(l);
}

void loop_run(struct loop *l)
{
    atomic_store(&l->owner, (uint64_t)pthread_self() + 1);
    end_turn(l); /* what was posted or written before the loop ran */
    while (!atomic_load_explicit(&l->stop, memory_order_relaxed)) {
        take_events(l, wait_ms(l));
        end_turn(l);
    }
    atomic_store(&l->owner, 0);
    atomic_store(&l->stop, false);
}
