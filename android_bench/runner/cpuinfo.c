/* Stands in for libtorch's copy of the cpuinfo library, by which XNNPACK in ExecuTorch's library chooses its kernels.
 *
 * One kind of core: that of cpu0. Features are the kernel's (HWCAP); the core type is cpu0's in /proc/cpuinfo; caches
 * are those of /sys. Under the emulator all three come from the device profile. Compiled against torch's cpuinfo.h,
 * which is the layout that the library was built for; core types follow upstream's src/arm/uarch.c. */
#define CPUINFO_ARCH_ARM64 1
#include <cpuinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

struct cpuinfo_arm_isa cpuinfo_isa;

static struct cpuinfo_cache l1i = {.size = 32768}, l1d = {.size = 32768}, l2 = {.size = 262144}, l3;
static struct cpuinfo_package package = {.processor_count = 1, .core_count = 1, .cluster_count = 1};
static struct cpuinfo_cluster cluster = {.processor_count = 1, .core_count = 1, .package = &package};
static struct cpuinfo_core core = {.processor_count = 1, .cluster = &cluster, .package = &package};
static struct cpuinfo_uarch_info uarch_info = {.processor_count = 1, .core_count = 1};
static struct cpuinfo_processor processor = {.core = &core, .cluster = &cluster, .package = &package};

static const struct {
    unsigned implementer, part;
    enum cpuinfo_uarch uarch;
} core_types[] = {
    {0x41, 0xd03, cpuinfo_uarch_cortex_a53},   {0x41, 0xd04, cpuinfo_uarch_cortex_a35},
    {0x41, 0xd05, cpuinfo_uarch_cortex_a55},   {0x41, 0xd06, cpuinfo_uarch_cortex_a65},
    {0x41, 0xd07, cpuinfo_uarch_cortex_a57},   {0x41, 0xd08, cpuinfo_uarch_cortex_a72},
    {0x41, 0xd09, cpuinfo_uarch_cortex_a73},   {0x41, 0xd0a, cpuinfo_uarch_cortex_a75},
    {0x41, 0xd0b, cpuinfo_uarch_cortex_a76},   {0x41, 0xd0c, cpuinfo_uarch_neoverse_n1},
    {0x41, 0xd0d, cpuinfo_uarch_cortex_a77},   {0x41, 0xd0e, cpuinfo_uarch_cortex_a76},
    {0x41, 0xd40, cpuinfo_uarch_neoverse_v1},  {0x41, 0xd41, cpuinfo_uarch_cortex_a78},
    {0x41, 0xd44, cpuinfo_uarch_cortex_x1},    {0x41, 0xd46, cpuinfo_uarch_cortex_a510},
    {0x41, 0xd47, cpuinfo_uarch_cortex_a710},  {0x41, 0xd48, cpuinfo_uarch_cortex_x2},
    {0x41, 0xd49, cpuinfo_uarch_neoverse_n2},  {0x41, 0xd4a, cpuinfo_uarch_neoverse_e1},
    {0x41, 0xd4b, cpuinfo_uarch_cortex_a78},   {0x41, 0xd4d, cpuinfo_uarch_cortex_a715},
    {0x41, 0xd4e, cpuinfo_uarch_cortex_x3},    {0x41, 0xd4f, cpuinfo_uarch_neoverse_v2},
    {0x41, 0xd80, cpuinfo_uarch_cortex_a520},  {0x41, 0xd81, cpuinfo_uarch_cortex_a720},
    {0x41, 0xd82, cpuinfo_uarch_cortex_x4},    {0x41, 0xd85, cpuinfo_uarch_cortex_x925},
    {0x41, 0xd87, cpuinfo_uarch_cortex_a725},  {0x51, 0x001, cpuinfo_uarch_oryon},
    {0x51, 0x800, cpuinfo_uarch_cortex_a73},   {0x51, 0x801, cpuinfo_uarch_cortex_a53},
    {0x51, 0x802, cpuinfo_uarch_cortex_a75},   {0x51, 0x803, cpuinfo_uarch_cortex_a55r0},
    {0x51, 0x804, cpuinfo_uarch_cortex_a76},   {0x51, 0x805, cpuinfo_uarch_cortex_a55},
};

static void set_core_type(unsigned implementer, unsigned variant, unsigned part) {
    enum cpuinfo_uarch found = cpuinfo_uarch_unknown;
    for (size_t i = 0; i < sizeof core_types / sizeof *core_types; i++)
        if (core_types[i].implementer == implementer && core_types[i].part == part) found = core_types[i].uarch;
    if (found == cpuinfo_uarch_cortex_a55 && implementer == 0x41 && variant == 0) found = cpuinfo_uarch_cortex_a55r0;
    if (implementer == 0x53) { /* Samsung numbers its cores by variant and part */
        unsigned both = variant << 12 | part;
        found = both == 0x1001   ? cpuinfo_uarch_exynos_m1
                : both == 0x4001 ? cpuinfo_uarch_exynos_m2
                : both == 0x1002 ? cpuinfo_uarch_exynos_m3
                : both == 0x1003 ? cpuinfo_uarch_exynos_m4
                : both == 0x1004 ? cpuinfo_uarch_exynos_m5
                                 : cpuinfo_uarch_unknown;
    }
    uarch_info.uarch = core.uarch = cluster.uarch = found;
    uarch_info.midr = core.midr = cluster.midr = implementer << 24 | variant << 20 | 0xf << 16 | part << 4;
    core.vendor = cluster.vendor = implementer == 0x51   ? cpuinfo_vendor_qualcomm
                                   : implementer == 0x53 ? cpuinfo_vendor_samsung
                                                         : cpuinfo_vendor_arm;
}

static void read_core_type(void) {
    unsigned implementer = 0, variant = 0, part = 0;
    char line[1024];
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (!value) continue;
        if (strncmp(line, "CPU implementer", 15) == 0) implementer = (unsigned)strtoul(value + 1, NULL, 0);
        if (strncmp(line, "CPU variant", 11) == 0) variant = (unsigned)strtoul(value + 1, NULL, 0);
        if (strncmp(line, "CPU part", 8) == 0) {
            part = (unsigned)strtoul(value + 1, NULL, 0);
            break;
        }
    }
    if (file) fclose(file);
    set_core_type(implementer, variant, part);
}

static bool read_line(const char *name, int index, char *into, int size) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *file = fopen(path, "re");
    bool found = file && fgets(into, size, file);
    if (file) fclose(file);
    return found;
}

static void read_caches(void) {
    char level[16], type[32], size[32];
    for (int i = 0; i < 8; i++) {
        if (!read_line("level", i, level, sizeof level) || !read_line("type", i, type, sizeof type) ||
            !read_line("size", i, size, sizeof size))
            continue;
        struct cpuinfo_cache *cache = level[0] == '2'   ? &l2
                                      : level[0] == '3' ? &l3
                                      : type[0] == 'D'  ? &l1d
                                                        : &l1i;
        cache->size = (uint32_t)strtoul(size, NULL, 10) * (strchr(size, 'M') ? 1048576 : 1024);
    }
    struct cpuinfo_cache *const all[] = {&l1i, &l1d, &l2, &l3};
    for (int i = 0; i < 4; i++) {
        all[i]->line_size = 64;
        all[i]->associativity = i < 2 ? 4 : 16;
        all[i]->partitions = 1;
        all[i]->sets = all[i]->size / (all[i]->line_size * all[i]->associativity);
        all[i]->processor_count = 1;
    }
    processor.cache.l1i = &l1i;
    processor.cache.l1d = &l1d;
    processor.cache.l2 = &l2;
    processor.cache.l3 = l3.size ? &l3 : NULL;
}

/* Bit numbers are the kernel's (arch/arm64/include/uapi/asm/hwcap.h). */
static void read_features(void) {
    unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
#define ONE(bit) ((one >> (bit)) & 1)
#define TWO(bit) ((two >> (bit)) & 1)
    cpuinfo_isa = (struct cpuinfo_arm_isa){
        .aes = ONE(3),  .pmull = ONE(4), .sha1 = ONE(5),  .sha2 = ONE(6),  .crc32 = ONE(7),
        .atomics = ONE(8), .fp16arith = ONE(9) && ONE(10), .rdm = ONE(12), .jscvt = ONE(13), .fcma = ONE(14),
        .dot = ONE(20), .sve = ONE(22), .fhm = ONE(23), .sve2 = TWO(1), .i8mm = TWO(13), .bf16 = TWO(14),
        .sme = TWO(23), .sme_i16i32 = false, .sme2 = TWO(37),
    };
    /* PR_SVE_GET_VL and PR_SME_GET_VL: the low 16 bits are the vector's length in bytes. */
    if (cpuinfo_isa.sve) cpuinfo_isa.svelen = (uint32_t)prctl(51) & 0xffff;
    if (cpuinfo_isa.sme) cpuinfo_isa.smelen = (uint32_t)prctl(64) & 0xffff;
}

bool cpuinfo_initialize(void) {
    static bool done;
    if (done) return true;
    read_features();
    read_core_type();
    read_caches();
    return done = true;
}

uint32_t cpuinfo_get_processors_count(void) { return 1; }
uint32_t cpuinfo_get_uarchs_count(void) { return 1; }
const struct cpuinfo_processor *cpuinfo_get_processor(uint32_t index) { return index ? NULL : &processor; }
const struct cpuinfo_uarch_info *cpuinfo_get_uarch(uint32_t index) { return index ? NULL : &uarch_info; }
