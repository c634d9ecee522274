/* The part of ONNX Runtime's C API that this runner calls.
 *
 * The library exports one function, OrtGetApiBase, which hands out a table of function pointers. Upstream only ever
 * appends to that table (onnxruntime_c_api.h, "struct OrtApi"), so a function is its position there; the wheels hold no
 * header, and these positions are all that is needed of it. Every function but the Release ones returns NULL or a
 * status. */
#ifndef PF_ORT_API_H
#define PF_ORT_API_H

#include <stddef.h>
#include <stdint.h>

typedef void *object; /* all of ONNX Runtime's objects are opaque */
typedef void *status;

struct ort_api_base {
    const void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

enum { ORT_API_VERSION = 16, LOG_ERROR = 3, OPTIMIZE_ALL = 99, ARENA_ALLOCATOR = 1, DEFAULT_MEMORY = 0, TENSOR_VALUE = 1 };

/* X(position, name, arguments) */
#define ORT_FUNCTIONS(X)                                                                                              \
    X(3, CreateEnv, (int log_level, const char *name, object *environment))                                          \
    X(6, DisableTelemetryEvents, (object environment))                                                               \
    X(8, CreateSessionFromArray, (object environment, const void *model, size_t size, object options, object *session)) \
    X(9, Run,                                                                                                        \
      (object session, object run_options, const char *const *input_names, const object *inputs, size_t input_count, \
       const char *const *output_names, size_t output_count, object *outputs))                                       \
    X(10, CreateSessionOptions, (object * options))                                                                  \
    X(22, SetSessionLogSeverityLevel, (object options, int level))                                                   \
    X(23, SetSessionGraphOptimizationLevel, (object options, int level))                                             \
    X(24, SetIntraOpNumThreads, (object options, int threads))                                                       \
    X(25, SetInterOpNumThreads, (object options, int threads))                                                       \
    X(30, SessionGetInputCount, (object session, size_t *count))                                                     \
    X(31, SessionGetOutputCount, (object session, size_t *count))                                                    \
    X(33, SessionGetInputTypeInfo, (object session, size_t index, object *type))                                     \
    X(34, SessionGetOutputTypeInfo, (object session, size_t index, object *type))                                    \
    X(36, SessionGetInputName, (object session, size_t index, object allocator, char **name))                        \
    X(37, SessionGetOutputName, (object session, size_t index, object allocator, char **name))                       \
    X(49, CreateTensorWithDataAsOrtValue,                                                                            \
      (object memory, void *data, size_t size, const int64_t *shape, size_t rank, int dtype, object *value))         \
    X(51, GetTensorMutableData, (object value, void **data))                                                         \
    X(55, CastTypeInfoToTensorInfo, (object type, object *tensor))                                                   \
    X(56, GetOnnxTypeFromTypeInfo, (object type, int *kind))                                                         \
    X(60, GetTensorElementType, (object tensor, int *dtype))                                                         \
    X(61, GetDimensionsCount, (object tensor, size_t *rank))                                                         \
    X(62, GetDimensions, (object tensor, int64_t *shape, size_t rank))                                               \
    X(64, GetTensorShapeElementCount, (object tensor, size_t *count))                                                \
    X(65, GetTensorTypeAndShape, (object value, object *tensor))                                                     \
    X(69, CreateCpuMemoryInfo, (int allocator, int memory_type, object *memory))                                     \
    X(78, GetAllocatorWithDefaultOptions, (object * allocator))                                                      \
    X(111, SessionGetModelMetadata, (object session, object *metadata))                                              \
    X(116, ModelMetadataLookupCustomMetadataMap, (object metadata, object allocator, const char *key, char **value))

enum { ERROR_MESSAGE_POSITION = 2, RELEASE_VALUE_POSITION = 96, RELEASE_TENSOR_POSITION = 99 };

#endif
