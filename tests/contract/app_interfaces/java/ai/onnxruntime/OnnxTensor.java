package ai.onnxruntime;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;

public class OnnxTensor extends OnnxTensorLike {
    public static OnnxTensor createTensor(OrtEnvironment env, FloatBuffer data, long[] shape) throws OrtException {
        throw new UnsupportedOperationException();
    }
    public static OnnxTensor createTensor(OrtEnvironment env, ShortBuffer data, long[] shape) throws OrtException {
        throw new UnsupportedOperationException();
    }
    public static OnnxTensor createTensor(OrtEnvironment env, IntBuffer data, long[] shape) throws OrtException {
        throw new UnsupportedOperationException();
    }
    public static OnnxTensor createTensor(OrtEnvironment env, LongBuffer data, long[] shape) throws OrtException {
        throw new UnsupportedOperationException();
    }
    public static OnnxTensor createTensor(OrtEnvironment env, ByteBuffer data, long[] shape, OnnxJavaType type)
            throws OrtException {
        throw new UnsupportedOperationException();
    }
    public ByteBuffer getByteBuffer() { throw new UnsupportedOperationException(); }
    public FloatBuffer getFloatBuffer() { throw new UnsupportedOperationException(); }
    public ShortBuffer getShortBuffer() { throw new UnsupportedOperationException(); }
    public IntBuffer getIntBuffer() { throw new UnsupportedOperationException(); }
    public LongBuffer getLongBuffer() { throw new UnsupportedOperationException(); }
    @Override public void close() { throw new UnsupportedOperationException(); }
}
