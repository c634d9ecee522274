/* What both block counters (the log's reader and the plugin) share: translation blocks by content, counts in windows,
 * and the JSON they end with. Included by one C file each, which is why everything here is static. */
#ifndef POCKETFORGE_BLOCK_TABLE_H
#define POCKETFORGE_BLOCK_TABLE_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WINDOWS 16
#define MAX_DOUBTS 8
#define MARK_BEGIN "bench_mark_begin"
#define MARK_END "bench_mark_end"

enum mark { NO_MARK, BEGIN_MARK, END_MARK };

/* The same address with other instructions is another block: code can be unmapped and mapped anew. */
struct block {
    uint64_t pc;
    uint32_t length; /* instructions */
    uint32_t *words;
    enum mark mark;
    bool calls;      /* ends in bl, blr or br: what runs next may be a function's first block */
    bool entered;    /* ran right after such a block, in a window */
    int64_t current; /* executions in the window that is open, or that was closed last */
    int64_t executions[MAX_WINDOWS];
    struct block *next;
};

static struct block **buckets;
static size_t bucket_count, block_count;
static int windows_done;
static bool window_open, window_pending; /* pending: closed, but its end may still be taken back */
static uint64_t mark_entry[3];           /* address of each marker's first instruction, once seen */
static const char *doubts[MAX_DOUBTS];   /* reasons why the counts may not be exact */
static int doubt_count;

__attribute__((unused)) static void doubt(const char *reason) {
    for (int i = 0; i < doubt_count; i++)
        if (doubts[i] == reason) return;
    if (doubt_count < MAX_DOUBTS) doubts[doubt_count++] = reason;
}

static void *needed(void *memory) {
    if (!memory) {
        fputs("pf_counts: out of memory\n", stderr);
        exit(71);
    }
    return memory;
}

static uint64_t mixed(uint64_t x) {
    x *= 0x9e3779b97f4a7c15u; /* Fibonacci hashing: consecutive addresses spread over the table */
    return x ^ (x >> 29);
}

static bool is_call(uint32_t word) {
    return (word & 0xfc000000) == 0x94000000 || (word & 0xfffffc1f) == 0xd63f0000 || (word & 0xfffffc1f) == 0xd61f0000;
}

/* The block of this content, made when it is new. The words are copied. */
static struct block *block_of(uint64_t pc, const uint32_t *words, uint32_t length) {
    if (block_count * 2 >= bucket_count) {
        size_t larger = bucket_count ? bucket_count * 4 : 1 << 14;
        struct block **fresh = needed(calloc(larger, sizeof *fresh));
        for (size_t i = 0; i < bucket_count; i++)
            for (struct block *b = buckets[i], *next; b; b = next) {
                size_t at = mixed(b->pc) & (larger - 1);
                next = b->next;
                b->next = fresh[at];
                fresh[at] = b;
            }
        free(buckets);
        buckets = fresh;
        bucket_count = larger;
    }
    size_t at = mixed(pc) & (bucket_count - 1);
    for (struct block *b = buckets[at]; b; b = b->next)
        if (b->pc == pc && b->length == length && !memcmp(b->words, words, length * sizeof *words)) return b;
    struct block *b = needed(calloc(1, sizeof *b));
    b->pc = pc;
    b->length = length;
    b->words = needed(malloc((length ? length : 1) * sizeof *words));
    memcpy(b->words, words, length * sizeof *words);
    b->calls = length && is_call(words[length - 1]);
    b->next = buckets[at];
    buckets[at] = b;
    block_count++;
    return b;
}

/* Mark the block that starts a marker function; later blocks of that function (it may span two) are no marks. */
static void name_block(struct block *b, const char *symbol, size_t size) {
    enum mark mark = NO_MARK;
    if (size == sizeof MARK_BEGIN - 1 && !memcmp(symbol, MARK_BEGIN, size)) mark = BEGIN_MARK;
    if (size == sizeof MARK_END - 1 && !memcmp(symbol, MARK_END, size)) mark = END_MARK;
    if (mark != NO_MARK && (!mark_entry[mark] || mark_entry[mark] == b->pc)) {
        mark_entry[mark] = b->pc;
        b->mark = mark;
    }
}

static void for_all_current(bool keep) {
    for (size_t i = 0; i < bucket_count; i++)
        for (struct block *b = buckets[i]; b; b = b->next) {
            if (keep) b->executions[windows_done] = b->current;
            b->current = 0;
        }
}

static void close_window(void) {
    if (!window_pending) return;
    for_all_current(true);
    windows_done++;
    window_pending = false;
}

/* Both return NULL, or what is wrong with the order of the marks. */
static const char *window_begin(void) {
    if (window_open) return "a window begins inside a window";
    close_window();
    if (windows_done == MAX_WINDOWS) return "more windows than can be counted";
    for_all_current(false);
    window_open = true;
    return NULL;
}

static const char *window_end(void) {
    if (!window_open) return "a window ends that has not begun";
    window_open = false;
    window_pending = true;
    return NULL;
}

static int by_content(const void *left, const void *right) {
    const struct block *a = *(struct block *const *)left, *b = *(struct block *const *)right;
    if (a->pc != b->pc) return a->pc < b->pc ? -1 : 1;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return memcmp(a->words, b->words, a->length * sizeof *a->words);
}

/* {"log_lines", "translated", "threads", "doubts", "windows": N, "blocks": [[pc, entered, [executions…], "words"], …]}
 * with the blocks that a window executed, in the order of their addresses; words are 8 hexadecimal digits each. */
static void write_json(FILE *out, uint64_t log_lines, uint64_t translated, int threads) {
    close_window();
    struct block **list = needed(malloc((block_count + 1) * sizeof *list));
    size_t used = 0;
    for (size_t i = 0; i < bucket_count; i++)
        for (struct block *b = buckets[i]; b; b = b->next) {
            bool ran = false;
            for (int w = 0; w < windows_done; w++) ran |= b->executions[w] != 0;
            if (ran) list[used++] = b;
        }
    if (used) qsort(list, used, sizeof *list, by_content);
    fprintf(out, "{\"log_lines\": %" PRIu64 ", \"translated\": %" PRIu64 ", \"threads\": %d, \"doubts\": [", log_lines,
            translated, threads);
    for (int i = 0; i < doubt_count; i++) fprintf(out, "%s\"%s\"", i ? ", " : "", doubts[i]);
    fprintf(out, "], \"windows\": %d, \"blocks\": [", windows_done);
    for (size_t i = 0; i < used; i++) {
        fprintf(out, "%s[%" PRIu64 ", %d, [", i ? ",\n" : "\n", list[i]->pc, list[i]->entered);
        for (int w = 0; w < windows_done; w++) fprintf(out, "%s%" PRId64, w ? ", " : "", list[i]->executions[w]);
        fputs("], \"", out);
        for (uint32_t k = 0; k < list[i]->length; k++) fprintf(out, "%08" PRIx32, list[i]->words[k]);
        fputs("\"]", out);
    }
    fputs("]}\n", out);
    free(list);
}

#endif
