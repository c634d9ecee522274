/* ExecuTorch: the runtime inside the wheel's _portable_lib.so, without Python and without torch.
 *
 * That library is a Python module linked to libtorch. What it wants of both is given by stand-ins beside this program
 * (pf_executorch.libs/, made with it): they end the process if the runtime ever calls one, but for pthreadpool, which
 * they give as loops in the calling thread, and cpuinfo (cpuinfo.c). So one thread is all there is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include "executorch.h"

const char runtime_program[] = "pf_executorch";
const char runtime_key[] = "executorch";
const long runtime_max_threads = 1;

static const struct engine *engine;

static void fail_with(int code, const char *message) { fail(code, "%s", message); }

/* By bare name: found through this program's run path, its own folder's pf_executorch.libs. */
static void *load_own(const char *name, const char *why) {
    void *library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (!library) fail(EXIT_LIBRARY, "cannot load %s, %s: %s", name, why, dlerror());
    return library;
}

void runtime_load_library(const char *path, const char *program) {
    /* Loaded by these names, they satisfy the library's dependencies wherever those would be searched for. */
    static const char *const stand_ins[] = {"libc10.so", "libtorch_cpu.so", "libtorch.so", "libtorch_python.so"};
    (void)program;
    for (size_t i = 0; i < sizeof stand_ins / sizeof *stand_ins; i++) load_own(stand_ins[i], "which belongs beside this program");
    if (!dlopen(path, RTLD_NOW | RTLD_GLOBAL)) fail(EXIT_LIBRARY, "cannot load the library: %s", dlerror());
    void *library = load_own("libpf_engine.so", "which goes with one release of ExecuTorch's library");
    engine_function get_engine = (engine_function)dlsym(library, "pf_engine");
    if (!get_engine) fail(EXIT_LIBRARY, "libpf_engine.so has no pf_engine");
    engine = get_engine(fail_with, tensor_bytes);
}

const char *runtime_version(void) { return engine->version; }

void runtime_open(struct bytes file, long threads, struct model *into) {
    (void)threads;
    engine->open(file, into);
}

void runtime_set_input(size_t index, const void *bytes) { engine->set_input(index, bytes); }
void runtime_invoke(void) { engine->invoke(); }
void runtime_get_output(size_t index, void *into) { engine->get_output(index, into); }
