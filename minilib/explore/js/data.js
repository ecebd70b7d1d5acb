// What Python packed, unpacked: gzipped arrays, the sheet of precomputed frames, random numbers.

/** Bytes of a widget trait (a DataView, a typed array or nothing). */
export function bytes(value) {
  if (!value || !value.byteLength) return new Uint8Array(0);
  return new Uint8Array(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength);
}

/** Undo gzip; bytes that are not gzipped (a server may have done it) come back as they are. */
export async function gunzip(data) {
  if (data[0] !== 0x1f || data[1] !== 0x8b) return data;
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** {name: {data, dims, type}} from one gzipped block and its index [[name, type, dims, offset]]. */
export async function unpack(block, index) {
  const raw = await gunzip(bytes(block));
  const arrays = {};
  for (const [name, type, dims, offset] of index) {
    const count = dims.reduce((a, b) => a * b, 1);
    arrays[name] = { data: view(raw.buffer, raw.byteOffset + offset, count, type), dims, type };
    if (type === "float16") arrays[name].type = "float32";
  }
  return arrays;
}

function view(buffer, offset, count, type) {
  if (type === "float32") return new Float32Array(buffer, offset, count);
  if (type === "int64") return new BigInt64Array(buffer, offset, count);
  if (type === "uint8") return new Uint8Array(buffer, offset, count);
  return Float32Array.from(new Uint16Array(buffer, offset, count), half);
}

/** One IEEE 754 half-precision number. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The frames cut out of one PNG or WebP sheet, as a list of ImageData. */
export async function cutSheet(block, { width, height, columns, count }) {
  const sheet = await createImageBitmap(new Blob([bytes(block)]), {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const canvas = document.createElement("canvas");
  canvas.width = sheet.width;
  canvas.height = sheet.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(sheet, 0, 0);
  return Array.from({ length: count }, (_, i) =>
    context.getImageData((i % columns) * width, Math.floor(i / columns) * height, width, height),
  );
}

/** Picture number `index` of a tensor whose last three dims are (C, H, W), C being 1 or 3. */
export function picture(tensor, index, [low, high]) {
  const [channels, height, width] = tensor.dims.slice(-3);
  const area = height * width;
  const start = index * channels * area;
  const image = new ImageData(width, height);
  const scale = 255 / (high - low);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) {
      const value = tensor.data[start + (channels === 1 ? 0 : c) * area + i];
      image.data[4 * i + c] = Math.round((value - low) * scale); // Uint8Clamped does the clamping
    }
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** Number `index` along the first axis. */
export function row(array, index) {
  const size = array.data.length / array.dims[0];
  const data = array.data.subarray(index * size, (index + 1) * size);
  return { data, dims: array.dims.slice(1), type: array.type };
}

/** `tensors` of equal shape stacked along a new first axis. */
export function stack(tensors) {
  const { data, dims, type } = tensors[0];
  const all = new data.constructor(data.length * tensors.length);
  tensors.forEach((tensor, i) => all.set(tensor.data, i * data.length));
  return { data: all, dims: [tensors.length, ...dims], type };
}

export const vector = (data) => ({ data, dims: [data.length], type: "float32" });

/** Standard normal numbers from a seed (mulberry32, Box-Muller): the same for every reader. */
export function normals(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const normal = () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal };
}
