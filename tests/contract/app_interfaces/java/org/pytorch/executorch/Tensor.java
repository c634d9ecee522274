package org.pytorch.executorch;

public abstract class Tensor {
    public static Tensor fromBlob(float[] values, long[] shape) { throw new UnsupportedOperationException(); }
    public static Tensor fromBlob(byte[] values, long[] shape) { throw new UnsupportedOperationException(); }
    public static Tensor fromBlob(int[] values, long[] shape) { throw new UnsupportedOperationException(); }
    public static Tensor fromBlob(long[] values, long[] shape) { throw new UnsupportedOperationException(); }
    public static Tensor fromBlobUnsigned(byte[] values, long[] shape) { throw new UnsupportedOperationException(); }
    public float[] getDataAsFloatArray() { throw new UnsupportedOperationException(); }
    public byte[] getDataAsByteArray() { throw new UnsupportedOperationException(); }
    public byte[] getDataAsUnsignedByteArray() { throw new UnsupportedOperationException(); }
    public int[] getDataAsIntArray() { throw new UnsupportedOperationException(); }
    public long[] getDataAsLongArray() { throw new UnsupportedOperationException(); }
}
