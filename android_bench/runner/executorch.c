/* ExecuTorch: the wheel's C++ runtime, without Python and without torch.
 *
 * It comes as several libraries in one folder. --library names the runtime proper, libexecutorch.so; the kernels and
 * XNNPACK, which enter themselves into its tables when they are loaded, are taken from beside it, and the thread pool
 * with them. These are what the Python binding loads, so a file finds the same operators here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include "executorch.h"

const char runtime_program[] = "pf_executorch";
const char runtime_key[] = "executorch";
const long runtime_max_threads = 64;

static const struct engine *engine;

static void fail_with(int code, const char *message) { fail(code, "%s", message); }

/* Global: the engine finds the runtime's functions, and the parts each other's, among what is already loaded. */
static void *load(const char *path, const char *name, const char *why) {
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) fail(EXIT_LIBRARY, "cannot load %s%s: %s", name, why, dlerror());
    return library;
}

static void load_beside(const char *main_library, const char *name) {
    const char *slash = strrchr(main_library, '/');
    int folder_length = slash ? (int)(slash - main_library) + 1 : 0;
    char path[4096];
    int length = snprintf(path, sizeof path, "%.*s%s", folder_length, main_library, name);
    if (length < 0 || (size_t)length >= sizeof path) fail(EXIT_LIBRARY, "the library's path is too long");
    load(path, name, ", which belongs beside the library");
}

void runtime_load_library(const char *path, const char *program) {
    static const char *const parts[] = {"libexecutorch_threadpool.so", "libexecutorch_kernels_optimized.so",
                                        "libexecutorch_backend_xnnpack.so"};
    (void)program;
    load(path, "the library", "");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) load_beside(path, parts[i]);
    /* By bare name: found through this program's run path, its own folder's pf_executorch.libs. */
    void *library = load("libpf_engine.so", "libpf_engine.so", ", which goes with one release of ExecuTorch's library");
    engine_function get_engine = (engine_function)dlsym(library, "pf_engine");
    if (!get_engine) fail(EXIT_LIBRARY, "libpf_engine.so has no pf_engine");
    engine = get_engine(fail_with, tensor_bytes);
}

const char *runtime_version(void) { return engine->version; }
void runtime_open(struct bytes file, long threads, struct model *into) { engine->open(file, threads, into); }
void runtime_set_input(size_t index, const void *bytes) { engine->set_input(index, bytes); }
void runtime_invoke(void) { engine->invoke(); }
void runtime_get_output(size_t index, void *into) { engine->get_output(index, into); }
