/* Reads `qemu -d exec,nochain,in_asm` from stdin as it is written, stores none of it, and prints how often each
 * translation block ran between the marks bench_mark_begin and bench_mark_end (JSON: see block_table.h).
 *
 * qemu shows a block's instructions once, when it translates it, and right after runs it:
 *     ----------------
 *     IN: symbol
 *     0x5500817798:  f8207841  str x1, [x2, x0, lsl #3]        (qemu 7: a word)
 *     0x5500817798:  41 78 20 f8  str x1, [x2, x0, lsl #3]     (qemu 8 on: bytes in memory's order)
 *     0x5500817798:                                            (a qemu without a disassembler: bytes, 32 a line)
 *     OBJD-T: 417820f8200c41f8
 *     (an empty line)
 *     Trace 0: 0x7f9b2a8007c0 [0000000000001001/0000005500817798/00000001/00000200] symbol
 * A block's identity is the address of its host code (0x7f9b…): the same guest address may be translated again with
 * other content or another length. A run that qemu took back ("Stopped execution of TB chain before …") is taken back
 * here. What this program does not understand ends it: a wrong count is worse than none.
 *
 * Exit: 0; 65 the log is damaged, cut short or of an unknown form (one line on stderr); 71 out of memory. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "block_table.h"

#define BUFFER_BYTES (4u << 20)
#define WANTED_BYTES (256u << 10) /* after a smaller read qemu is given time to write more: fewer wake-ups for both */
#define MAX_LENGTH 8192           /* instructions of a block; qemu's own limit is 512 */

/* Host code address → the block that lives there now. Open addressing; 0 marks a free place. */
struct place {
    uint64_t host;
    struct block *block;
};

static struct place *places;
static size_t place_count, places_used;
static uint64_t line_number, traces, translated;
static uint64_t threads_seen; /* bit per qemu CPU index; index 63 stands for all higher ones */
static bool calls[64], called_before[64]; /* per qemu CPU: does its last block end in a call, did the one before */
static unsigned last_thread;
static bool replaced;         /* some address got other instructions than those that were waiting or known */
static bool in_block, block_named, block_bytes;
static uint64_t block_pc;
static uint32_t block_length, block_words[MAX_LENGTH];
static struct block **waiting; /* translated, not yet seen running */
static size_t waiting_count, waiting_room;

__attribute__((noreturn, format(printf, 1, 2))) static void damaged(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fprintf(stderr, "pf_block_reader: line %" PRIu64 " of qemu's log: ", line_number);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    exit(65);
}

static struct place *place_of(uint64_t host) {
    size_t at = mixed(host) & (place_count - 1);
    while (places[at].host && places[at].host != host) at = (at + 1) & (place_count - 1);
    return &places[at];
}

static struct place *new_place(uint64_t host) {
    if (places_used * 2 >= place_count) {
        struct place *old = places;
        size_t count = place_count;
        place_count = count ? count * 4 : 1 << 16;
        places = needed(calloc(place_count, sizeof *places));
        for (size_t i = 0; i < count; i++)
            if (old[i].host) *place_of(old[i].host) = old[i];
        free(old);
    }
    places_used++;
    struct place *place = place_of(host);
    place->host = host;
    return place;
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* Reads 1 to 16 hexadecimal digits at *at and moves it behind them. */
static bool hex(const char **at, uint64_t *value) {
    const char *start = *at;
    uint64_t sum = 0;
    int d;
    while ((d = digit(**at)) >= 0) {
        sum = sum << 4 | (uint64_t)d;
        (*at)++;
    }
    *value = sum;
    return *at != start && *at - start <= 16;
}

static bool literal(const char **at, const char *text) {
    size_t size = strlen(text);
    if (strncmp(*at, text, size)) return false; /* lines end in '\0', so this stops in time */
    *at += size;
    return true;
}

static void add_word(uint32_t word) {
    if (block_length == MAX_LENGTH) damaged("a block of more than %d instructions", MAX_LENGTH);
    block_words[block_length++] = word;
}

/* "OBJD-T: " and the bytes of up to eight instructions. */
static void bytes_line(const char *line) {
    const char *at = line + sizeof "OBJD-T: " - 1;
    if (!block_bytes || !*at) damaged("bytes without an address: %.100s", line);
    while (*at) {
        uint32_t word = 0;
        for (int i = 0; i < 8; i += 2, at += 2) {
            int high = digit(at[0]), low = high < 0 ? -1 : digit(at[1]);
            if (low < 0) damaged("not the bytes of instructions: %.100s", line);
            word |= (uint32_t)(high << 4 | low) << (4 * i);
        }
        add_word(word);
    }
}

/* The order of bytes in the words that qemu 7 shows: told by the run's first block. qemu 7 takes an A64FX for big-endian
 * when it disassembles (a bit of its SCTLR means that in Armv7) and shows every word reversed. Most are no instruction
 * then, and get a ".byte" with the bytes in memory's order. */
static enum { UNTOLD, AS_IS, REVERSED } order;

/* The word shown as `value`, with `at` what follows it. */
static uint32_t shown_word(const char *at, uint32_t value, const char *line) {
    uint32_t reversed = __builtin_bswap32(value), b[4];
    if (sscanf(at, " .byte 0x%2x, 0x%2x, 0x%2x, 0x%2x", &b[0], &b[1], &b[2], &b[3]) != 4)
        return order == REVERSED ? reversed : value;
    uint32_t word = b[0] | b[1] << 8 | b[2] << 16 | b[3] << 24;
    if (word != value && word != reversed) damaged("two words for one instruction: %.100s", line);
    if (value == reversed) return word;
    if (order == UNTOLD) {
        order = word == reversed ? REVERSED : AS_IS;
        for (uint32_t i = 0; order == REVERSED && i < block_length; i++)
            block_words[i] = __builtin_bswap32(block_words[i]);
    }
    if ((order == REVERSED) != (word == reversed)) damaged("the order of bytes changes: %.100s", line);
    return word;
}

/* "0x<pc>:  <instruction>": adds it to the block being read. */
static void instruction_line(const char *line) {
    const char *at = line;
    uint64_t pc, value;
    if (!literal(&at, "0x") || !hex(&at, &pc) || *at++ != ':') damaged("not an instruction: %.60s", line);
    while (*at == ' ') at++;
    if (!block_length) block_pc = pc;
    if (pc != block_pc + 4ull * block_length || block_bytes) damaged("an instruction is missing before: %.60s", line);
    if (!*at && !block_length) {
        block_bytes = true;
        return;
    }
    const char *start = at;
    if (!hex(&at, &value)) damaged("not an instruction: %.60s", line);
    bool bytes = at - start == 2;
    if (bytes) { /* four bytes */
        for (int i = 1; i < 4; i++) {
            uint64_t byte;
            if (*at++ != ' ') damaged("not an instruction: %.60s", line);
            start = at;
            if (!hex(&at, &byte) || at - start != 2) damaged("not an instruction: %.60s", line);
            value |= byte << (8 * i);
        }
    } else if (at - start != 8) {
        damaged("not an instruction: %.60s", line);
    }
    /* The mnemonic follows; a line cut inside the number would otherwise pass for a shorter one. */
    if (*at != ' ') damaged("not an instruction: %.60s", line);
    /* Where a line's end was lost, the next instruction stands in this one's text, and would not be counted. */
    if (strstr(at, ":  ")) damaged("two lines in one: %.60s", line);
    add_word(bytes ? (uint32_t)value : shown_word(at, (uint32_t)value, line));
}

/* qemu may translate an address twice before it runs (a retry with a smaller block): the later one is what runs. */
static void block_ends(void) {
    if (!block_length) damaged("a block without instructions");
    if (order == UNTOLD) order = AS_IS;
    struct block *fresh = block_of(block_pc, block_words, block_length);
    translated++;
    in_block = false;
    for (size_t i = 0; i < waiting_count; i++)
        if (waiting[i]->pc == block_pc) {
            replaced |= waiting[i] != fresh;
            waiting[i] = fresh;
            return;
        }
    if (waiting_count == waiting_room) {
        waiting_room = waiting_room ? waiting_room * 2 : 64;
        waiting = needed(realloc(waiting, waiting_room * sizeof *waiting));
    }
    waiting[waiting_count++] = fresh;
}

static struct block *waiting_at(uint64_t pc) {
    for (size_t i = waiting_count; i-- > 0;)
        if (waiting[i]->pc == pc) {
            struct block *found = waiting[i];
            waiting[i] = waiting[--waiting_count];
            return found;
        }
    return NULL;
}

static void trace_line(const char *line) {
    const char *at = line + sizeof "Trace " - 1, *symbol;
    uint64_t thread = 0, host, base, pc, flags, translation_flags;
    const char *start = at;
    for (; *at >= '0' && *at <= '9'; at++) thread = thread * 10 + (uint64_t)(*at - '0');
    if (at == start || !literal(&at, ": 0x") || !hex(&at, &host) || !literal(&at, " [") || !hex(&at, &base) ||
        *at++ != '/' || !hex(&at, &pc) || *at++ != '/' || !hex(&at, &flags) || *at++ != '/' ||
        !hex(&at, &translation_flags) || !literal(&at, "] ") || !host)
        damaged("not the start of a block: %.120s", line);
    symbol = at;
    if (strpbrk(symbol, " []")) damaged("two lines in one: %.160s", line);
    traces++;
    if (thread > 63) thread = 63;
    threads_seen |= 1ull << thread;

    struct place *place = place_of(host);
    if (waiting_count) {
        struct block *fresh = waiting_at(pc);
        if (fresh) {
            if (!place->host) place = new_place(host);
            /* The same address, running on: with one thread this is new code where old code was. */
            if (place->block && place->block->pc == pc) replaced |= place->block != fresh;
            place->block = fresh;
            name_block(fresh, symbol, strlen(symbol));
        }
    }
    if (!place->host || place->block->pc != pc) damaged("a block runs that was never shown: %.120s", line);

    struct block *block = place->block;
    const char *wrong = NULL;
    if (block->mark == BEGIN_MARK) wrong = window_begin();
    else if (block->mark == END_MARK) wrong = window_end();
    else if (window_open) {
        block->current++;
        block->entered |= calls[thread];
    }
    last_thread = (unsigned)thread;
    called_before[thread] = calls[thread];
    calls[thread] = block->calls;
    if (wrong) damaged("%s", wrong);
}

/* "Stopped execution of TB chain before 0x<host> [<pc>] symbol": the run announced last did not happen. */
static void stopped_line(const char *line) {
    const char *at = line;
    uint64_t host, pc;
    if (!literal(&at, "Stopped execution of TB chain before 0x") || !hex(&at, &host) || !literal(&at, " [") ||
        !hex(&at, &pc) || *at != ']' || !host)
        damaged("not understood: %.120s", line);
    struct place *place = place_of(host);
    if (!place->host || place->block->pc != pc) damaged("a block is taken back that never ran: %.120s", line);
    struct block *block = place->block;
    calls[last_thread] = called_before[last_thread];
    if (block->mark == BEGIN_MARK) {
        for_all_current(false);
        window_open = false;
    } else if (block->mark == END_MARK) {
        window_open = true;
        window_pending = false;
    } else if (window_open) {
        block->current--; /* may fall to -1 for a moment, when it was announced before the window */
    }
}

static void one_line(const char *line, size_t size) {
    line_number++;
    if (memchr(line, 0, size)) damaged("a zero byte");
    if (in_block) {
        if (!size && block_named) block_ends();
        else if (!block_named && !strncmp(line, "IN:", 3)) block_named = true;
        else if (block_named && !strncmp(line, "OBJD-T: ", 8)) bytes_line(line);
        else if (block_named) instruction_line(line);
        else damaged("a block without its heading: %.60s", line);
    } else if (!strncmp(line, "Trace ", 6)) {
        trace_line(line);
    } else if (!strcmp(line, "----------------")) {
        in_block = true;
        block_named = block_bytes = false;
        block_length = 0;
    } else if (!strncmp(line, "Stopped ", 8)) {
        stopped_line(line);
    } else if (size) {
        damaged("not understood: %.120s", line);
    }
}

int main(void) {
    char *buffer = needed(malloc(BUFFER_BYTES + 1));
    size_t held = 0;
    place_count = 1 << 16;
    places = needed(calloc(place_count, sizeof *places));
    for (;;) {
        ssize_t got = read(STDIN_FILENO, buffer + held, BUFFER_BYTES - held);
        if (got < 0) {
            perror("pf_block_reader: reading qemu's log");
            return 65;
        }
        if (!got) break;
        char *line = buffer, *end = buffer + held + got, *stop;
        while ((stop = memchr(line, '\n', (size_t)(end - line)))) {
            *stop = '\0';
            one_line(line, (size_t)(stop - line));
            line = stop + 1;
        }
        held = (size_t)(end - line);
        if (held == BUFFER_BYTES) damaged("a line without end");
        memmove(buffer, line, held);
        if ((size_t)got < WANTED_BYTES) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (held) damaged("it ends inside a line");
    if (in_block) damaged("it ends inside a block");
    if (window_open) damaged("it ends inside a window");
    if (replaced && threads_seen & (threads_seen - 1))
        doubt("several threads ran while an address got other instructions: which ran when is not in the log");
    write_json(stdout, line_number, translated, __builtin_popcountll(threads_seen));
    return fflush(stdout) ? 65 : 0;
}
