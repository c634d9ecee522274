/* The answer's JSON: strings that are valid UTF-8 whatever a file or a path holds, and the libraries in memory. */
#define _GNU_SOURCE
#include <link.h>
#include <string.h>

#include "runner.h"

/* The length of the UTF-8 sequence at `text`, or 0 if there is none (RFC 3629). */
static size_t sequence_length(const unsigned char *text) {
    size_t length = text[0] < 0x80 ? 1 : text[0] >> 5 == 6 ? 2 : text[0] >> 4 == 14 ? 3 : text[0] >> 3 == 30 ? 4 : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t point = length < 2 ? text[0] : text[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (text[i] >> 6 != 2) return 0;
        point = point << 6 | (text[i] & 0x3F);
    }
    if (length == 0 || point < least[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return 0;
    return length;
}

void json_string(FILE *to, const char *text) {
    fputc('"', to);
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t length = sequence_length(at);
        if (length == 0) {
            fputs("\\ufffd", to);
            at++;
        } else if (length == 1 && (*at < 0x20 || *at == '"' || *at == '\\')) {
            fprintf(to, "\\u%04x", (unsigned)*at++);
        } else {
            fwrite(at, 1, length, to);
            at += length;
        }
    }
    fputc('"', to);
}

struct listing {
    FILE *to;
    const char *program;
    bool first;
};

static int add_library(struct dl_phdr_info *info, size_t size, void *given) {
    struct listing *listing = given;
    /* A library may not begin at 0: qemu's vDSO (since version 9) has its place in memory in its own headers. */
    ElfW(Addr) start = ~(ElfW(Addr))0, end = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD) continue;
        if (header->p_vaddr + header->p_memsz > end) end = header->p_vaddr + header->p_memsz;
        if (header->p_vaddr < start) start = header->p_vaddr;
    }
    start = end ? start & ~(ElfW(Addr))0xfff : 0;
    fputs(listing->first ? "" : ", ", listing->to);
    fputs("{\"path\": ", listing->to);
    /* The main executable has no name in this list, and comes first. */
    json_string(listing->to, listing->first && !*info->dlpi_name ? listing->program : info->dlpi_name);
    fprintf(listing->to, ", \"base\": \"0x%llx\", \"size\": %llu}", (unsigned long long)(info->dlpi_addr + start),
            (unsigned long long)(end - start));
    listing->first = false;
    return 0;
}

void json_libraries(FILE *to, const char *program) {
    struct listing listing = {to, program, true};
    fputc('[', to);
    dl_iterate_phdr(add_library, &listing);
    fputc(']', to);
}
