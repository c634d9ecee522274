/* A TCG plugin that counts what block_reader.c counts, at nearly the speed of a run without counting: for a qemu that
 * was built with plugins. It writes the same JSON (block_table.h) to the file given as out=FILE.
 *
 * qemu loads a plugin whose `qemu_plugin_version` lies in a range of its own; the functions used here have existed
 * since version 1 and only qemu_plugin_insn_data changed (version 3, qemu 9.1). So this source serves all: PLUGIN_VERSION
 * says which it is compiled for. The declarations are ours: qemu's header is not needed. */
#include <pthread.h>

#include "block_table.h"

#ifndef PLUGIN_VERSION
#error "compile with -DPLUGIN_VERSION=n"
#endif
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
    const char *target_name;
    struct {
        int minimum, current;
    } version;
} plugin_info; /* only the head of qemu_info_t */

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *instruction);
#if PLUGIN_VERSION >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction, void *to, size_t size);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
#endif
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*seen)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*ran)(unsigned, void *), int flags,
                                          void *data);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*ending)(plugin_id, void *), void *data);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *out;
static uint64_t translated;
static uint64_t threads_seen;
static bool calls[64]; /* per qemu CPU: did its last block end in a call */
static const char *wrong;

static uint32_t word_of(const struct qemu_plugin_insn *instruction) {
    uint32_t word = 0;
#if PLUGIN_VERSION >= 3
    if (qemu_plugin_insn_data(instruction, &word, sizeof word) != sizeof word) wrong = "qemu gave no instruction";
#else
    memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
#endif
    return word;
}

static void ran(unsigned cpu, void *data) {
    struct block *block = data;
    if (cpu > 63) cpu = 63;
    pthread_mutex_lock(&lock);
    const char *fault = NULL;
    threads_seen |= 1ull << cpu;
    if (block->mark == BEGIN_MARK) fault = window_begin();
    else if (block->mark == END_MARK) fault = window_end();
    else if (window_open) {
        block->current++;
        block->entered |= calls[cpu];
    }
    calls[cpu] = block->calls;
    if (fault) wrong = fault;
    pthread_mutex_unlock(&lock);
}

static void seen(plugin_id id, struct qemu_plugin_tb *tb) {
    (void)id;
    size_t length = qemu_plugin_tb_n_insns(tb);
    uint32_t *words = needed(malloc((length ? length : 1) * sizeof *words));
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < length; i++) words[i] = word_of(qemu_plugin_tb_get_insn(tb, i));
    struct block *block = block_of(qemu_plugin_tb_vaddr(tb), words, (uint32_t)length);
    const char *symbol = length ? qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(tb, 0)) : NULL;
    if (symbol) name_block(block, symbol, strlen(symbol));
    translated++;
    pthread_mutex_unlock(&lock);
    free(words);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, ran, 0, block);
}

static void ending(plugin_id id, void *data) {
    (void)id;
    (void)data;
    pthread_mutex_lock(&lock);
    if (window_open && !wrong) wrong = "it ends inside a window";
    if (wrong) fprintf(stderr, "pf_blocks: %s\n", wrong);
    else {
        write_json(out, 0, translated, __builtin_popcountll(threads_seen));
        if (fclose(out)) fputs("pf_blocks: the counts could not be written\n", stderr);
    }
    pthread_mutex_unlock(&lock);
}

EXPORT int qemu_plugin_install(plugin_id id, const plugin_info *info, int count, char **arguments) {
    const char *path = NULL;
    for (int i = 0; i < count; i++)
        if (!strncmp(arguments[i], "out=", 4)) path = arguments[i] + 4;
    if (strcmp(info->target_name, "aarch64")) {
        fprintf(stderr, "pf_blocks: this qemu runs %s, not aarch64\n", info->target_name);
        return 1;
    }
    if (!path) { /* a question: does this qemu load us? */
        fprintf(stderr, "pf_blocks: plugin API %d\n", qemu_plugin_version);
        return 1;
    }
    out = fopen(path, "w");
    if (!out) {
        perror("pf_blocks: the file for the counts");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, seen);
    qemu_plugin_register_atexit_cb(id, ending, NULL);
    return 0;
}
