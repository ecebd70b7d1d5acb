// The network's runtime, onnxruntime-web (WebAssembly, one thread).  Its 14 MB binary never sits in
// the widget's state.  Three ways in:
//   1. http:  fetch the gzipped binary (3.7 MB) from the book's _static/explore/;
//   2. file:  fetch is forbidden there, a classic <script> is not: it holds the same bytes as base64;
//   3. a live kernel (JupyterLab, VS Code, Colab): ask for it with a custom message.
// Every widget of a page has its own copy of this module; the first one lends its runtime to all.
import * as ort from "onnxruntime-web/wasm";
import { bytes, gunzip } from "./data.js";

const SHARED = Symbol.for("minilib.explore.runtime");
const SCRIPT_RESULT = "minilibExploreRuntime";

/** The folder that holds the runtime, or null when the page does not say (then: the kernel). */
function folder() {
  const meta = document.querySelector('meta[name="minilib-explore"]');
  if (meta) return new URL(meta.content, document.baseURI).href;
  const root = document.documentElement.dataset.content_root; // Sphinx writes it
  return root === undefined ? null : new URL(`${root}_static/explore/`, document.baseURI).href;
}

async function fromFetch(base) {
  const answer = await fetch(`${base}runtime.bin`);
  if (!answer.ok) throw new Error(`runtime.bin: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function fromScript(base) {
  await new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${base}runtime.js`;
    script.onload = resolve;
    script.onerror = () => reject(new Error("runtime.js could not be loaded"));
    document.head.append(script);
  });
  const text = atob(globalThis[SCRIPT_RESULT]);
  delete globalThis[SCRIPT_RESULT];
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

function fromKernel(model) {
  return new Promise((resolve) => {
    const listen = (content, buffers) => {
      if (content?.type !== "runtime") return;
      model.off("msg:custom", listen);
      resolve(bytes(buffers[0]));
    };
    model.on("msg:custom", listen);
    model.send({ type: "runtime" });
  });
}

async function load(model) {
  const base = folder();
  let packed;
  if (base === null) packed = await fromKernel(model);
  else if (location.protocol === "file:") packed = await fromScript(base);
  else packed = await fromFetch(base);
  ort.env.wasm.wasmBinary = await gunzip(packed);
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  return { ort, queue: Promise.resolve() };
}

/** One exported network, ready to run. */
class Network {
  constructor(shared, session, batch) {
    this.shared = shared;
    this.session = session;
    this.batch = batch;
    this.milliseconds = 0; // of the last call
  }

  /** feeds: {input: {data, dims: (B, ...), type}} -> {data, dims} of the first output. */
  async run(feeds) {
    const count = Object.values(feeds)[0].dims[0];
    if (this.batch !== 1 || count === 1) return this.once(feeds);
    const parts = [];
    for (let i = 0; i < count; i++) parts.push(await this.once(slice(feeds, i)));
    const data = new Float32Array(parts[0].data.length * count);
    parts.forEach((part, i) => data.set(part.data, i * part.data.length));
    return { data, dims: [count, ...parts[0].dims.slice(1)] };
  }

  /** One call of the runtime; calls of all widgets stand in one line, it runs one at a time. */
  once(feeds) {
    const { Tensor } = this.shared.ort;
    const call = async () => {
      const tensors = {};
      for (const name of this.session.inputNames) {
        const { type, data, dims } = feeds[name];
        tensors[name] = new Tensor(type, data, dims);
      }
      const start = performance.now();
      const results = await this.session.run(tensors);
      this.milliseconds = performance.now() - start;
      const result = results[this.session.outputNames[0]];
      return { data: result.data, dims: [...result.dims] };
    };
    const answer = this.shared.queue.then(call);
    this.shared.queue = answer.catch(() => {});
    return answer;
  }
}

function slice(feeds, index) {
  const one = {};
  for (const [name, { data, dims, type }] of Object.entries(feeds)) {
    const size = data.length / dims[0];
    const part = data.subarray(index * size, (index + 1) * size);
    one[name] = { data: part, dims: [1, ...dims.slice(1)], type };
  }
  return one;
}

/** Load the runtime (once a page) and the widget's own network. */
export async function openNetwork(model, batch) {
  if (typeof WebAssembly === "undefined") throw new Error("this browser has no WebAssembly");
  globalThis[SHARED] ??= load(model).catch((error) => {
    globalThis[SHARED] = undefined;
    throw error;
  });
  const shared = await globalThis[SHARED];
  const graph = await gunzip(bytes(model.get("network")));
  const session = await shared.ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  return new Network(shared, session, batch);
}
