/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libFuzzer: runs the target over every file of the directories given, so that a
 * corpus is a test in every build. Without a single input it fails: a test that ran nothing proved
 * nothing. Each input is handed over in memory of exactly its size, so that a checker sees an
 * over-read. */
#include "base/os/os.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_MAX (64 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct replay {
    const char *dir;
    size_t inputs;
    bool failed;
};

static void replay_one(void *arg, const char *name)
{
    struct replay *r = arg;
    char path[PATH_MAX];
    struct buf in = buf_init(INPUT_MAX);
    struct err e = {0};
    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    if (os_read_file(os_posix(), path, &in, &e) != E_OK) {
        fprintf(stderr, "%s\n", err_msg(&e));
        r->failed = true;
    } else {
        uint8_t *exact = xmalloc(in.n);
        if (in.n)
            memcpy(exact, in.p, in.n);
        LLVMFuzzerTestOneInput(exact, in.n);
        free(exact);
        r->inputs++;
    }
    buf_fini(&in);
}

int main(int argc, char **argv)
{
    struct replay r = {0};
    for (int i = 1; i < argc; i++) {
        struct err e = {0};
        r.dir = argv[i];
        if (os_list(os_posix(), r.dir, replay_one, &r, &e) != E_OK) {
            fprintf(stderr, "%s\n", err_msg(&e));
            r.failed = true;
        }
    }
    const char *slash = strrchr(argv[0], '/');
    printf("%s: %zu inputs\n", slash ? slash + 1 : argv[0], r.inputs);
    return r.failed || r.inputs == 0;
}
