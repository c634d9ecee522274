// onnxruntime-web, as an app has it: its WebAssembly kernels on the processor, one thread.

import * as ort from 'onnxruntime-web/wasm';

export async function open(bytes) {
  ort.env.wasm.wasmPaths = '/modules/onnxruntime-web/dist/';
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(bytes, {executionProviders: ['wasm']});
  return {
    async run(inputs) {
      const fed = inputs.map(({name, dtype, data, shape}) => [name, new ort.Tensor(dtype, data, shape)]);
      const answers = await session.run(Object.fromEntries(fed));
      return session.outputNames.map((name) => {
        const {type, dims, data} = answers[name];
        return {name, dtype: type, shape: [...dims], data};
      });
    },
    close() {
      session.release();
    },
  };
}
