/* SPDX-License-Identifier: Apache-2.0 */
/* The tables the generator walks: services, and operations with their attributes and calls. */
#ifndef LYMER_APP_LOAD_OPS_H
#define LYMER_APP_LOAD_OPS_H

#include "base/base.h"
#include "model/batch.h"

#define OPS_ATTRS_MAX 16
#define OPS_CALLS_MAX 8
#define OPS_INSTANCES 3

/* How a value is made. What belongs to the visitor is the same in all spans of a trace. */
enum make {
    MAKE_TEXT,    /* text */
    MAKE_INT,     /* n */
    MAKE_PICK,    /* one of the words of text, separated by '|' */
    MAKE_RANGE,   /* an integer in [n, m] */
    MAKE_SKEWED,  /* an integer in [n, m], small ones far more often */
    MAKE_DOUBLE,  /* [n, m) with cents */
    MAKE_BOOL,    /* true in n of 100 */
    MAKE_UUID,    /* a new one */
    MAKE_SESSION, /* the visitor's, a uuid */
    MAKE_USER,    /* the visitor's, one of 50,000 */
    MAKE_ADDRESS, /* the visitor's IPv4 address */
    MAKE_AGENT,   /* the visitor's browser */
    MAKE_PRODUCT, /* one of 1,000 products; the same within a span */
    MAKE_PATH,    /* text, then the span's product */
    MAKE_POD,     /* address of one of the instances of a peer */
    MAKE_HTTP,    /* 200, or 500 when the span failed */
    MAKE_RPC,     /* 0, or 13 */
    MAKE_SEQUENCE /* grows with the trace number */
};

struct op_attr {
    const char *key; /* NULL: no more */
    enum make make;
    const char *text;
    int64_t n, m;
};

struct op_call {
    uint8_t op;
    uint8_t least, most; /* times; most 0: no more */
};

struct op {
    uint8_t service;
    enum span_kind kind;
    const char *name;
    uint32_t self_us; /* median of the time spent here, not in calls */
    struct op_attr attrs[OPS_ATTRS_MAX];
    struct op_call calls[OPS_CALLS_MAX];
};

struct op_service {
    const char *name, *version, *language, *runtime, *scope, *scope_version;
};

extern const struct op_service shop_services[];
extern const unsigned shop_service_count;
extern const struct op shop_ops[];
extern const unsigned shop_op_count;
/* Root operations with the share of traces each has, in percent; ends with share 0. */
extern const struct op_root {
    uint8_t op, share;
} shop_roots[];

/* One plain service and operation for the profiles that are about shape. */
extern const struct op_service plain_services[];
extern const unsigned plain_service_count;
extern const struct op plain_op;

#endif
