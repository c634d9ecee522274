/* Between pf_executorch and its engine, which is a library of its own: it calls C++ functions of ExecuTorch's library
 * and can be loaded only after that one. */
#ifndef PF_EXECUTORCH_H
#define PF_EXECUTORCH_H

#include "runner.h"

#ifdef __cplusplus
extern "C" {
#endif

struct engine {
    const char *version; /* of the headers it was compiled with */
    void (*open)(struct bytes file, long threads, struct model *into);
    void (*set_input)(size_t index, const void *bytes);
    void (*invoke)(void);
    void (*get_output)(size_t index, void *into);
};

typedef void (*fail_function)(int code, const char *message);
typedef const struct engine *(*engine_function)(fail_function fail, size_t (*bytes)(const struct tensor *, size_t,
                                                                                     const char *, size_t));

#ifdef __cplusplus
}
#endif
#endif
