// What generated C++ calls of ONNX Runtime's C API, for tests: the wheels hold no header.
//
// A function is its position in the table, which upstream only appends to (onnxruntime_c_api.h, "struct OrtApi"); names
// and arguments are as its public documentation has them.
#ifndef POCKETFORGE_TESTS_ONNXRUNTIME_C_API_H_
#define POCKETFORGE_TESTS_ONNXRUNTIME_C_API_H_

#include <cstddef>
#include <cstdint>

struct OrtEnv;
struct OrtStatus;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtMemoryInfo;
struct OrtValue;

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_ERROR = 3 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };
enum ONNXTensorElementDataType {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16 = 5,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL = 9,
};

struct OrtApi {
    const void* before_2[2];
    const char* (*GetErrorMessage)(const OrtStatus* status);
    OrtStatus* (*CreateEnv)(OrtLoggingLevel level, const char* name, OrtEnv** made);
    const void* before_8[4];
    OrtStatus* (*CreateSessionFromArray)(const OrtEnv* environment, const void* model, std::size_t size,
                                         const OrtSessionOptions* options, OrtSession** made);
    OrtStatus* (*Run)(OrtSession* session, const OrtRunOptions* options, const char* const* input_names,
                      const OrtValue* const* inputs, std::size_t input_count, const char* const* output_names,
                      std::size_t output_count, OrtValue** outputs);
    OrtStatus* (*CreateSessionOptions)(OrtSessionOptions** made);
    const void* before_24[13];
    OrtStatus* (*SetIntraOpNumThreads)(OrtSessionOptions* options, int threads);
    OrtStatus* (*SetInterOpNumThreads)(OrtSessionOptions* options, int threads);
    const void* before_49[23];
    OrtStatus* (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo* memory, void* data, std::size_t size,
                                                 const std::int64_t* shape, std::size_t rank,
                                                 ONNXTensorElementDataType type, OrtValue** made);
    const void* before_69[19];
    OrtStatus* (*CreateCpuMemoryInfo)(OrtAllocatorType allocator, OrtMemType type, OrtMemoryInfo** made);
    const void* before_92[22];
    void (*ReleaseEnv)(OrtEnv* released);
    void (*ReleaseStatus)(OrtStatus* released);
    void (*ReleaseMemoryInfo)(OrtMemoryInfo* released);
    void (*ReleaseSession)(OrtSession* released);
    void (*ReleaseValue)(OrtValue* released);
    const void* before_100[3];
    void (*ReleaseSessionOptions)(OrtSessionOptions* released);
};
static_assert(offsetof(OrtApi, CreateTensorWithDataAsOrtValue) == 49 * sizeof(void*), "its place in upstream's table");
static_assert(offsetof(OrtApi, ReleaseSessionOptions) == 100 * sizeof(void*), "its place in upstream's table");

struct OrtApiBase {
    const OrtApi* (*GetApi)(std::uint32_t version);
    const char* (*GetVersionString)();
};

extern "C" const OrtApiBase* OrtGetApiBase();

#endif  // POCKETFORGE_TESTS_ONNXRUNTIME_C_API_H_
