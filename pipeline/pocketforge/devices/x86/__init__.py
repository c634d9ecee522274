"""x86 hosts other than this one: the runtimes' own wheels, as installed here, under qemu-x86_64's user mode.

A runtime chooses its kernels by what the processor says it has (CPUID), so an emulated Haswell runs AVX2's. Only
outputs are compared: nothing is counted, timed or estimated for an x86 host.
"""
