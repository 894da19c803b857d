/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines, counters, threads and mailboxes. */
#include "tests/harness.h"

#include "base/log.h"
#include "base/os/thread.h"
#include "base/stats.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Standard error goes into a file of the test's directory. */
static char path[128];

static void catch_stderr(void)
{
    snprintf(path, sizeof path, "%s/stderr", test_dir());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    close(fd);
}

static struct str caught(void)
{
    static char text[1 << 16];
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    return str_of(text, n > 0 ? (size_t)n : 0);
}

static size_t lines(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

static bool contains(struct str s, const char *needle)
{
    return s.n && memmem(s.p, s.n, needle, strlen(needle));
}

TEST(log_text_lines)
{
    catch_stderr();
    log_setup(LOG_INFO, LOG_TEXT);
    log_debug("area", "not shown");
    log_info("area", "%s", "a\nb\x1b[31m\\ \xc3\xa4 \xff \xc2\x9b");
    struct str s = caught();
    CHECK_INT(lines(s), 1);
    CHECK(s.n > 24 && s.p[4] == '-' && s.p[10] == 'T' && s.p[19] == '.' && s.p[23] == 'Z');
    CHECK_STR(str_skip(s, 24), STR(" INFO  area: a\\x0ab\\x1b[31m\\\\ \xc3\xa4 \\xff \\x9b\n"));
}

TEST(log_json_lines)
{
    catch_stderr();
    log_setup(LOG_DEBUG, LOG_JSON);
    log_error("area", "say \"%s\"", "a\nb\xff");
    CHECK_STR(str_skip(caught(), 33),
              STR("\",\"level\":\"error\",\"area\":\"area\",\"message\":\"say "
                  "\\\"a\\u000ab\\u00ff\\\"\"}\n"));
    CHECK(str_starts(caught(), STR("{\"time\":\"20")));
}

TEST(log_long_messages_are_cut)
{
    catch_stderr();
    log_setup(LOG_INFO, LOG_TEXT);
    char *text = xmalloc(100001);
    memset(text, '\n', 100000);
    text[100000] = '\0';
    log_info("area", "%s", text);
    CHECK(lines(caught()) == 1 && caught().n < 8000);
    free(text);
}

TEST(log_a_site_does_not_flood)
{
    catch_stderr();
    log_setup(LOG_INFO, LOG_TEXT);
    static struct log_site site;
    for (int i = 0; i < 1000; i++)
        log_line(&site, LOG_WARN, "area", "again");
    /* A window may end while we write, once. */
    CHECK(lines(caught()) >= LOG_BURST && lines(caught()) <= 2 * LOG_BURST + 1);
    CHECK(atomic_load(&site.left_out) > 0);
    atomic_store(&site.left_out, 990);
    atomic_store(&site.window_s, 1); /* long ago */
    log_line(&site, LOG_WARN, "area", "last");
    CHECK(contains(caught(), "990 lines like the next were left out"));
    CHECK(contains(caught(), "area: last\n"));
}

TEST(log_levels)
{
    enum log_level level;
    CHECK(log_level_from(STR("WARN"), &level) && level == LOG_WARN);
    CHECK(!log_level_from(STR("loud"), &level) && !log_level_from(STR(""), &level));
    log_setup(LOG_ERROR, LOG_TEXT);
    CHECK(log_on(LOG_ERROR) && !log_on(LOG_WARN));
}

TEST(stats_print_as_prometheus_reads)
{
    stat_add(STAT_SPANS_ACCEPTED, 40);
    stat_add(STAT_SPANS_ACCEPTED, 2);
    stat_set(STAT_CONNS_OPEN, 7);
    stat_add(STAT_SPANS_REJECTED_DEPTH, 3);
    struct buf out = buf_init(MIB);
    stats_write(&out);
    struct str s = buf_str(&out);
    CHECK(
        contains(s, "# TYPE lymer_spans_accepted_total counter\nlymer_spans_accepted_total 42\n"));
    CHECK(contains(s, "# TYPE lymer_connections_open gauge\nlymer_connections_open 7\n"));
    CHECK(contains(s, "lymer_spans_rejected_total{reason=\"depth\"} 3\n"));
    const char *first = memmem(s.p, s.n, "# HELP lymer_spans_rejected_total ", 34);
    CHECK(first && !memmem(first + 1, (size_t)(s.p + s.n - first) - 1,
                           "# HELP lymer_spans_rejected_total ", 34));
    buf_fini(&out);
}

/* --- threads --- */

static void note_signals(void *arg)
{
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    char name[32];
    pthread_getname_np(pthread_self(), name, sizeof name);
    *(bool *)arg = sigismember(&now, SIGTERM) && sigismember(&now, SIGINT) &&
                   strcmp(name, "a-thread-with-a") == 0;
}

TEST(thread_blocks_signals_and_has_a_name)
{
    struct thread t = {0};
    bool ok = false;
    thread_start(&t, "a-thread-with-a-long-name", note_signals, &ok);
    thread_join(&t);
    thread_join(&t); /* nothing to join: fine */
    CHECK(ok);
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    CHECK(!sigismember(&now, SIGTERM));
    CHECK(thread_cpus() >= 1);
}

struct number {
    struct msg msg;
    unsigned sender, value;
};

struct sender {
    struct mailbox *box;
    unsigned number, count;
};

static void send_all(void *arg)
{
    struct sender *s = arg;
    for (unsigned i = 0; i < s->count; i++) {
        struct number *n = xcalloc(1, sizeof *n);
        n->sender = s->number;
        n->value = i;
        while (!mailbox_post(s->box, &n->msg))
            sched_yield();
    }
}

static void count_wake(void *arg)
{
    ++*(_Atomic unsigned *)arg;
}

TEST(mailbox_keeps_the_order_of_each_sender)
{
    struct mailbox box;
    mailbox_init(&box, 50);
    _Atomic unsigned wakes = 0;
    box.wake = count_wake;
    box.wake_arg = &wakes;
    struct sender senders[3];
    struct thread threads[3] = {0};
    unsigned next[3] = {0}, total = 0;
    for (unsigned i = 0; i < 3; i++) {
        senders[i] = (struct sender){&box, i, 5000};
        thread_start(&threads[i], "sender", send_all, &senders[i]);
    }
    while (total < 15000) {
        struct msg *m = mailbox_wait(&box, 60 * NS_PER_S);
        CHECK(m);
        while (m) {
            struct number *n = (struct number *)m;
            m = m->next;
            CHECK_INT(n->value, next[n->sender]++);
            total++;
            free(n);
        }
    }
    for (unsigned i = 0; i < 3; i++)
        thread_join(&threads[i]);
    CHECK(wakes > 0 && wakes <= 15000);
    mailbox_fini(&box);
}

TEST(mailbox_is_bounded_and_closes)
{
    struct mailbox box;
    mailbox_init(&box, 2);
    struct msg a, b, c;
    CHECK(!mailbox_take(&box) && !mailbox_wait(&box, 0) && !mailbox_wait(&box, 1000));
    CHECK(mailbox_post(&box, &a) && mailbox_post(&box, &b) && !mailbox_post(&box, &c));
    struct msg *m = mailbox_take(&box);
    CHECK(m == &a && m->next == &b && !b.next);
    CHECK(mailbox_post(&box, &c));
    mailbox_close(&box);
    CHECK(mailbox_is_closed(&box) && !mailbox_post(&box, &a));
    CHECK(mailbox_wait(&box, UINT64_MAX) == &c);
    CHECK(!mailbox_wait(&box, UINT64_MAX)); /* closed: does not wait */
    mailbox_fini(&box);
}
