/* SPDX-License-Identifier: BSD-2-Clause */
#include "weak_memory.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { LOAD, STORE, FENCE, NOTIFY, SLEEP, FAIL, END };

struct op {
    enum kind kind;
    int order;
    int word;         /* of LOAD and STORE */
    uint32_t value;   /* that STORE stores */
    const char *what; /* of FAIL */
};

/*
 * What a thread may do is a tree, whose edges are steps: one for each value that a load
 * may have, else one. Node 0 is where it begins.
 */
struct node {
    int parent;
    uint32_t loaded; /* by the step that leads here */
    bool known;      /* what comes next */
    struct op next;
    int child[MODEL_VALUES]; /* 0: not yet made */
};

enum { NODES_MAX = 1 << 16, STEPS_MAX = 256, TRAIL_MAX = 1024, WINDOW = 32 };

static const struct model *model;
static struct node nodes[2][NODES_MAX];
static int nr_nodes[2];

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "weak_memory: %s\n", what);
    exit(2);
}

/* ---- running a thread up to its next step ---- */

static struct {
    jmp_buf stop;
    uint32_t loaded[STEPS_MAX];
    int len, at;
    struct op next;
} runner;

static uint32_t step(struct op op)
{
    if (runner.at == runner.len) {
        runner.next = op;
        longjmp(runner.stop, 1);
    }
    return runner.loaded[runner.at++];
}

static int number_of(const uint32_t *word)
{
    for (int i = 0; i < MODEL_WORDS && model->word[i]; i++)
        if (model->word[i] == word)
            return i;
    give_up("an access to a word that the model does not have");
}

uint32_t model_load(const uint32_t *word, int order)
{
    return step((struct op){.kind = LOAD, .order = order, .word = number_of(word)});
}

void model_store(uint32_t *word, uint32_t value, int order)
{
    int number = number_of(word);

    if (value >= MODEL_VALUES || !(model->values[number] >> value & 1))
        give_up("a value that nobody may store");
    step((struct op){STORE, order, number, value, NULL});
}

void model_fence(int order)
{
    step((struct op){.kind = FENCE, .order = order});
}

void model_notify(void)
{
    step((struct op){.kind = NOTIFY});
}

void model_sleep(void)
{
    step((struct op){.kind = SLEEP});
}

_Noreturn void model_fail(const char *what)
{
    step((struct op){.kind = FAIL, .what = what});
    give_up("a thread went on after it failed");
}

/* What the thread does at a node of its tree. */
static const struct op *next_op(int thread, int number)
{
    struct node *tree = nodes[thread], *node = &tree[number];

    if (node->known)
        return &node->next;
    runner.at = runner.len = 0;
    for (int i = number; i > 0; i = tree[i].parent)
        runner.len++;
    if (runner.len == STEPS_MAX)
        give_up("a thread does not end");
    for (int i = number, at = runner.len; i > 0; i = tree[i].parent)
        runner.loaded[--at] = tree[i].loaded;
    runner.next = (struct op){.kind = END};
    if (setjmp(runner.stop) == 0)
        model->thread[thread].run();
    node->next = runner.next;
    node->known = true;
    return &node->next;
}

static int child_of(int thread, int number, uint32_t loaded)
{
    int *child = &nodes[thread][number].child[loaded];

    if (*child == 0) {
        *child = ++nr_nodes[thread];
        if (*child == NODES_MAX)
            give_up("too many ways to go on");
        nodes[thread][*child].parent = number;
        nodes[thread][*child].loaded = loaded;
    }
    return *child;
}

/* ---- states ---- */

struct state {
    int at[2];           /* nodes: how far each has got in its program */
    uint32_t waiting[2]; /* bit k: the step k back from there is still to be performed */
    uint8_t memory[MODEL_WORDS];
    bool pending[2]; /* it was notified */
};

static struct state *seen;
static uint64_t nr_seen, seen_size; /* a power of two */

static uint64_t hash(const struct state *state)
{
    const uint8_t *bytes = (const uint8_t *)state;
    uint64_t sum = 0xcbf29ce484222325; /* FNV-1a */

    for (size_t i = 0; i < sizeof(*state); i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3;
    return sum ^ sum >> 32;
}

static bool is_free(const struct state *entry)
{
    return entry->at[0] < 0;
}

static struct state *entry_for(const struct state *state)
{
    uint64_t i = hash(state);

    while (!is_free(&seen[i & (seen_size - 1)]) &&
           memcmp(&seen[i & (seen_size - 1)], state, sizeof(*state)) != 0)
        i++;
    return &seen[i & (seen_size - 1)];
}

static void grow(void)
{
    struct state *old = seen;
    uint64_t old_size = seen_size;

    seen_size = old_size ? 2 * old_size : 1 << 16;
    seen = malloc(seen_size * sizeof(*seen));
    if (!seen)
        give_up("no memory");
    memset(seen, 0xff, seen_size * sizeof(*seen));
    for (uint64_t i = 0; i < old_size; i++)
        if (!is_free(&old[i]))
            *entry_for(&old[i]) = old[i];
    free(old);
}

/* Is this the first time? */
static bool is_new(const struct state *state)
{
    struct state *entry;

    if (2 * nr_seen >= seen_size)
        grow();
    entry = entry_for(state);
    if (!is_free(entry))
        return false;
    *entry = *state;
    nr_seen++;
    return true;
}

/* ---- what may pass what ---- */

static bool acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_SEQ_CST ||
           order == __ATOMIC_ACQ_REL;
}

static bool releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_SEQ_CST ||
           order == __ATOMIC_ACQ_REL;
}

static bool is_access(const struct op *op)
{
    return op->kind == LOAD || op->kind == STORE;
}

/* Does a fence between them keep two steps in their order? */
static bool fenced(const struct op *first, const struct op *fence,
                   const struct op *second)
{
    if (fence->order == __ATOMIC_SEQ_CST)
        return true;
    if (acquires(fence->order) && first->kind == LOAD)
        return true;
    return releases(fence->order) && second->kind != LOAD;
}

static bool ordered(const struct op *first, const struct op *second)
{
    if (is_access(first) && is_access(second) && first->word == second->word)
        return true;
    if (first->kind == SLEEP || (first->kind == LOAD && acquires(first->order)))
        return true;
    return second->kind == NOTIFY ||
           (second->kind == STORE && releases(second->order));
}

/*
 * May a step be performed before all those that are waiting? @number is the node before
 * it, @waiting has bit k for the step k back from there.
 */
static bool may_perform(int thread, const struct op *op, int number, uint32_t waiting)
{
    const struct op *fences[WINDOW];
    int nr_fences = 0;

    for (; waiting; waiting >>= 1, number = nodes[thread][number].parent) {
        const struct op *before = &nodes[thread][nodes[thread][number].parent].next;

        if (before->kind == FENCE)
            fences[nr_fences++] = before;
        if (!(waiting & 1))
            continue;
        if (ordered(before, op))
            return false;
        for (int i = 0; i < nr_fences; i++)
            if (fenced(before, fences[i], op))
                return false;
    }
    return true;
}

/* ---- trying everything ---- */

struct trail_step {
    int thread;
    struct op op;
    uint32_t value;
};

static struct trail_step trail[TRAIL_MAX];
static int trail_len;
static const char *wrong;

static void explore(struct state state);

static void print_trail(void)
{
    static const char *const kinds[] = {[LOAD] = "loads",     [STORE] = "stores",
                                        [FENCE] = "fence",    [NOTIFY] = "notifies",
                                        [SLEEP] = "is woken", [FAIL] = "fails",
                                        [END] = "ends"};

    for (int i = 0; i < trail_len; i++) {
        const struct trail_step *step_ = &trail[i];

        printf("%s %s", model->thread[step_->thread].name, kinds[step_->op.kind]);
        if (is_access(&step_->op))
            printf(" %s %u", model->name[step_->op.word], step_->value);
        printf("\n");
    }
}

static void found(const char *what)
{
    wrong = what;
    print_trail();
}

/* Go on with what comes of a step that is performed. */
static void perform(struct state state, int thread, const struct op *op, uint32_t value)
{
    if (op->kind == STORE)
        state.memory[op->word] = (uint8_t)op->value;
    else if (op->kind == NOTIFY)
        state.pending[!thread] = true;
    else if (op->kind == SLEEP)
        state.pending[thread] = false;
    if (trail_len == TRAIL_MAX)
        give_up("too long a way");
    trail[trail_len++] = (struct trail_step){thread, *op, value};
    explore(state);
    trail_len--;
}

/* Take the next step into the program of @thread; it is performed, or waits to be. */
static struct state taken(struct state state, int thread, uint32_t value, bool waits)
{
    if (state.waiting[thread] >> (WINDOW - 1))
        give_up("too many steps are waiting");
    state.at[thread] = child_of(thread, state.at[thread], value);
    state.waiting[thread] = state.waiting[thread] << 1 | waits;
    return state;
}

/* What needs no choice: all but loads and sleep, up to a fence that nothing passes. */
static void take_what_waits(struct state *state, int thread)
{
    for (;;) {
        const struct op *op = next_op(thread, state->at[thread]);

        if (op->kind == FENCE && op->order == __ATOMIC_SEQ_CST && state->waiting[thread])
            return;
        if (op->kind != FENCE && op->kind != STORE && op->kind != NOTIFY)
            return;
        *state = taken(*state, thread, 0, op->kind != FENCE);
    }
}

/* Return: whether there was something. */
static bool try_waiting(const struct state *state, int thread)
{
    int number = state->at[thread];
    uint32_t waiting = state->waiting[thread];
    bool any = false;

    for (int k = 0; waiting >> k; k++, number = nodes[thread][number].parent) {
        int parent = nodes[thread][number].parent;
        const struct op *op = &nodes[thread][parent].next;
        struct state after = *state;

        if (!(waiting >> k & 1))
            continue;
        if (op->kind == LOAD && state->memory[op->word] != nodes[thread][number].loaded)
            continue;
        if (!may_perform(thread, op, parent, k == 31 ? 0 : waiting >> (k + 1)))
            continue;
        any = true;
        after.waiting[thread] &= ~(UINT32_C(1) << k);
        perform(after, thread, op, nodes[thread][number].loaded + op->value);
    }
    return any;
}

static bool try_load(const struct state *state, int thread, const struct op *op)
{
    uint32_t value = state->memory[op->word];

    if (acquires(op->order)) { /* nothing passes it: it is performed when it is taken */
        if (!may_perform(thread, op, state->at[thread], state->waiting[thread]))
            return false;
        perform(taken(*state, thread, value, false), thread, op, value);
        return true;
    }
    for (value = 0; value < MODEL_VALUES; value++)
        if (model->values[op->word] >> value & 1)
            explore(taken(*state, thread, value, true));
    return true;
}

static bool try_next(const struct state *state, int thread)
{
    const struct op *op = next_op(thread, state->at[thread]);

    if (op->kind == LOAD)
        return try_load(state, thread, op);
    if (op->kind == SLEEP && state->pending[thread]) {
        perform(taken(*state, thread, 0, false), thread, op, 0);
        return true;
    }
    if (op->kind == FAIL && state->waiting[thread] == 0)
        found(op->what);
    return false;
}

static bool asleep(const struct state *state, int thread)
{
    return next_op(thread, state->at[thread])->kind == SLEEP;
}

static void explore(struct state state)
{
    bool any = false;

    for (int thread = 0; thread < 2; thread++)
        take_what_waits(&state, thread);
    if (wrong || !is_new(&state))
        return;
    for (int thread = 0; thread < 2; thread++) {
        any |= try_waiting(&state, thread);
        any |= try_next(&state, thread);
    }
    /* With something waiting for a value that never comes, this never was. */
    if (!any && !wrong && !state.waiting[0] && !state.waiting[1] &&
        (asleep(&state, 0) || asleep(&state, 1)))
        found("a wake-up is lost");
}

const char *model_check(const struct model *checked, uint64_t *states)
{
    struct state state;

    model = checked;
    memset(&state, 0, sizeof(state)); /* padding too, as states are compared as bytes */
    for (int i = 0; i < MODEL_WORDS; i++)
        state.memory[i] = (uint8_t)model->initial[i];
    explore(state);
    *states = nr_seen;
    return wrong;
}
