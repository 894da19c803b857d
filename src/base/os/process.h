/* SPDX-License-Identifier: Apache-2.0 */
/* What this process uses of the machine. */
#ifndef LYMER_BASE_OS_PROCESS_H
#define LYMER_BASE_OS_PROCESS_H

#include "base/base.h"

struct process_usage {
    uint64_t cpu_ns; /* user and system, all threads */
    uint64_t resident_bytes, virtual_bytes;
    uint64_t files_open, files_max;
};

/* What cannot be read is 0. Any thread. */
void process_usage(struct process_usage *u);

/* Gives free memory back to the system. Takes milliseconds after much was freed: for idle moments.
 */
void process_trim_memory(void);

#endif
