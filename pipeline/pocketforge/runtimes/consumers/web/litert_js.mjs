// LiteRT.js, as an app has it: its WebAssembly kernels on the processor, one thread.

import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';

export async function open(bytes) {
  await loadLiteRt('/modules/@litertjs/core/wasm/');
  const model = await loadAndCompile(bytes, {accelerator: 'wasm'});
  return {
    async run(inputs) {
      const taken = model.getInputDetails().map(({name}) => name);
      const named = inputs.every(({name}) => taken.includes(name));
      const tensors = inputs.map(({data, shape}) => new Tensor(data, shape));
      const fed = named ? Object.fromEntries(inputs.map(({name}, at) => [name, tensors[at]])) : tensors;
      const answers = await model.run(fed);
      for (const tensor of tensors) tensor.delete();
      return model.getOutputDetails().map(({name, dtype}, at) => {
        const tensor = named ? answers[name] : answers[at];
        const data = tensor.toTypedArray().slice(); // before it is freed
        const shape = Array.from(tensor.type.layout.dimensions);
        tensor.delete();
        return {name, dtype, shape, data};
      });
    },
    close() {
      model.delete();
    },
  };
}
