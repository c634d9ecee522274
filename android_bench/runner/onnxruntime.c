/* ONNX Runtime: libonnxruntime.so, through its C API; .onnx and .ort files, on the CPU provider. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "ort_api.h"
#include "runner.h"

const char runtime_program[] = "pf_onnxruntime";
const char runtime_key[] = "onnx";
const long runtime_max_threads = 64;

#define DECLARE(position, name, arguments) static status(*name) arguments;
ORT_FUNCTIONS(DECLARE)
static const char *(*GetErrorMessage)(status);
static void (*ReleaseValue)(object);
static void (*ReleaseTensorTypeAndShapeInfo)(object);

static const char *version;
static int failure_code = EXIT_DATA;
static object session, allocator, memory_info;
static struct model *model;
static const char *input_names[MAX_TENSORS], *output_names[MAX_TENSORS];
static object input_values[MAX_TENSORS], output_values[MAX_TENSORS];

#define CHECK(name, ...)                                                                \
    do {                                                                                \
        status failed = name(__VA_ARGS__);                                              \
        if (failed) fail(failure_code, "%s failed: %s", #name, GetErrorMessage(failed)); \
    } while (0)

void runtime_load_library(const char *path, const char *program) {
    (void)program;
    /* Official builds report model names and hashes to their maker unless told not to before they start. */
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(EXIT_LIBRARY, "cannot load the library: %s", dlerror());
    const struct ort_api_base *(*get_base)(void) = (const struct ort_api_base *(*)(void))dlsym(library, "OrtGetApiBase");
    if (!get_base) fail(EXIT_LIBRARY, "%s has no OrtGetApiBase: wanted libonnxruntime.so", path);
    const void *const *api = get_base()->get_api(ORT_API_VERSION);
    version = get_base()->get_version();
    if (!api) fail(EXIT_LIBRARY, "ONNX Runtime %s does not offer version %d of its API", version, ORT_API_VERSION);
#define FIND(position, name, arguments) name = (status(*) arguments)api[position];
    ORT_FUNCTIONS(FIND)
    GetErrorMessage = (const char *(*)(status))api[ERROR_MESSAGE_POSITION];
    ReleaseValue = (void (*)(object))api[RELEASE_VALUE_POSITION];
    ReleaseTensorTypeAndShapeInfo = (void (*)(object))api[RELEASE_TENSOR_POSITION];
}

const char *runtime_version(void) { return version; }

static const struct {
    int id;
    const char *name;
    size_t bytes;
} dtypes[] = {{1, "float32", 4}, {2, "uint8", 1}, {3, "int8", 1}, {5, "int16", 2},
              {6, "int32", 4},   {7, "int64", 8}, {9, "bool", 1}, {10, "float16", 2}};

static int dtype_ids[MAX_TENSORS]; /* of the inputs */

static void describe(object type, const char *name, const char *side, size_t index, struct tensor *found, int *dtype) {
    object tensor;
    int kind;
    size_t item_bytes = 0;
    found->name = name;
    found->in_signature = true;
    CHECK(GetOnnxTypeFromTypeInfo, type, &kind);
    if (kind != TENSOR_VALUE) fail(EXIT_DATA, "%s %zu (%s) is not a tensor", side, index, name);
    CHECK(CastTypeInfoToTensorInfo, type, &tensor);
    CHECK(GetTensorElementType, tensor, dtype);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dtypes[i].id != *dtype) continue;
        found->dtype = dtypes[i].name;
        item_bytes = dtypes[i].bytes;
    }
    if (!found->dtype)
        fail(EXIT_DATA, "%s %zu (%s) has ONNX's type %d, which this runner does not know", side, index, name, *dtype);
    CHECK(GetDimensionsCount, tensor, &found->rank);
    if (found->rank > MAX_RANK) fail(EXIT_DATA, "%s %zu (%s) has more than %d dimensions", side, index, name, MAX_RANK);
    CHECK(GetDimensions, tensor, found->shape, found->rank);
    found->size_bytes = tensor_bytes(found, item_bytes, side, index);
}

void runtime_open(struct bytes file, long threads, struct model *into) {
    object environment, options, type, metadata;
    char *name, *known = NULL;
    int ignored;
    CHECK(CreateEnv, LOG_ERROR, runtime_program, &environment);
    CHECK(DisableTelemetryEvents, environment);
    /* As our host session sets them; what is not named here has the same default in both APIs. */
    CHECK(CreateSessionOptions, &options);
    CHECK(SetSessionGraphOptimizationLevel, options, OPTIMIZE_ALL);
    CHECK(SetIntraOpNumThreads, options, (int)threads);
    CHECK(SetInterOpNumThreads, options, 1);
    CHECK(SetSessionLogSeverityLevel, options, LOG_ERROR);
    CHECK(CreateSessionFromArray, environment, file.start, file.size, options, &session);
    CHECK(GetAllocatorWithDefaultOptions, &allocator);
    CHECK(CreateCpuMemoryInfo, ARENA_ALLOCATOR, DEFAULT_MEMORY, &memory_info);
    CHECK(SessionGetInputCount, session, &into->input_count);
    CHECK(SessionGetOutputCount, session, &into->output_count);
    if (into->input_count > MAX_TENSORS || into->output_count > MAX_TENSORS)
        fail(EXIT_DATA, "more than %d inputs or outputs", MAX_TENSORS);
    for (size_t i = 0; i < into->input_count; i++) {
        CHECK(SessionGetInputName, session, i, allocator, &name);
        CHECK(SessionGetInputTypeInfo, session, i, &type);
        describe(type, input_names[i] = name, "input", i, &into->inputs[i], &dtype_ids[i]);
    }
    for (size_t i = 0; i < into->output_count; i++) {
        CHECK(SessionGetOutputName, session, i, allocator, &name);
        CHECK(SessionGetOutputTypeInfo, session, i, &type);
        describe(type, output_names[i] = name, "output", i, &into->outputs[i], &ignored);
    }
    CHECK(SessionGetModelMetadata, session, &metadata);
    CHECK(ModelMetadataLookupCustomMetadataMap, metadata, allocator, "io_quantization", &known);
    into->metadata = known;
    model = into;
    failure_code = EXIT_RUNTIME;
}

/* A value over the caller's memory, which holds each next sample too. */
void runtime_set_input(size_t index, const void *bytes) {
    const struct tensor *tensor = &model->inputs[index];
    if (input_values[index]) ReleaseValue(input_values[index]);
    CHECK(CreateTensorWithDataAsOrtValue, memory_info, (void *)bytes, tensor->size_bytes, tensor->shape, tensor->rank,
          dtype_ids[index], &input_values[index]);
}

void runtime_invoke(void) {
    for (size_t i = 0; i < model->output_count; i++) {
        if (output_values[i]) ReleaseValue(output_values[i]);
        output_values[i] = NULL; /* the runtime allocates it */
    }
    CHECK(Run, session, NULL, input_names, input_values, model->input_count, output_names, model->output_count,
          output_values);
}

void runtime_get_output(size_t index, void *into) {
    object shape;
    size_t count, wanted = 1;
    void *data;
    const struct tensor *tensor = &model->outputs[index];
    for (size_t i = 0; i < tensor->rank; i++) wanted *= (size_t)tensor->shape[i];
    CHECK(GetTensorTypeAndShape, output_values[index], &shape);
    CHECK(GetTensorShapeElementCount, shape, &count);
    ReleaseTensorTypeAndShapeInfo(shape);
    if (count != wanted)
        fail(EXIT_RUNTIME, "output %zu (%s) has %zu elements, its declared shape has %zu", index, tensor->name, count,
             wanted);
    CHECK(GetTensorMutableData, output_values[index], &data);
    memcpy(into, data, tensor->size_bytes);
}
