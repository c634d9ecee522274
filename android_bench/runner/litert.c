/* LiteRT: libLiteRt.so of ai-edge-litert 2.3.0, through its C API, with XNNPACK (its default CPU kernels).
 *
 * The library exports no version and its functions changed their arguments between releases, so this file goes with
 * that release: an earlier or later one is refused where it lacks a function, and is not tried otherwise. Declarations
 * follow upstream's litert/c/ headers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "runner.h"

const char runtime_program[] = "pf_litert";
const char runtime_key[] = "tflite";
const long runtime_max_threads = 64;

typedef void *handle; /* all of LiteRT's objects are opaque */

struct layout {
    uint32_t rank : 7;
    uint32_t has_strides : 1;
    int32_t dimensions[MAX_RANK];
    uint32_t strides[MAX_RANK];
};

struct ranked_type {
    int32_t element;
    struct layout layout;
};

struct per_tensor {
    float scale;
    int64_t zero_point;
};

enum { ACCELERATOR_CPU = 1, LOCK_READ = 0, LOCK_WRITE = 1, RANKED = 0, QUANTIZED_PER_TENSOR = 1 };

/* X(name, arguments): each returns a status, 0 for success. */
#define FUNCTIONS(X)                                                                  \
    X(CreateEnvironment, (int, const void *, handle *))                               \
    X(CreateModelFromBuffer, (handle, const void *, size_t, handle *))                \
    X(CreateOptions, (handle *))                                                      \
    X(SetOptionsHardwareAccelerators, (handle, int))                                  \
    X(CreateOpaqueOptions, (const char *, void *, void (*)(void *), handle *))        \
    X(AddOpaqueOptions, (handle, handle))                                             \
    X(CreateCompiledModel, (handle, handle, handle, handle *))                        \
    X(GetNumModelSignatures, (handle, size_t *))                                      \
    X(GetModelSignature, (handle, size_t, handle *))                                  \
    X(GetSignatureKey, (handle, const char **))                                       \
    X(GetSignatureSubgraph, (handle, handle *))                                       \
    X(GetNumSignatureInputs, (handle, size_t *))                                      \
    X(GetNumSignatureOutputs, (handle, size_t *))                                     \
    X(GetSignatureInputName, (handle, size_t, const char **))                         \
    X(GetSignatureOutputName, (handle, size_t, const char **))                        \
    X(GetSignatureInputTensorByIndex, (handle, size_t, handle *))                     \
    X(GetSignatureOutputTensorByIndex, (handle, size_t, handle *))                    \
    X(GetNumSubgraphInputs, (handle, size_t *))                                       \
    X(GetNumSubgraphOutputs, (handle, size_t *))                                      \
    X(GetSubgraphInput, (handle, size_t, handle *))                                   \
    X(GetSubgraphOutput, (handle, size_t, handle *))                                  \
    X(GetTensorName, (handle, const char **))                                         \
    X(GetTensorTypeId, (handle, int *))                                               \
    X(GetRankedTensorType, (handle, struct ranked_type *))                            \
    X(GetQuantizationTypeId, (handle, int *))                                         \
    X(GetPerTensorQuantization, (handle, struct per_tensor *))                        \
    X(GetCompiledModelInputBufferRequirements, (handle, size_t, size_t, handle *))    \
    X(GetCompiledModelOutputBufferRequirements, (handle, size_t, size_t, handle *))   \
    X(CreateManagedTensorBufferFromRequirements, (handle, const struct ranked_type *, handle, handle *)) \
    X(GetTensorBufferPackedSize, (handle, size_t *))                                  \
    X(LockTensorBuffer, (handle, void **, int))                                       \
    X(UnlockTensorBuffer, (handle))                                                   \
    X(RunCompiledModel, (handle, size_t, size_t, handle *, size_t, handle *))

#define DECLARE(name, arguments) static int(*name) arguments;
FUNCTIONS(DECLARE)

static int failure_code = EXIT_DATA;
static handle compiled;

/* In the signature's order, as RunCompiledModel takes them; `at` says which one the subgraph's n-th is. */
struct side {
    handle buffers[MAX_TENSORS];
    size_t at[MAX_TENSORS];
    size_t count;
};

static struct side inputs, outputs;

/* litert_common.h; the library exports no function for them. */
static const char *status_text(int status) {
    switch (status) {
    case 1: return "invalid argument";
    case 2: return "no memory";
    case 3: return "run-time failure";
    case 5: return "unsupported";
    case 6: return "not found";
    case 500: return "file cannot be read";
    case 501: return "not a valid flatbuffer: damaged, or cut short";
    case 504: return "compilation failed";
    default: return "status";
    }
}

#define CHECK(name, ...)                                                                                \
    do {                                                                                                \
        int status = name(__VA_ARGS__);                                                                 \
        if (status != 0)                                                                                \
            fail(failure_code, "LiteRt%s failed: %s (%d)", #name, status_text(status), status);        \
    } while (0)

void runtime_load_library(const char *path, const char *program) {
    (void)program;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(EXIT_LIBRARY, "cannot load the library: %s", dlerror());
#define FIND(name, arguments)                                                                                       \
    name = (int(*) arguments)dlsym(library, "LiteRt" #name);                                                        \
    if (!name) fail(EXIT_LIBRARY, "%s has no LiteRt%s: wanted libLiteRt.so of ai-edge-litert 2.3.0", path, #name);
    FUNCTIONS(FIND)
}

const char *runtime_version(void) { return "2.3.0"; }

static const struct {
    int id;
    const char *name;
    size_t bytes;
} dtypes[] = {{1, "float32", 4}, {2, "int32", 4}, {3, "uint8", 1},    {4, "int64", 8},
              {6, "bool", 1},    {7, "int16", 2}, {9, "int8", 1},    {10, "float16", 2}};

static struct tensor describe(handle tensor, const char *side, size_t index) {
    struct tensor found = {.name = ""};
    struct ranked_type type;
    int type_id, quantization;
    CHECK(GetTensorName, tensor, &found.name);
    CHECK(GetTensorTypeId, tensor, &type_id);
    if (type_id != RANKED) fail(EXIT_DATA, "%s %zu (%s) has no fixed rank", side, index, found.name);
    CHECK(GetRankedTensorType, tensor, &type);
    size_t item_bytes = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dtypes[i].id != type.element) continue;
        found.dtype = dtypes[i].name;
        item_bytes = dtypes[i].bytes;
    }
    if (!found.dtype)
        fail(EXIT_DATA, "%s %zu (%s) has TFLite's type %d, which this runner does not know", side, index, found.name,
             type.element);
    found.rank = type.layout.rank;
    if (found.rank > MAX_RANK) fail(EXIT_DATA, "%s %zu (%s) has more than %d dimensions", side, index, found.name, MAX_RANK);
    for (size_t i = 0; i < found.rank; i++) found.shape[i] = type.layout.dimensions[i];
    found.size_bytes = tensor_bytes(&found, item_bytes, side, index);
    CHECK(GetQuantizationTypeId, tensor, &quantization);
    if (quantization == QUANTIZED_PER_TENSOR) {
        struct per_tensor levels;
        CHECK(GetPerTensorQuantization, tensor, &levels);
        found.quantized = levels.scale != 0;
        found.scale = levels.scale;
        found.zero_point = levels.zero_point;
    }
    return found;
}

/* Without the ":0" that converters append, as our own files name their tensors. */
static bool same_name(const char *tensor, const char *name) {
    size_t length = strlen(tensor);
    if (length > 2 && strcmp(tensor + length - 2, ":0") == 0) length -= 2;
    return strlen(name) == length && strncmp(tensor, name, length) == 0;
}

/* The tensors of one side in the subgraph's order, which is the order of TFLite's interpreter. */
static void open_side(handle environment, handle signature, handle graph, bool output, struct side *side,
                      struct tensor *into) {
    const char *word = output ? "output" : "input", *key, *name;
    size_t graph_count;
    if (output) {
        CHECK(GetNumSignatureOutputs, signature, &side->count);
        CHECK(GetNumSubgraphOutputs, graph, &graph_count);
    } else {
        CHECK(GetNumSignatureInputs, signature, &side->count);
        CHECK(GetNumSubgraphInputs, graph, &graph_count);
    }
    if (side->count != graph_count)
        fail(EXIT_DATA, "the signature has %zu %ss, the graph has %zu", side->count, word, graph_count);
    if (side->count > MAX_TENSORS) fail(EXIT_DATA, "more than %d %ss", MAX_TENSORS, word);
    CHECK(GetSignatureKey, signature, &key);
    bool taken[MAX_TENSORS] = {false};
    for (size_t i = 0; i < side->count; i++) {
        handle tensor, other, requirements;
        size_t at = side->count, packed;
        if (output)
            CHECK(GetSubgraphOutput, graph, i, &tensor);
        else
            CHECK(GetSubgraphInput, graph, i, &tensor);
        for (size_t j = 0; j < side->count && at == side->count; j++) {
            if (output)
                CHECK(GetSignatureOutputTensorByIndex, signature, j, &other);
            else
                CHECK(GetSignatureInputTensorByIndex, signature, j, &other);
            /* One tensor may be given as two outputs. */
            if (other == tensor && !taken[j]) at = j;
        }
        if (at == side->count) fail(EXIT_DATA, "%s %zu of the graph is not in the signature", word, i);
        taken[at] = true;
        side->at[i] = at;
        into[i] = describe(tensor, word, i);
        for (size_t j = 0; j < side->count; j++) {
            if (output)
                CHECK(GetSignatureOutputName, signature, j, &name);
            else
                CHECK(GetSignatureInputName, signature, j, &name);
            if (strcmp(key, "serving_default") == 0 && same_name(into[i].name, name)) into[i].in_signature = true;
        }
        struct ranked_type type;
        CHECK(GetRankedTensorType, tensor, &type);
        if (output)
            CHECK(GetCompiledModelOutputBufferRequirements, compiled, 0, at, &requirements);
        else
            CHECK(GetCompiledModelInputBufferRequirements, compiled, 0, at, &requirements);
        CHECK(CreateManagedTensorBufferFromRequirements, environment, &type, requirements, &side->buffers[at]);
        CHECK(GetTensorBufferPackedSize, side->buffers[at], &packed);
        if (packed != into[i].size_bytes)
            fail(EXIT_DATA, "%s %zu (%s) has %zu bytes by its shape, %zu in the runtime", word, i, into[i].name,
                 into[i].size_bytes, packed);
    }
}

void runtime_open(struct bytes file, long threads, struct model *into) {
    handle environment, model, options, xnnpack, signature, graph;
    size_t signatures;
    if (file.size < 8 || memcmp((char *)file.start + 4, "TFL3", 4) != 0)
        fail(EXIT_DATA, "not a TFLite file: bytes 4 to 7 are not \"TFL3\"");
    CHECK(CreateEnvironment, 0, NULL, &environment);
    CHECK(CreateModelFromBuffer, environment, file.start, file.size, &model);
    CHECK(CreateOptions, &options);
    CHECK(SetOptionsHardwareAccelerators, options, ACCELERATOR_CPU);
    char *settings = malloc(64);
    if (!settings) fail(EXIT_RUNTIME, "no memory");
    snprintf(settings, 64, "num_threads = %ld\n", threads);
    CHECK(CreateOpaqueOptions, "xnnpack", settings, free, &xnnpack);
    CHECK(AddOpaqueOptions, options, xnnpack);
    CHECK(GetNumModelSignatures, model, &signatures);
    if (signatures != 1) fail(EXIT_DATA, "the model has %zu signatures, this runner takes one", signatures);
    CHECK(GetModelSignature, model, 0, &signature);
    CHECK(GetSignatureSubgraph, signature, &graph);
    CHECK(CreateCompiledModel, environment, model, options, &compiled);
    open_side(environment, signature, graph, false, &inputs, into->inputs);
    open_side(environment, signature, graph, true, &outputs, into->outputs);
    into->input_count = inputs.count;
    into->output_count = outputs.count;
    failure_code = EXIT_RUNTIME;
}

static void copy(handle buffer, void *to, const void *from) {
    void *memory;
    size_t size;
    CHECK(GetTensorBufferPackedSize, buffer, &size);
    CHECK(LockTensorBuffer, buffer, &memory, from ? LOCK_WRITE : LOCK_READ);
    if (from)
        memcpy(memory, from, size);
    else
        memcpy(to, memory, size);
    CHECK(UnlockTensorBuffer, buffer);
}

void runtime_set_input(size_t index, const void *bytes) { copy(inputs.buffers[inputs.at[index]], NULL, bytes); }

void runtime_invoke(void) {
    CHECK(RunCompiledModel, compiled, 0, inputs.count, inputs.buffers, outputs.count, outputs.buffers);
}

void runtime_get_output(size_t index, void *into) { copy(outputs.buffers[outputs.at[index]], into, NULL); }
