/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs a harness where there is no libFuzzer, with libFuzzer's options:
 *
 *   HARNESS [-seed=N] [-runs=N] [-max_total_time=S] [-max_len=N] [-timeout=S]
 *           [-merge=1] [-artifact_prefix=P] FILE... | DIRECTORY...
 *
 * Files are tried once each. Directories have inputs to begin with; what is tried then is
 * changed from them, and each one that reaches code that none before did is changed in
 * its turn, and kept in the first directory. Without -max_total_time a seed always gives
 * the same inputs. With -merge=1 nothing is changed: of the inputs in the directories
 * after the first, those that reach more code are kept there. What ends the process is left in a file P + "crash-" or "timeout-" and
 * a number.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

enum {
    INPUT_MAX = 1 << 16,
    POOL_MAX = 1 << 14,
    EDGES = 1 << 16, /* a power of two */
    CHANGES_MAX = 8,
};

struct bytes {
    uint8_t *data;
    size_t len;
};

static struct {
    uint64_t seed, runs, max_total_time, max_len, timeout, merge;
    const char *artifact_prefix;
    const char *directory;
} options = {.seed = 1, .runs = UINT64_MAX, .max_len = 2048, .timeout = 10,
             .artifact_prefix = ""};

static struct bytes pool[POOL_MAX];
static size_t pool_size;
static uint64_t random_state;

/* What is being tried, for whoever writes it down when that ends the process. */
static uint8_t current[INPUT_MAX];
static size_t current_len;

/* ---- which code was reached ---- */

static uint8_t reached[EDGES];
static uint64_t nr_edges;

void __sanitizer_cov_trace_pc(void);

/* gcc has it called on each edge of what was built with -fsanitize-coverage=trace-pc. */
void __sanitizer_cov_trace_pc(void)
{
    static uintptr_t before;
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uint8_t *edge = &reached[(here ^ before) % EDGES];

    before = here << 4;
    if (*edge == 0) {
        *edge = 1;
        nr_edges++;
    }
}

/* ---- what goes wrong ---- */

static uint64_t hash(const uint8_t *data, size_t len)
{
    uint64_t sum = 0xcbf29ce484222325; /* FNV-1a */

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ data[i]) * 0x100000001b3;
    return sum;
}

static void write_file(const char *path, const uint8_t *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        perror(path);
    close(fd);
}

static void leave_artifact(const char *kind)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s%s-%016" PRIx64, options.artifact_prefix, kind,
             hash(current, current_len));
    write_file(path, current, current_len);
    fprintf(stderr, "Test unit written to %s\n", path);
}

/* The sanitizers end in abort(), too. */
static void on_abort(int number)
{
    signal(number, SIG_DFL);
    leave_artifact("crash");
}

static void on_alarm(int number)
{
    (void)number;
    leave_artifact("timeout");
    signal(SIGABRT, SIG_DFL);
    abort();
}

/* ---- trying ---- */

static void try_current(void)
{
    alarm((unsigned)options.timeout);
    LLVMFuzzerTestOneInput(current, current_len);
    alarm(0);
    fuzz_counts->edges = nr_edges;
}

static void add_to_pool(void)
{
    struct bytes *added = &pool[pool_size];

    if (pool_size == POOL_MAX)
        return;
    added->data = malloc(current_len + 1);
    if (!added->data)
        exit(2);
    memcpy(added->data, current, current_len);
    added->len = current_len;
    pool_size++;
}

static void read_file(const char *path)
{
    FILE *file = fopen(path, "rbe");

    if (!file) {
        perror(path);
        exit(2);
    }
    current_len = fread(current, 1, sizeof(current), file);
    fclose(file);
}

static void keep(void)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%016" PRIx64, options.directory,
             hash(current, current_len));
    write_file(path, current, current_len);
}

/* An input of a directory's. */
static void begin_with(const char *path)
{
    uint64_t before = nr_edges;

    read_file(path);
    add_to_pool();
    try_current();
    if (options.merge && nr_edges > before)
        keep();
}

static void read_directory(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);

    if (count < 0) {
        perror(path);
        exit(2);
    }
    for (int i = 0; i < count; i++) {
        char name[4096];

        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            begin_with(name);
        free(entries[i]);
    }
    free(entries);
}

/* ---- changing ---- */

/* Of 0 and up, below @bound; xorshift64*. */
static size_t random_below(size_t bound)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (size_t)((random_state * 0x2545f4914f6cdd1d) >> 33) % bound;
}

/* Make room for @len bytes at @at. Return: how many there are room for. */
static size_t open_gap(size_t at, size_t len)
{
    if (len > options.max_len - current_len)
        len = options.max_len - current_len;
    memmove(current + at + len, current + at, current_len - at);
    current_len += len;
    return len;
}

static void insert(size_t at, const uint8_t *data, size_t len)
{
    memcpy(current + at, data, open_gap(at, len));
}

static void erase(size_t at, size_t len)
{
    if (len > current_len - at)
        len = current_len - at;
    memmove(current + at, current + at + len, current_len - at - len);
    current_len -= len;
}

/* A piece of any input. */
static struct bytes random_piece(void)
{
    struct bytes piece = pool[random_below(pool_size)];
    size_t start = random_below(piece.len + 1);

    piece.data += start;
    piece.len = random_below(piece.len - start + 1);
    return piece;
}

static void change(void)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0x10, 4, 20};
    uint8_t small[4];
    size_t at = random_below(current_len + 1);
    struct bytes piece = random_piece();

    if (piece.len > 64 && random_below(4))
        piece.len = 64;
    for (size_t i = 0; i < sizeof(small); i++)
        small[i] = random_below(2) ? edges[random_below(sizeof(edges))]
                                   : (uint8_t)random_below(256);
    switch (random_below(8)) {
    case 0:
    case 1:
        if (at < current_len)
            current[at] = small[0];
        break;
    case 2:
        if (at < current_len)
            current[at] ^= (uint8_t)(1u << random_below(8));
        break;
    case 3:
        if (at < current_len)
            current[at] = (uint8_t)(current[at] + random_below(35) - 17);
        break;
    case 4:
        insert(at, small, 1 + random_below(sizeof(small)));
        break;
    case 5:
        erase(at, 1 + random_below(random_below(4) ? 4 : 64));
        break;
    case 6:
        insert(at, piece.data, piece.len);
        break;
    default:
        if (piece.len > current_len - at)
            piece.len = current_len - at;
        memcpy(current + at, piece.data, piece.len);
    }
}

static void next_input(void)
{
    const struct bytes *from = &pool[random_below(pool_size)];
    size_t changes = 1 + random_below(CHANGES_MAX);

    current_len = from->len < options.max_len ? from->len : options.max_len;
    memcpy(current, from->data, current_len);
    while (changes-- > 0)
        change();
}

static void fuzz(void)
{
    time_t end = time(NULL) + (time_t)options.max_total_time;

    if (pool_size == 0) {
        current_len = 0;
        add_to_pool();
    }
    for (uint64_t run = 0; run < options.runs; run++) {
        uint64_t before = nr_edges;

        if (options.max_total_time > 0 && time(NULL) >= end)
            break;
        next_input();
        try_current();
        if (nr_edges > before) {
            add_to_pool();
            keep();
        }
    }
}

/* ---- the command line ---- */

static bool is_number_option(const char *argument, const char *name, uint64_t *value)
{
    size_t len = strlen(name);

    if (strncmp(argument, name, len) != 0)
        return false;
    *value = strtoull(argument + len, NULL, 10);
    return true;
}

static void read_option(const char *argument)
{
    static const char prefix[] = "-artifact_prefix=";

    if (strncmp(argument, prefix, sizeof(prefix) - 1) == 0)
        options.artifact_prefix = argument + sizeof(prefix) - 1;
    else if (!is_number_option(argument, "-seed=", &options.seed) &&
             !is_number_option(argument, "-runs=", &options.runs) &&
             !is_number_option(argument, "-max_total_time=",
                               &options.max_total_time) &&
             !is_number_option(argument, "-max_len=", &options.max_len) &&
             !is_number_option(argument, "-merge=", &options.merge) &&
             !is_number_option(argument, "-timeout=", &options.timeout)) {
        fprintf(stderr, "no such option: %s\n", argument);
        exit(2);
    }
}

static bool is_directory(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int main(int argc, char **argv)
{
    signal(SIGABRT, on_abort);
    signal(SIGALRM, on_alarm);
    for (int i = 1; i < argc; i++)
        if (argv[i][0] == '-')
            read_option(argv[i]);
    if (options.max_len > INPUT_MAX)
        options.max_len = INPUT_MAX;
    random_state = options.seed * 2 + 1; /* never 0 */
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            continue;
        if (is_directory(argv[i])) {
            if (!options.directory)
                options.directory = argv[i];
            read_directory(argv[i]);
        } else {
            read_file(argv[i]);
            try_current();
        }
    }
    if (options.directory && !options.merge)
        fuzz();
    printf("inputs %" PRIu64 ", slots %" PRIu64 ", edges %" PRIu64 "\n",
           fuzz_counts->inputs, fuzz_counts->slots, fuzz_counts->edges);
    return 0;
}
