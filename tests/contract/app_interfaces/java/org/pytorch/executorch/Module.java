package org.pytorch.executorch;

public class Module {
    public static final int LOAD_MODE_MMAP = 1;

    public static Module load(String path, int mode, int threads) { throw new UnsupportedOperationException(); }
    public EValue[] forward(EValue... inputs) { throw new UnsupportedOperationException(); }
    public void destroy() { throw new UnsupportedOperationException(); }
}
