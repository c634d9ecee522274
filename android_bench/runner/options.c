/* The command line: every fault ends the process with exit 64 and a message that names the option. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runner.h"

static const char usage[] =
    "usage: %s --library SO --model FILE --mode describe|run|time|count [options]\n"
    "  --library SO       the runtime's library\n"
    "  --model FILE       the model file; --sha256 HEX: refuse it if it is another one\n"
    "  --input FILE       raw little-endian samples, back to back; once for each input of the model, in its order\n"
    "  --output-dir DIR   for outputs_0.bin ...; made if it is absent (modes run and count)\n"
    "  --mode describe    open the model and say what it takes and gives\n"
    "         run         every sample once\n"
    "         time        --warmup N inferences, then at least --samples N timed ones and at least --time-ms N in all\n"
    "         count       --warmup N inferences of the first sample, then --windows N between the two marks\n"
    "  --threads N        1 to %ld (default 1)\n"
    "  --warmup N         0 to 1000000 (default 1)\n"
    "  --samples N        1 to 1000000 (default 10)\n"
    "  --windows N        1 to 1000000 (default 2)\n"
    "  --time-ms N        0 to 86400000 (default 0)\n"
    "  --gate FD          before the first window a byte is written to this open socket and one awaited (mode count)\n"
    "One JSON line on stdout; exit 0, 64 usage, 65 model or input, 66 file, 69 library, 70 the runtime failed.\n";

static long number(const char *option, const char *text, long least, long most) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    /* strtol takes leading blanks and signs; here a number is digits. */
    if (text[0] < '0' || text[0] > '9' || *end != '\0')
        fail(EXIT_USAGE, "%s takes a whole number from %ld to %ld, found \"%s\"", option, least, most, text);
    if (errno == ERANGE || value < least || value > most)
        fail(EXIT_USAGE, "%s must be from %ld to %ld, found %s", option, least, most, text);
    return value;
}

static enum mode mode_named(const char *text) {
    static const char *const names[] = {"describe", "run", "time", "count"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) return (enum mode)i;
    fail(EXIT_USAGE, "--mode takes describe, run, time or count, found \"%s\"", text);
}

void read_options(int argc, char **argv, struct options *into) {
    static const struct options defaults = {.threads = 1, .warmup = 1, .samples = 10, .windows = 2, .gate = -1};
    enum { LIBRARY, MODEL, SHA256, INPUT, OUTPUT_DIR, MODE, THREADS, WARMUP, SAMPLES, WINDOWS, TIME_MS, GATE, COUNT };
    static const char *const names[COUNT] = {"--library", "--model",  "--sha256",  "--input",   "--output-dir", "--mode",
                                             "--threads", "--warmup", "--samples", "--windows", "--time-ms",
                                             "--gate"};
    bool given[COUNT] = {false};
    *into = defaults;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            printf(usage, runtime_program, runtime_max_threads);
            exit(EXIT_DONE);
        }
    }
    for (int i = 1; i < argc; i += 2) {
        int option = 0;
        while (option < COUNT && strcmp(argv[i], names[option]) != 0) option++;
        if (option == COUNT) fail(EXIT_USAGE, "unknown option \"%s\"; --help lists them", argv[i]);
        if (i + 1 == argc) fail(EXIT_USAGE, "%s needs a value", argv[i]);
        if (given[option] && option != INPUT) fail(EXIT_USAGE, "%s is given twice", argv[i]);
        given[option] = true;
        const char *value = argv[i + 1];
        if (*value == '\0') fail(EXIT_USAGE, "%s has an empty value", argv[i]);
        switch (option) {
        case LIBRARY: into->library = value; break;
        case MODEL: into->model = value; break;
        case SHA256: into->sha256 = value; break;
        case OUTPUT_DIR: into->output_dir = value; break;
        case MODE: into->mode = mode_named(value); break;
        case THREADS: into->threads = number(argv[i], value, 1, 1024); break;
        case WARMUP: into->warmup = number(argv[i], value, 0, 1000000); break;
        case SAMPLES: into->samples = number(argv[i], value, 1, 1000000); break;
        case WINDOWS: into->windows = number(argv[i], value, 1, 1000000); break;
        case TIME_MS: into->time_ms = number(argv[i], value, 0, 86400000); break;
        case GATE: into->gate = number(argv[i], value, 3, 1000000); break;
        case INPUT:
            if (into->input_count == MAX_TENSORS) fail(EXIT_USAGE, "more than %d times --input", MAX_TENSORS);
            into->inputs[into->input_count++] = value;
            break;
        default: break;
        }
    }
    static const int needed[] = {LIBRARY, MODEL, MODE};
    for (int i = 0; i < 3; i++)
        if (!given[needed[i]]) fail(EXIT_USAGE, "%s is missing; --help lists the options", names[needed[i]]);
    if (into->sha256 && (strlen(into->sha256) != 64 || strspn(into->sha256, "0123456789abcdef") != 64))
        fail(EXIT_USAGE, "--sha256 takes 64 lower-case hexadecimal digits, found \"%s\"", into->sha256);
    if (into->threads > runtime_max_threads)
        fail(EXIT_USAGE, "this runner of %s runs with at most %ld thread%s, found --threads %ld", runtime_key,
             runtime_max_threads, runtime_max_threads == 1 ? "" : "s", into->threads);
    bool writes = into->mode == MODE_RUN || into->mode == MODE_COUNT;
    if (writes && !into->output_dir) fail(EXIT_USAGE, "--output-dir is missing; modes run and count write outputs");
    if (into->mode != MODE_DESCRIBE && into->input_count == 0) fail(EXIT_USAGE, "--input is missing");
}
