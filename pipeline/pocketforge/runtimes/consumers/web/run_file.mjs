// Runs a model file on samples in a page: `main` of driver.mjs.
//
// The argument: `consumer` (a module beside this one), `model` and `sha256`, `inputs` (`name`, `dtype`, `shape`, batch
// first, and `samples`, a path: raw values, little-endian, a sample after the other) and `samples`, how many there are.
// Raw outputs are sent to /outputs/output_NUMBER.bin. The answer: the consumer's version, its inputs and outputs, and
// the SHA-256 of the bytes that it was given.

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
  uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
  bool: Uint8Array, float16: globalThis.Float16Array ?? Uint16Array,
};

async function bytesOf(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response.arrayBuffer();
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function sampleOf(input, index) {
  const Kind = ARRAYS[input.dtype];
  if (!Kind) throw new Error(`input ${input.name} is of ${input.dtype}, which no array of JavaScript holds`);
  const size = input.shape.reduce((one, other) => one * other, 1) * Kind.BYTES_PER_ELEMENT;
  const bytes = await bytesOf(`${input.samples}?from=${index * size}&to=${(index + 1) * size}`);
  return new Kind(bytes);
}

export async function main({consumer, model, sha256, inputs, samples}) {
  const bytes = await bytesOf(model);
  const found = await digest(bytes);
  if (found !== sha256) throw new Error(`the file changed: wanted SHA-256 ${sha256}, found ${found}`);
  const {open} = await import(`./${consumer}.mjs`);
  const session = await open(new Uint8Array(bytes), inputs);
  const outputs = [];
  for (let index = 0; index < samples; index += 1) {
    const fed = [];
    for (const input of inputs) fed.push({...input, data: await sampleOf(input, index)});
    const answers = await session.run(fed);
    for (const [number, answer] of answers.entries()) {
      const {name, dtype, shape, data} = answer;
      outputs[number] ??= {name, dtype, shape};
      if (String(outputs[number].shape) !== String(shape)) {
        throw new Error(`output ${name} of sample ${index} has shape [${shape}], of the first [${outputs[number].shape}]`);
      }
      const sent = await fetch(`/outputs/output_${number}.bin`, {method: 'POST', body: data});
      if (!sent.ok) throw new Error(`output ${name} could not be stored`);
    }
  }
  session.close();
  return {sha256: found, outputs};
}
