/* The modes. Inputs are read and handed over outside the timed or counted part, where the runtime allows that. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

static struct options options;
static struct model model;
static struct input_file inputs[MAX_TENSORS];
static void *samples[MAX_TENSORS]; /* the current sample of each input */

size_t tensor_bytes(const struct tensor *tensor, size_t item_bytes, const char *side, size_t index) {
    size_t size = item_bytes;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->shape[i] < 1)
            fail(EXIT_DATA, "%s %zu (%s) has no fixed shape (dimension %zu is %lld); export it with fixed shapes", side,
                 index, tensor->name, i, (long long)tensor->shape[i]);
        if (__builtin_mul_overflow(size, (size_t)tensor->shape[i], &size) || size > (size_t)1 << 40)
            fail(EXIT_DATA, "%s %zu (%s) is larger than any memory", side, index, tensor->name);
    }
    return size;
}

static void *memory(size_t size) {
    void *found = NULL;
    if (posix_memalign(&found, 64, size) != 0) fail(EXIT_RUNTIME, "no memory for a tensor of %zu bytes", size);
    return found;
}

/* Opens the inputs and returns how many samples they hold. */
static uint64_t open_inputs(void) {
    uint64_t count = 0;
    if (options.input_count != model.input_count)
        fail(EXIT_DATA, "the model takes %zu inputs, %zu --input were given", model.input_count, options.input_count);
    for (size_t i = 0; i < model.input_count; i++) {
        size_t size = model.inputs[i].size_bytes;
        inputs[i] = open_input(options.inputs[i]);
        if (inputs[i].size_bytes == 0 || inputs[i].size_bytes % size != 0)
            fail(EXIT_DATA, "input %zu (%s) takes samples of %zu bytes, %s has %llu bytes", i, model.inputs[i].name, size,
                 options.inputs[i], (unsigned long long)inputs[i].size_bytes);
        uint64_t found = inputs[i].size_bytes / size;
        if (i > 0 && found != count)
            fail(EXIT_DATA, "the inputs hold different numbers of samples: %llu in %s, %llu in %s",
                 (unsigned long long)count, options.inputs[0], (unsigned long long)found, options.inputs[i]);
        count = found;
        samples[i] = memory(size);
    }
    return count;
}

static void take_sample(uint64_t index) {
    for (size_t i = 0; i < model.input_count; i++) {
        read_sample(&inputs[i], index, samples[i], model.inputs[i].size_bytes);
        runtime_set_input(i, samples[i]);
    }
}

struct written {
    struct output_file file;
    void *bytes;
    char sha256[65];
};

static struct written outputs[MAX_TENSORS];

static void open_outputs(void) {
    make_folder(options.output_dir);
    for (size_t i = 0; i < model.output_count; i++) {
        open_output(&outputs[i].file, options.output_dir, i);
        outputs[i].bytes = memory(model.outputs[i].size_bytes);
    }
}

static void write_outputs(void) {
    for (size_t i = 0; i < model.output_count; i++) {
        runtime_get_output(i, outputs[i].bytes);
        write_output(&outputs[i].file, outputs[i].bytes, model.outputs[i].size_bytes);
    }
}

static void run_all(uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        take_sample(i);
        runtime_invoke();
        write_outputs();
    }
}

/* Returns how many inferences were timed; their times in ms are at *into. */
static size_t time_all(uint64_t count, double **into) {
    size_t done = 0, room = (size_t)options.samples;
    *into = malloc(room * sizeof **into);
    for (long i = 0; i < options.warmup; i++) {
        take_sample((uint64_t)i % count);
        runtime_invoke();
    }
    double began = now_ms();
    while (done < (size_t)options.samples || now_ms() - began < (double)options.time_ms) {
        if (done == room) *into = realloc(*into, (room *= 2) * sizeof **into);
        if (!*into) fail(EXIT_RUNTIME, "no memory for %zu times", room);
        take_sample(done % count);
        double start = now_ms();
        runtime_invoke();
        (*into)[done++] = now_ms() - start;
    }
    return done;
}

/* Who records the windows need not record what comes before them: it is told when they come, and answers. */
static void wait_at_gate(void) {
    char byte = 0;
    if (options.gate < 0) return;
    if (write((int)options.gate, &byte, 1) != 1 || read((int)options.gate, &byte, 1) != 1)
        fail(EXIT_FILE, "nobody answers at --gate %ld", options.gate);
}

static void count_windows(void) {
    take_sample(0);
    for (long i = 0; i < options.warmup; i++) runtime_invoke();
    wait_at_gate();
    for (long i = 0; i < options.windows; i++) {
        bench_mark_begin((int)i);
        runtime_invoke();
        bench_mark_end((int)i);
    }
    write_outputs();
}

static void write_tensors(FILE *to, const struct tensor *tensors, size_t count, const struct written *files) {
    fputc('[', to);
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor = &tensors[i];
        fputs(i ? ", {\"name\": " : "{\"name\": ", to);
        json_string(to, tensor->name);
        fprintf(to, ", \"dtype\": \"%s\", \"shape\": [", tensor->dtype);
        for (size_t j = 0; j < tensor->rank; j++) fprintf(to, j ? ", %lld" : "%lld", (long long)tensor->shape[j]);
        fprintf(to, "], \"size_bytes\": %zu, \"in_signature\": %s", tensor->size_bytes,
                tensor->in_signature ? "true" : "false");
        if (tensor->quantized && isfinite(tensor->scale))
            fprintf(to, ", \"scale\": %.17g, \"zero_point\": %lld", tensor->scale, (long long)tensor->zero_point);
        if (files) {
            fputs(", \"file\": ", to);
            json_string(to, files[i].file.path);
            fprintf(to, ", \"sha256\": \"%s\"", files[i].sha256);
        }
        fputc('}', to);
    }
    fputc(']', to);
}

__attribute__((noinline)) static void work(int argc, char **argv) {
    read_options(argc, argv, &options);
    FILE *answer = take_stdout();
    catch_crashes();
    clocks_stand_still = options.mode == MODE_COUNT && options.threads == 1; /* several wait for each other by it */

    now_doing("loading its library", EXIT_LIBRARY);
    runtime_load_library(options.library, argv[0]);
    uint64_t before_rss = rss_bytes();

    now_doing("reading the model", EXIT_RUNTIME);
    struct bytes file = read_model(options.model);
    char model_sha256[65];
    struct sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, file.start, file.size);
    sha256_end(&hash, model_sha256);
    if (options.sha256 && strcmp(options.sha256, model_sha256) != 0)
        fail(EXIT_DATA, "%s changed: wanted SHA-256 %s, found %s", options.model, options.sha256, model_sha256);

    now_doing("loading the model: is it a whole file of this runtime's format?", EXIT_DATA);
    double started = now_ms();
    runtime_open(file, options.threads, &model);
    double load_ms = now_ms() - started;

    now_doing("running the model", EXIT_RUNTIME);
    bool writes = options.mode == MODE_RUN || options.mode == MODE_COUNT;
    uint64_t count = options.mode == MODE_DESCRIBE ? 0 : open_inputs();
    if (writes) open_outputs();
    double *samples_ms = NULL;
    size_t timed = 0;
    if (options.mode == MODE_RUN) run_all(count);
    if (options.mode == MODE_TIME) timed = time_all(count, &samples_ms);
    if (options.mode == MODE_COUNT) count_windows();
    if (writes)
        for (size_t i = 0; i < model.output_count; i++) close_output(&outputs[i].file, outputs[i].sha256);
    uint64_t loaded_rss = rss_bytes();

    fprintf(answer, "{\"runtime\": \"%s\", \"runtime_version\": ", runtime_key);
    json_string(answer, runtime_version());
    fprintf(answer, ", \"model_sha256\": \"%s\", \"load_ms\": %.6f, \"samples_ms\": [", model_sha256, load_ms);
    for (size_t i = 0; i < timed; i++) fprintf(answer, i ? ", %.6f" : "%.6f", samples_ms[i]);
    fprintf(answer, "], \"peak_rss_bytes\": %llu, \"loaded_rss_bytes\": %llu, \"inputs\": ",
            (unsigned long long)peak_rss_bytes(),
            (unsigned long long)(loaded_rss > before_rss ? loaded_rss - before_rss : 0));
    write_tensors(answer, model.inputs, model.input_count, NULL);
    fputs(", \"outputs\": ", answer);
    write_tensors(answer, model.outputs, model.output_count, writes ? outputs : NULL);
    fputs(", \"metadata\": ", answer);
    if (model.metadata)
        json_string(answer, model.metadata);
    else
        fputs("null", answer);
    fputs(", \"libraries\": ", answer);
    json_libraries(answer, argv[0]);
    fputs("}\n", answer);
    if (fclose(answer) != 0) fail(EXIT_FILE, "cannot write the answer to stdout");
    /* Some runtimes crash while they are torn down; the answer is already written. */
    _exit(EXIT_DONE);
}

/* The stack begins below the arguments and the environment, and how copies go depends on where in a page they are. */
int main(int argc, char **argv) {
    enum { PAGE = 4096 };
    volatile char *above = __builtin_alloca((uintptr_t)__builtin_frame_address(0) % PAGE + 1);
    *above = 0;
    work(argc, argv);
}
