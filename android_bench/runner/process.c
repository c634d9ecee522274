/* This process: its clock, its memory, its way to end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

void fail(int code, const char *format, ...) {
    char message[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    /* One line, whatever a file's name or a library's words hold. */
    for (char *at = message; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = ' ';
    fprintf(stderr, "%s: %s\n", runtime_program, message);
    fflush(stderr);
    _exit(code);
}

bool clocks_stand_still;

double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static uint64_t status_bytes(const char *field) {
    char line[256];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, field, strlen(field)) == 0) kib = strtoull(line + strlen(field), NULL, 10);
    fclose(file);
    return kib * 1024;
}

uint64_t peak_rss_bytes(void) { return status_bytes("VmHWM:"); }
uint64_t rss_bytes(void) { return status_bytes("VmRSS:"); }

FILE *take_stdout(void) {
    int own = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    FILE *file = own < 0 ? NULL : fdopen(own, "w");
    if (!file || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) fail(EXIT_FILE, "stdout or stderr is closed");
    return file;
}

static const char *volatile doing = "starting";
static volatile int crash_code = EXIT_RUNTIME;

void now_doing(const char *what, int exit_code_of_a_crash) {
    doing = what;
    crash_code = exit_code_of_a_crash;
}

/* Only calls that are allowed in a signal handler. */
static void say(const char *text) {
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

static void crashed(int signal_number) {
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGILL, "SIGILL"}, {SIGFPE, "SIGFPE"}, {SIGABRT, "SIGABRT"},
                 {SIGTRAP, "SIGTRAP"}};
    say("\n");
    say(runtime_program);
    say(": the runtime crashed (");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == signal_number) say(names[i].name);
    say(") while ");
    say(doing);
    say("\n");
    _exit(crash_code);
}

void catch_crashes(void) {
    /* A stack of its own: the crash may be an overflow of the other one. */
    static char stack_bytes[64 * 1024];
    stack_t stack = {.ss_sp = stack_bytes, .ss_size = sizeof stack_bytes};
    struct sigaction action = {.sa_handler = crashed, .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND)};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
}
