// ExecuTorch's C++ API, compiled with the wheel's own headers. See executorch.h.
//
// The library was built with libstdc++ and this file with libc++: nothing of the standard library may cross between
// them by value (a std::string_view, as in TensorInfo::name(), has its two words the other way round).
#include <executorch/runtime/core/data_loader.h>
#include <executorch/runtime/executor/memory_manager.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>

#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <new>

#include "executorch.h"

// The wheel has no header of it. The one pool is made with as many threads as cpuinfo counts fast cores.
namespace executorch::extension::threadpool {
class ThreadPool {
public:
    size_t get_thread_count() const;
    bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool *get_threadpool();
} // namespace executorch::extension::threadpool

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::runtime::DataLoader;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::FreeableBuffer;
using executorch::runtime::HierarchicalAllocator;
using executorch::runtime::MemoryAllocator;
using executorch::runtime::MemoryManager;
using executorch::runtime::Method;
using executorch::runtime::MethodMeta;
using executorch::runtime::Program;
using executorch::runtime::Result;
using executorch::runtime::Span;
using executorch::runtime::Tag;

fail_function fail_with;
size_t (*bytes_of)(const tensor *, size_t, const char *, size_t);

__attribute__((noreturn, format(printf, 2, 3))) void stop(int code, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    fail_with(code, message);
    abort();
}

void check(Error error, int code, const char *what) {
    if (error != Error::Ok)
        stop(code, "%s failed: %s (0x%x)", what, executorch::runtime::to_string(error), (unsigned)error);
}

void *aligned(size_t size, size_t alignment) {
    void *found = nullptr;
    if (alignment < sizeof(void *)) alignment = sizeof(void *);
    return posix_memalign(&found, alignment, size ? size : 1) == 0 ? found : nullptr;
}

// The model's bytes, which outlive everything here.
class Bytes final : public DataLoader {
public:
    explicit Bytes(struct bytes file) : file_(file) {}

    Result<FreeableBuffer> load(size_t offset, size_t size, const SegmentInfo &) const override {
        if (offset > file_.size || size > file_.size - offset) return Error::InvalidArgument;
        return FreeableBuffer(static_cast<const char *>(file_.start) + offset, size, nullptr);
    }

    Error load_into(size_t offset, size_t size, const SegmentInfo &, void *into) const override {
        if (offset > file_.size || size > file_.size - offset) return Error::InvalidArgument;
        memcpy(into, static_cast<const char *>(file_.start) + offset, size);
        return Error::Ok;
    }

    Result<size_t> size() const override { return file_.size; }

private:
    struct bytes file_;
};

// Grows as the runtime asks: no limit of ours that a larger model could meet. reset() frees, as between two kernels.
class Growing final : public MemoryAllocator {
public:
    Growing() : MemoryAllocator(0, nullptr) {}

    void *allocate(size_t size, size_t alignment) override {
        auto *block = static_cast<Block *>(malloc(sizeof(Block)));
        void *found = aligned(size, alignment);
        if (!block || !found) return nullptr;
        *block = {last_, found};
        last_ = block;
        return found;
    }

    void reset() override {
        while (last_) {
            Block *before = last_->before;
            free(last_->memory);
            free(last_);
            last_ = before;
        }
    }

private:
    struct Block {
        Block *before;
        void *memory;
    };
    Block *last_ = nullptr;
};

// A method with the memory that its program asks for. Made once, never freed.
struct Loaded {
    Growing for_method, temporary;
    HierarchicalAllocator *planned;
    MemoryManager *manager;
    Method *method;
};

template <typename T>
T *kept(T &&value) {
    return new (std::nothrow) T(std::move(value));
}

Loaded *load(const Program &program, const MethodMeta &meta, const char *name) {
    auto *loaded = new (std::nothrow) Loaded();
    size_t count = meta.num_memory_planned_buffers();
    auto *spans = static_cast<Span<uint8_t> *>(calloc(count ? count : 1, sizeof(Span<uint8_t>)));
    if (!loaded || !spans) stop(EXIT_RUNTIME, "no memory");
    for (size_t i = 0; i < count; i++) {
        auto size = meta.memory_planned_buffer_size(i);
        check(size.error(), EXIT_DATA, "memory_planned_buffer_size");
        auto *memory = static_cast<uint8_t *>(aligned(static_cast<size_t>(*size), 64));
        if (!memory) stop(EXIT_RUNTIME, "no memory for a planned buffer of %lld bytes", static_cast<long long>(*size));
        new (&spans[i]) Span<uint8_t>(memory, static_cast<size_t>(*size));
    }
    loaded->planned = new (std::nothrow) HierarchicalAllocator({spans, count});
    loaded->manager = new (std::nothrow) MemoryManager(&loaded->for_method, loaded->planned, &loaded->temporary);
    if (!loaded->planned || !loaded->manager) stop(EXIT_RUNTIME, "no memory");
    auto method = program.load_method(name, loaded->manager);
    check(method.error(), EXIT_DATA, "load_method");
    loaded->method = kept(std::move(*method));
    return loaded;
}

const struct {
    ScalarType type;
    const char *name;
    size_t bytes;
} dtypes[] = {{ScalarType::Float, "float32", 4}, {ScalarType::Char, "int8", 1}, {ScalarType::Byte, "uint8", 1},
              {ScalarType::Short, "int16", 2},   {ScalarType::Int, "int32", 4},  {ScalarType::Long, "int64", 8},
              {ScalarType::Half, "float16", 2},  {ScalarType::Bool, "bool", 1}};

// `value` is the loaded method's own tensor: its shape, and whether that may change.
void describe(const EValue &value, const char *side, size_t index, tensor *found) {
    found->name = "";
    found->in_signature = true;
    if (!value.isTensor()) stop(EXIT_DATA, "%s %zu is not a tensor", side, index);
    const Tensor &tensor = value.toTensor();
    if (tensor.shape_dynamism() != executorch::runtime::TensorShapeDynamism::STATIC)
        stop(EXIT_DATA, "%s %zu has no fixed shape; export it with fixed shapes", side, index);
    size_t item_bytes = 0;
    for (const auto &dtype : dtypes) {
        if (dtype.type != tensor.scalar_type()) continue;
        found->dtype = dtype.name;
        item_bytes = dtype.bytes;
    }
    if (!found->dtype)
        stop(EXIT_DATA, "%s %zu has ExecuTorch's type %d, which this runner does not know", side, index,
             static_cast<int>(tensor.scalar_type()));
    found->rank = static_cast<size_t>(tensor.dim());
    if (found->rank > MAX_RANK) stop(EXIT_DATA, "%s %zu has more than %d dimensions", side, index, MAX_RANK);
    for (size_t i = 0; i < found->rank; i++) {
        found->shape[i] = tensor.size(static_cast<ssize_t>(i));
        if (tensor.dim_order()[i] != i)
            stop(EXIT_DATA, "%s %zu has another dimension order than its shape's; export it contiguous", side, index);
    }
    found->size_bytes = bytes_of(found, item_bytes, side, index);
}

struct Input {
    TensorImpl *shape;
    EValue *value;
};

Method *forward;
size_t input_count;
Input inputs[MAX_TENSORS];
size_t output_bytes[MAX_TENSORS];

// Names and quantization, which our exporter keeps in a constant method: the format has no place for them.
char *read_metadata(const Program &program) {
    auto meta = program.method_meta("get_io");
    if (!meta.ok()) return nullptr;
    Loaded *loaded = load(program, *meta, "get_io");
    check(loaded->method->execute(), EXIT_DATA, "get_io");
    const EValue &value = loaded->method->get_output(0);
    if (!value.isString()) stop(EXIT_DATA, "get_io gives no text");
    auto text = value.toString();
    return strndup(text.data(), text.size());
}

// Before a file is loaded: XNNPACK's part keeps the pool that it is given then. As the Python binding does it.
void set_threads(long threads) {
    auto *pool = executorch::extension::threadpool::get_threadpool();
    if (!pool) stop(EXIT_RUNTIME, "the runtime has no pool of threads");
    auto wanted = static_cast<size_t>(threads);
    if (pool->get_thread_count() != wanted) pool->_unsafe_reset_threadpool(static_cast<uint32_t>(threads));
    if (pool->get_thread_count() != wanted)
        stop(EXIT_RUNTIME, "wanted %zu threads, the runtime made %zu", wanted, pool->get_thread_count());
}

void open(struct bytes file, long threads, model *into) {
    if (file.size < 8 || memcmp(static_cast<char *>(file.start) + 4, "ET12", 4) != 0)
        stop(EXIT_DATA, "not an ExecuTorch file: bytes 4 to 7 are not \"ET12\"");
    executorch::runtime::runtime_init();
    set_threads(threads);
    static Bytes loader(file);
    auto loading = Program::load(&loader, Program::Verification::InternalConsistency);
    check(loading.error(), EXIT_DATA, "Program::load");
    static Program program(std::move(*loading));
    auto meta = program.method_meta("forward");
    check(meta.error(), EXIT_DATA, "method \"forward\"");
    forward = load(program, *meta, "forward")->method;
    input_count = into->input_count = forward->inputs_size();
    into->output_count = forward->outputs_size();
    if (into->input_count > MAX_TENSORS || into->output_count > MAX_TENSORS)
        stop(EXIT_DATA, "more than %d inputs or outputs", MAX_TENSORS);
    for (size_t i = 0; i < into->input_count; i++) {
        const EValue &own = forward->get_input(i);
        describe(own, "input", i, &into->inputs[i]);
        const Tensor &tensor = own.toTensor();
        auto *shape = new (std::nothrow)
            TensorImpl(tensor.scalar_type(), tensor.dim(), const_cast<TensorImpl::SizesType *>(tensor.sizes().data()),
                       nullptr, const_cast<TensorImpl::DimOrderType *>(tensor.dim_order().data()),
                       const_cast<TensorImpl::StridesType *>(tensor.strides().data()));
        inputs[i] = {shape, new (std::nothrow) EValue(Tensor(shape))};
    }
    for (size_t i = 0; i < into->output_count; i++) {
        describe(forward->get_output(i), "output", i, &into->outputs[i]);
        output_bytes[i] = into->outputs[i].size_bytes;
    }
    into->metadata = read_metadata(program);
}

void set_input(size_t index, const void *bytes) { inputs[index].shape->set_data(const_cast<void *>(bytes)); }

// Inputs are handed over before each execution, as an app must: the runtime may reuse their memory for what follows.
void invoke() {
    for (size_t i = 0; i < input_count; i++) check(forward->set_input(*inputs[i].value, i), EXIT_RUNTIME, "set_input");
    check(forward->execute(), EXIT_RUNTIME, "execute");
}

void get_output(size_t index, void *into) {
    const Tensor &tensor = forward->get_output(index).toTensor();
    if (tensor.nbytes() != output_bytes[index])
        stop(EXIT_RUNTIME, "output %zu has %zu bytes, its declared shape has %zu", index, tensor.nbytes(),
             output_bytes[index]);
    memcpy(into, tensor.const_data_ptr(), output_bytes[index]);
}

} // namespace

extern "C" __attribute__((visibility("default"))) const engine *pf_engine(
    fail_function fail, size_t (*bytes)(const tensor *, size_t, const char *, size_t)) {
    static const engine found = {PF_EXECUTORCH_VERSION, open, set_input, invoke, get_output};
    fail_with = fail;
    bytes_of = bytes;
    return &found;
}
