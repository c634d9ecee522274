/* One request in (the command line), one JSON line out: see README.md.
 *
 * The parts: options.c (the command line), files.c (model, inputs, outputs), process.c (time, memory, libraries,
 * crashes), answer.c (JSON), marks.c (where a count begins and ends), main.c (the modes), and one file a runtime, which
 * implements the `runtime_` functions below. ONNX Runtime's has clock.c beside it. */
#ifndef PF_RUNNER_H
#define PF_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exit codes, as in sysexits.h. */
enum { EXIT_DONE = 0, EXIT_USAGE = 64, EXIT_DATA = 65, EXIT_FILE = 66, EXIT_LIBRARY = 69, EXIT_RUNTIME = 70 };

enum { MAX_TENSORS = 64, MAX_RANK = 8 };

/* Prints "pf_x: message" as the last line on stderr and ends the process, without running any library's teardown. */
__attribute__((noreturn, format(printf, 2, 3))) void fail(int code, const char *format, ...);

/* ---- options.c ---- */
enum mode { MODE_DESCRIBE, MODE_RUN, MODE_TIME, MODE_COUNT };

struct options {
    const char *library, *model, *output_dir, *sha256;
    const char *inputs[MAX_TENSORS];
    size_t input_count;
    enum mode mode;
    long threads, warmup, samples, windows, time_ms;
    long gate; /* a file descriptor, or -1 */
};

void read_options(int argc, char **argv, struct options *into);

/* ---- files.c and sha256.c ---- */
struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t size);
void sha256_end(struct sha256 *hash, char hex[65]);

struct bytes {
    void *start;
    size_t size;
};

struct input_file {
    const char *path;
    int descriptor;
    uint64_t size_bytes;
};

struct output_file {
    char path[4096]; /* of one size: what a runtime's allocations cost depends on those before them */
    FILE *file;
    struct sha256 hash;
};

struct bytes read_model(const char *path);
struct input_file open_input(const char *path);
void read_sample(const struct input_file *input, uint64_t index, void *into, size_t size);
void make_folder(const char *path);
void open_output(struct output_file *output, const char *folder, size_t index);
void write_output(struct output_file *output, const void *bytes, size_t size);
void close_output(struct output_file *output, char hex[65]);

/* ---- process.c ---- */
double now_ms(void); /* CLOCK_MONOTONIC */
/* Set for a count of one thread, before the runtime's library is loaded; clock.c heeds it, where a runtime needs that. */
extern bool clocks_stand_still;
uint64_t peak_rss_bytes(void);
uint64_t rss_bytes(void);
/* What is going on, for the message if a library crashes now, and the exit code that this means. */
void now_doing(const char *what, int exit_code_of_a_crash);
void catch_crashes(void);
/* The real stdout, for the answer alone: what libraries print to stdout goes to stderr. */
FILE *take_stdout(void);

/* ---- answer.c ---- */
void json_string(FILE *to, const char *text);
void json_libraries(FILE *to, const char *program);

/* ---- marks.c ---- */
void bench_mark_begin(int window);
void bench_mark_end(int window);

/* ---- one runtime: litert.c, onnxruntime.c or executorch.c ---- */
struct tensor {
    const char *name;
    const char *dtype; /* NumPy's name */
    size_t rank;
    int64_t shape[MAX_RANK];
    size_t size_bytes;
    bool quantized; /* per tensor, where the file's format says so */
    double scale;
    int64_t zero_point;
    bool in_signature; /* LiteRT: it has this name in the model's signature */
};

struct model {
    struct tensor inputs[MAX_TENSORS], outputs[MAX_TENSORS];
    size_t input_count, output_count;
    const char *metadata; /* what our exporter keeps beside the graph (JSON text), or NULL */
};

extern const char runtime_program[]; /* "pf_litert" */
extern const char runtime_key[];     /* "tflite", "onnx" or "executorch" */
extern const long runtime_max_threads;

/* Each ends the process with a message on failure. */
void runtime_load_library(const char *path, const char *program);
const char *runtime_version(void);
void runtime_open(struct bytes file, long threads, struct model *into);
void runtime_set_input(size_t index, const void *bytes);
void runtime_invoke(void); /* one inference */
void runtime_get_output(size_t index, void *into);

/* The bytes of a dense tensor of this dtype and shape; ends the process for a shape that is not fixed. */
size_t tensor_bytes(const struct tensor *tensor, size_t item_bytes, const char *side, size_t index);

#ifdef __cplusplus
}
#endif
#endif
