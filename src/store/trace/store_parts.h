/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of the store, shared by its files: store.c (door, writer, syncer), recover.c,
 * build.c, compact.c, rewrite.c, redact.c, audit.c, retention.c, snapshot.c.
 *
 * Who changes what: the writer adds to the active memtable and freezes it; the builder turns frozen
 * memtables into blocks, merges blocks and drops old ones. Each such step makes a new `version` and
 * swaps it in under the lock. A version is immutable but for what the writer appends to its first
 * memtable, so a reader that holds one needs no lock. */
#ifndef LYMER_STORE_TRACE_STORE_PARTS_H
#define LYMER_STORE_TRACE_STORE_PARTS_H

#include "store/trace/block.h"
#include "store/trace/catalog.h"
#include "store/trace/deps.h"
#include "store/trace/edit.h"
#include "store/trace/manifest.h"
#include "store/trace/room.h"
#include "store/trace/rules.h"
#include "store/trace/wal.h"

#define STORE_FORMAT      1
#define STORE_FORMAT_TEXT "lymer trace store format "
#define STORE_UNFINISHED  "a backup that was not finished"
#define STORE_BLOCK_FILE  (BATCH_TENANT_MAX + 32) /* bytes of the name of a block's file */
#define FROZEN_MAX        3u /* memtables waiting for the builder; past it appends are refused … */
/* … as they are when all memtables hold so much: one batch may be larger than memtable_bytes. */
#define HELD_MAX(config)   ((FROZEN_MAX + 1) * (config).memtable_bytes)
#define RECENT_MAX         6u              /* span indexes of built memtables that are kept */
#define RETRY_NS           NS_PER_S        /* after a failed build, and while the disk is full */
#define PROBE_NS           (NS_PER_S / 10) /* between looks for space when the log cannot grow */
#define MAINTAIN_NS        (10 * NS_PER_S) /* between looks at retention, at most … */
#define EXPIRY_NS          (NS_PER_S / 10) /* … and at least, when blocks expire one by one */
#define PARENT_BLOCKS_MAX  64u             /* older blocks asked for the parent of one span */
#define PARENT_ASKS_MAX    16384u          /* blocks read for parents by one build, or one query */
#define WINDOWS            16u /* in the retention time: how much longer than that a span may stay */
#define UNREADABLE_MAX     5u
#define PARENT_LOOKBACK_NS (3600 * NS_PER_S) /* a parent starts at most this before its child … */
#define PARENT_SKEW_NS     (60 * NS_PER_S)   /* … or, with skewed clocks, this after it */

/* A block and what the manifest says of it. */
struct part {
    _Atomic uint32_t refs;
    _Atomic bool dropped; /* the file goes with the last reference: no edit names it */
    uint64_t id;
    uint32_t tenant;
    uint64_t spans, bytes, min_ns, max_ns; /* starts */
    uint64_t end_ns;                       /* when the newest came */
    uint64_t kept_ns; /* rules have decided: it stays so long after end_ns; 0: they have not */
    /* The number of the oldest memtable it was built from; 0: before this start. */
    uint64_t memtable;
    _Atomic bool left_alone; /* it could not be merged or judged; the builder says so */
    _Atomic bool damaged;    /* and that questions have met damage in it */
    unsigned unreadable;     /* times it could not be judged; builder only */
    struct block *block;
    struct os *os;
    char *path;
};

struct part *part_ref(struct part *p);
void part_unref(struct part *p);
/* A question found something that cannot be read: counted and said, once for each block. */
void part_damaged(struct part *p, const struct err *why);
/* An edit has given the part up: its file loses its name at once, so that the space is visible.
 * Whoever holds a reference reads on. */
void part_remove(struct part *p);

struct version {
    _Atomic uint32_t refs;
    size_t mem_n, part_n, recent_n;
    struct memtable **mem; /* newest first; the first is active */
    struct part **parts;   /* by id */
    struct deps *deps;
    struct orphans *orphans;
    struct span_index *recent[RECENT_MAX]; /* newest first */
    uint64_t recent_memtable;              /* number of the oldest memtable they cover; 0: none */
};

/* A copy with references of its own; room for `more` parts. */
struct version *version_copy(const struct version *v, size_t more);
struct version *version_ref(struct version *v);
void version_unref(struct version *v);
/* Blocks of the tenant with starts in [min, max], the newest first; to be freed. */
struct part **version_parts(const struct version *v, uint32_t tenant, uint64_t min_ns,
                            uint64_t max_ns, size_t *n);

struct snap {
    _Atomic uint32_t refs;
    struct store *store;
    struct version *version;
    uint32_t active_count; /* entries of the version's first memtable when the snapshot was made */
};

static inline uint32_t snap_mem_count(const struct snap *s, size_t i)
{
    return i == 0 ? s->active_count : memtable_count(s->version->mem[i]);
}

/* A ticket and its fate, while the writer works on it. */
struct pending {
    struct store_ticket *ticket;
    enum errc result;
};

struct build;
struct compaction;
struct judge;

/* A part of a block that becomes a block, and how long that one is kept (0: as before). */
struct rewrite_class {
    struct merge_change change;
    uint64_t kept_ns;
};

/* What an asker and the builder tell each other about blocks to be rewritten: rewrite.c. */
struct rewriting {
    struct rewrite_class class;
    bool paused;       /* the builder merges nothing of its own accord until this ends */
    struct part *part; /* to be rewritten now; the builder takes it away when it is done */
    bool answered;
    struct err error; /* what came of it */
};

struct store {
    struct store_config config; /* retention, disk cap, sync: under lock */
    struct room *room;
    struct os *os; /* the room's: what is written is counted */
    char *dir, *blocks_dir, *wal_dir;
    struct os_file *lock_file;
    struct wal *wal; /* NULL: no log */
    struct manifest *manifest;
    struct catalog *catalog;
    struct mailbox queue;
    struct msg wake; /* posted to make the writer look */
    struct thread writer, builder, syncer;

    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t work;  /* builder: something was frozen, or stop */
    pthread_cond_t built; /* flushers: a build ended */
    pthread_cond_t dirty; /* syncer: the log has unsynced records, or stop */
    struct version *version;
    char *rules_text;     /* "": none */
    uint64_t freeze_upto; /* memtables up to this number are to be frozen: a flush */
    uint64_t build_attempts;
    struct err build_error; /* of the last attempt; E_OK */
    uint64_t scrub_upto;    /* likewise, also when they are empty: their log segments must go */
    struct rewriting *rewriting; /* NULL: nobody asks */
    bool rewriting_stopped;
    bool syncer_idle; /* waits for the log to get dirty */
    bool wake_posted, stop_writer, stop_builder, stop_syncer;

    _Atomic bool disk_full;      /* the log cannot grow */
    _Atomic bool blocks_full;    /* the last build failed for lack of space */
    _Atomic bool room_wanted;    /* the log has found the cap reached: something old must go */
    _Atomic uint32_t frozen;     /* frozen memtables */
    _Atomic bool active_full;    /* it is to be frozen */
    _Atomic uint64_t held_bytes; /* of all memtables */

    /* writer only */
    struct memtable *active; /* the version's first */
    struct pending *group;
    struct str *images;
    size_t group_cap;
    uint64_t probe_at_ns;
    uint64_t key_seed; /* of memtables */

    /* builder only */
    struct block_builder *block_builder;
    struct build *build;                /* built but not committed */
    struct compaction *compaction;      /* a merge on its way */
    struct judge *judge;                /* a decision by rule on its way */
    uint64_t compact_at_ns;             /* not before */
    size_t compact_backlog;             /* blocks that might be merged, when last looked */
    bool backlog_said;                  /* that the I/O budget holds it back */
    uint64_t step_begun_ns, step_bytes; /* the last step, and what it read and wrote */
    uint64_t next_block, retry_at_ns, maintain_at_ns;
    /* build_attempts when retention last ran, and when memory was last given back */
    uint64_t attempts_maintained, attempts_trimmed;
    unsigned unreadable;   /* times a block could not be asked for a parent since the last build */
    uint64_t released;     /* log segments up to this are in blocks */
    uint64_t synced_at_ns; /* syncer only */
};

struct version *store_version(struct store *s); /* the current one, referenced */
/* store_flush; scrub: also the log segments of an empty memtable are ended and released. */
MUST_CHECK enum errc store_build_all(struct store *s, bool scrub, struct err *e);
/* Lock held. How long anything may be kept, and so its names; 0: for ever. */
uint64_t store_names_ns(const struct store *s);
char *store_path(const char *dir, const char *name);

/* The names in a directory, so that it can be changed while they are gone through. */
struct name_list {
    char **v;
    size_t n, cap;
};
MUST_CHECK enum errc name_list_read(struct os *os, const char *dir, struct name_list *l,
                                    struct err *e);
void name_list_fini(struct name_list *l);
void store_block_file(uint64_t id, struct str tenant, char name[STORE_BLOCK_FILE]);
char *store_block_path(const struct store *s, uint64_t id, struct str tenant);

/* recover.c */
MUST_CHECK enum errc store_recover(struct store *s, struct err *e);
/* E_OK when the directory may be opened by this version, *fresh when there is no store in it. */
MUST_CHECK enum errc store_check_format(struct os *os, const char *dir, bool *fresh, struct err *e);
/* The same, and there must be one: E_NOT_FOUND; E_CORRUPT when it has lost its FORMAT file. */
MUST_CHECK enum errc store_check_there(struct os *os, const char *dir, struct err *e);
/* "0000000000000012.tenant.blk" */
bool store_block_name(const char *name, uint64_t *id, struct str *tenant);

/* What the manifest says, read without opening blocks. */
struct manifest_block {
    uint64_t id, spans, bytes, min_ns, max_ns, end_ns, kept_ns;
    uint32_t tenant;
};

struct manifest_state_in {
    struct catalog *catalog;
    struct manifest_block *blocks;
    size_t block_n, block_cap;
    struct dep_list deps;
    struct orphans *orphans;
    uint64_t released, next_block;
    uint32_t now_minute;
    uint32_t noted; /* of the newest orphan that is not of the future: a clock was ahead */
};

/* Is the unreadable end of the manifest more than a commit that a crash cut short? A block that it
 * does not name is all there is of its spans when the log was released further than the manifest
 * says, and when blocks that it names are gone, for they were merged into it. */
enum lost_end { END_UNFINISHED, END_OF_BUILD, END_OF_MERGE };
MUST_CHECK enum errc store_end_is_lost(struct os *os, const char *dir,
                                       const struct manifest_state_in *in,
                                       const struct manifest_report *report, enum lost_end *lost,
                                       struct err *e);

enum errc manifest_state_apply(void *arg, struct str payload); /* a manifest_apply */
void manifest_state_fini(struct manifest_state_in *in);

/* backup.c, repair.c: from outside of any open store. */
/* An empty state, with a catalogue of its own, for manifest_state_apply. */
void store_state_init(struct manifest_state_in *in);
void store_state_free(struct manifest_state_in *in);

/* verify.c: what store_verify found, for repair. */
enum damage_kind { DAMAGE_MANIFEST, DAMAGE_BLOCK, DAMAGE_LOG };

struct damage {
    enum damage_kind kind;
    enum errc code;
    char *file;                  /* in its folder */
    struct manifest_block block; /* DAMAGE_BLOCK */
    char *tenant;                /* its name */
};

struct damages {
    struct damage *v;
    size_t n, cap;
};

MUST_CHECK enum errc store_inspect(struct os *os, const char *dir,
                                   void (*say)(void *arg, const char *line), void *arg,
                                   struct damages *out, struct err *e);
void damages_fini(struct damages *d);

/* "12 spans of tenant default that began between … and …" */
#define CARE_RANGE_TEXT (BATCH_TENANT_MAX + 160)
struct care_range {
    uint64_t spans, min_ns, max_ns;
};
void care_range_text(const struct care_range *r, struct str tenant, char out[CARE_RANGE_TEXT]);

/* build.c; builder thread or store_step. */
enum build_result { BUILD_NOTHING, BUILD_DONE, BUILD_FAILED };
enum build_result store_build_step(struct store *s);
void store_write_state(void *arg, struct buf *out); /* a manifest_state */
void store_build_abandon(struct store *s);
void edit_block(struct edit *edit, const struct part *p);
/* The parent of some span. */
struct parent_key {
    uint64_t print;
    const uint8_t *trace_id, *parent_id;
    uint64_t child_ns; /* start of the child's minute */
};

/* A search for the parents of many spans, in one version. Spans of a trace come together: which
 * blocks may have it is found out once. */
struct parent_search {
    const struct version *version;
    uint32_t tenant;
    uint32_t asks; /* blocks that may still be read */
    uint8_t trace_id[16];
    uint64_t child_ns;
    struct part *may[PARENT_BLOCKS_MAX]; /* of this trace and minute, newest first */
    size_t may_n;
    bool known, cut; /* cut: there are more blocks than are asked */
};

/* Looks for the span in the indexes, then in older blocks of its tenant. A search that a limit cuts
 * is counted and finds nothing. */
MUST_CHECK enum errc store_find_parent(struct store *s, struct parent_search *search,
                                       const struct parent_key *key, bool *found, uint32_t *service,
                                       struct err *e);

/* compact.c; same thread. One step; returns how long it may rest, 0 when there is more to do now,
 * UINT64_MAX when there is nothing. */
uint64_t store_compact_step(struct store *s, bool builder_waits);
/* Lock held. How long the I/O budget lets no step begin; 0: one may. */
uint64_t store_compact_io_rest(const struct store *s);
void store_compact_abandon(struct store *s);
/* True between a merge's last byte and its commit: no other edit may come between two tries. */
bool store_compact_commits(const struct store *s);

/* For rewrite.c; same thread. The merge on its way ends: it is given up or, when its edit may have
 * reached the disk, made official. */
MUST_CHECK enum errc store_compact_settle(struct store *s, struct err *e);
/* One step of rewriting a block, each class into a block of its own, once everything is settled. No
 * classes: as it is. After an error
 * *done is true, and the block is as it was or, when only the commit failed, either. */
MUST_CHECK enum errc store_compact_rewrite(struct store *s, struct part *p,
                                           const struct rewrite_class *class, size_t class_n,
                                           bool *done, struct err *e);
/* Blocks whose newest span came in one such window may be merged. */
uint64_t store_window_ns(const struct store_config *c);

/* rewrite.c. Looks at each block of a tenant and puts those that look() says so through the
 * change, one at a time, each by one manifest edit; the log of what was acknowledged before is
 * removed. Everything acknowledged before the call is looked at, nothing that comes later. One at a
 * time: E_UNAVAILABLE. A block that cannot be read or written is counted, said to the log, and
 * left; other errors end it, and it may be repeated. */
struct rewrite {
    uint32_t tenant;
    struct merge_change change;
    bool look_only;
    enum errc (*look)(void *arg, struct block *b, bool *touched, struct err *e);
    /* The block was looked at and touched, and is rewritten unless look_only. */
    void (*touched)(void *arg);
    void *arg;
};

struct rewritten {
    uint64_t blocks, failed;
    uint64_t held;      /* files that are given up but could not be removed */
    uint64_t set_aside; /* files in damaged/, which nobody can look into */
};

MUST_CHECK enum errc store_rewrite(struct store *s, const struct rewrite *r, struct rewritten *out,
                                   struct err *e);
uint64_t store_rewrite_step(struct store *s); /* the builder's part, instead of merging */
bool store_rewrite_asked(struct store *s);
bool store_rewrite_stopped(struct store *s);     /* the server stops: nobody waits for minutes */
bool store_rewrite_waits(const struct store *s); /* lock held: has it something to do now? */

#define AUDIT_LINE_MAX (256 * KIB)
/* audit.c. Appends a line to DIR/audit.log: the time, then the text; durable when E_OK. */
MUST_CHECK enum errc store_audit(struct store *s, struct str text, struct err *e);

/* decide.c; same thread. The rules' next step: reading, or a block to be rewritten. */
#define DECIDE_PAUSE_NS (60 * NS_PER_S) /* after a failure */
enum decide_result { DECIDE_NOTHING, DECIDE_BUSY, DECIDE_REWRITE };
enum decide_result store_decide_step(struct store *s, const struct store_config *c,
                                     struct part **part, const struct rewrite_class **class,
                                     size_t *class_n);
void store_decide_abandon(struct store *s);

/* retention.c; same thread. Drops what has expired and what the cap has no room for; returns how
 * long until the next block expires. */
uint64_t store_retain(struct store *s);
void store_make_room(void *store, uint64_t bytes); /* a room_make */
/* The smallest cap this configuration can work with. */
uint64_t store_least_disk(const struct store_config *c);
/* Tells the room the cap and what must stay free. */
void store_set_room(struct store *s);
MUST_CHECK enum errc store_drop_parts(struct store *s, const uint64_t *ids, size_t n,
                                      struct err *e);

#endif
