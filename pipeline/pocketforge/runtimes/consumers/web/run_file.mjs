// Runs a model file on samples in a page: `main` of driver.mjs.
//
// The argument: `consumer` (a module beside this one), `model` and `sha256`, `inputs` (`name`, `dtype`, `shape`, batch
// first, and `samples`, a path: raw values, little-endian, a sample after the other), `samples`, how many there are, and
// `block_bytes`, how many bytes of them travel at a time.
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

// Samples of an input one after the other, read in blocks.
function reader(input, samples, blockBytes) {
  const Kind = ARRAYS[input.dtype];
  if (!Kind) throw new Error(`input ${input.name} is of ${input.dtype}, which no array of JavaScript holds`);
  const size = input.shape.reduce((one, other) => one * other, 1) * Kind.BYTES_PER_ELEMENT;
  const many = Math.max(1, Math.floor(blockBytes / size));
  let block;
  return async (index) => {
    if (index % many === 0) {
      const end = Math.min(index + many, samples);
      block = await bytesOf(`${input.samples}?from=${index * size}&to=${end * size}`);
    }
    return new Kind(block.slice((index % many) * size, (index % many + 1) * size));
  };
}

// Sends an output's values, in blocks.
function writer(number, blockBytes) {
  let parts = [];
  let size = 0;
  const send = async () => {
    if (!size) return;
    const sent = await fetch(`/outputs/output_${number}.bin`, {method: 'POST', body: new Blob(parts)});
    if (!sent.ok) throw new Error(`output ${number} could not be stored`);
    parts = [];
    size = 0;
  };
  // A copy: a runtime may write its next answer over its last.
  const add = async (data) => {
    parts.push(data.slice());
    size += data.byteLength;
    if (size >= blockBytes) await send();
  };
  return {add, send};
}

export async function main({consumer, model, sha256, inputs, samples, block_bytes = 16 * 1024 * 1024}) {
  const bytes = await bytesOf(model);
  const found = await digest(bytes);
  if (found !== sha256) throw new Error(`the file changed: wanted SHA-256 ${sha256}, found ${found}`);
  const {open} = await import(`./${consumer}.mjs`);
  const session = await open(new Uint8Array(bytes), inputs);
  const outputs = [];
  const readers = inputs.map((input) => reader(input, samples, block_bytes));
  const writers = [];
  for (let index = 0; index < samples; index += 1) {
    const fed = [];
    for (const [number, input] of inputs.entries()) fed.push({...input, data: await readers[number](index)});
    const answers = await session.run(fed);
    for (const [number, {name, dtype, shape, data}] of answers.entries()) {
      outputs[number] ??= {name, dtype, shape};
      writers[number] ??= writer(number, block_bytes);
      if (String(outputs[number].shape) !== String(shape)) {
        throw new Error(`output ${name} of sample ${index} has shape [${shape}], of the first [${outputs[number].shape}]`);
      }
      await writers[number].add(data);
    }
  }
  for (const each of writers) await each.send();
  session.close();
  return {sha256: found, outputs};
}
