/* The clock that a runtime's libraries see: they look for clock_gettime in the program before they do in the C library.
 *
 * While a count runs it stands still, but for a step whenever it is asked, so that nothing is done by the clock. ONNX
 * Runtime closes its books of how long inferences took when two seconds are over: 340 instructions, now in one of two
 * counts of a file, now in the other. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

#include "runner.h"

enum { START_S = 1000000000, STEP_NS = 1000, NS_PER_S = 1000000000 };

static int (*of_system)(clockid_t, struct timespec *);

__attribute__((constructor)) static void find_clock_of_system(void) {
    of_system = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *now) {
    static struct timespec shown = {.tv_sec = START_S};
    if (!clocks_stand_still) return of_system(clock, now);
    shown.tv_nsec += STEP_NS;
    if (shown.tv_nsec >= NS_PER_S) {
        shown.tv_sec++;
        shown.tv_nsec -= NS_PER_S;
    }
    *now = shown;
    return 0;
}
