/* The model is read whole (its hash is over the very bytes that are loaded), the inputs sample by sample. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner.h"

/* O_NONBLOCK: opening a pipe must not wait for its writer. Only regular files are taken. */
static int open_regular(const char *what, const char *path, uint64_t *size_bytes) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail(EXIT_FILE, "cannot open the %s %s: %s", what, path, strerror(errno));
    struct stat status;
    if (fstat(descriptor, &status) != 0) fail(EXIT_FILE, "cannot read the %s %s: %s", what, path, strerror(errno));
    if (!S_ISREG(status.st_mode)) fail(EXIT_FILE, "the %s %s is not a regular file", what, path);
    *size_bytes = (uint64_t)status.st_size;
    return descriptor;
}

static void read_exactly(int descriptor, const char *path, void *into, size_t size, uint64_t offset) {
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(descriptor, (char *)into + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail(EXIT_FILE, "cannot read %s: %s", path, strerror(errno));
        if (got == 0) fail(EXIT_FILE, "%s became shorter while it was read", path);
        done += (size_t)got;
    }
}

struct bytes read_model(const char *path) {
    uint64_t size_bytes;
    int descriptor = open_regular("model", path, &size_bytes);
    if (size_bytes == 0) fail(EXIT_DATA, "the model %s is empty", path);
    /* Pages of its own: the runtimes want their constants aligned as in the file. */
    void *start = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        fail(EXIT_FILE, "no memory for the model %s (%llu bytes): %s", path, (unsigned long long)size_bytes,
             strerror(errno));
    read_exactly(descriptor, path, start, size_bytes, 0);
    close(descriptor);
    return (struct bytes){start, size_bytes};
}

struct input_file open_input(const char *path) {
    struct input_file input = {.path = path};
    input.descriptor = open_regular("input", path, &input.size_bytes);
    return input;
}

void read_sample(const struct input_file *input, uint64_t index, void *into, size_t size) {
    read_exactly(input->descriptor, input->path, into, size, index * size);
}

void make_folder(const char *path) {
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        fail(EXIT_FILE, "cannot make the output folder %s: %s", path, strerror(errno));
}

void open_output(struct output_file *output, const char *folder, size_t index) {
    int length = snprintf(output->path, sizeof output->path, "%s/outputs_%zu.bin", folder, index);
    if (length < 0 || (size_t)length >= sizeof output->path)
        fail(EXIT_FILE, "cannot write %s/outputs_%zu.bin: %s", folder, index, strerror(ENAMETOOLONG));
    output->file = fopen(output->path, "wbe");
    if (!output->file) fail(EXIT_FILE, "cannot write %s: %s", output->path, strerror(errno));
    sha256_begin(&output->hash);
}

void write_output(struct output_file *output, const void *bytes, size_t size) {
    if (fwrite(bytes, 1, size, output->file) != size)
        fail(EXIT_FILE, "cannot write %s: %s", output->path, strerror(errno));
    sha256_add(&output->hash, bytes, size);
}

void close_output(struct output_file *output, char hex[65]) {
    if (fclose(output->file) != 0) fail(EXIT_FILE, "cannot write %s: %s", output->path, strerror(errno));
    sha256_end(&output->hash, hex);
}
