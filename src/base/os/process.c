/* SPDX-License-Identifier: Apache-2.0 */
#include "base/os/process.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void read_memory(struct process_usage *u)
{
    unsigned long long pages, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return;
    if (fscanf(f, "%llu %llu", &pages, &resident) == 2) {
        uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        u->virtual_bytes = pages * page;
        u->resident_bytes = resident * page;
    }
    fclose(f);
}

static void count_files(struct process_usage *u)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        u->files_max = limit.rlim_cur;
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return;
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        u->files_open += e->d_name[0] != '.';
    closedir(d);
    u->files_open -= u->files_open > 0; /* the directory itself */
}

void process_usage(struct process_usage *u)
{
    *u = (struct process_usage){0};
    struct timespec cpu;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
        u->cpu_ns = (uint64_t)cpu.tv_sec * NS_PER_S + (uint64_t)cpu.tv_nsec;
    read_memory(u);
    count_files(u);
}

void process_trim_memory(void)
{
    malloc_trim(0);
}
