// Entry point: anywidget calls render once per view.
import { cutSheet, unpack } from "./data.js";
import { mount } from "./shell.js";
import { interpolateView } from "./interpolate.js";
import { latentView } from "./latent.js";
import { paintView } from "./paint.js";
import { realOrFakeView } from "./realorfake.js";
import { stepView } from "./steps.js";
import { swapView } from "./swap.js";

const VIEWS = {
  latent: latentView,
  interpolate: interpolateView,
  paint: paintView,
  "real-or-fake": realOrFakeView,
  steps: stepView,
  swap: swapView,
};

/** The precomputed frames: pictures cut from the sheet, or rows of an array of points. */
async function openFrames(model, spec, arrays) {
  const all = spec.sheet ? await cutSheet(model.get("frames"), spec.sheet) : [];
  const thumbs = spec.thumbs ? await cutSheet(model.get("thumbs"), spec.thumbs) : null;
  const points = arrays.frames;
  const at = (index) =>
    points
      ? { data: points.data.subarray(index * points.stride, (index + 1) * points.stride), dims: points.dims.slice(1) }
      : all[index];
  if (points) points.stride = points.data.length / points.dims[0];
  return { images: all, thumbs, at };
}

async function render({ model, el }) {
  const spec = model.get("spec");
  const arrays = await unpack(model.get("arrays"), spec.arrays);
  const frames = await openFrames(model, spec, arrays);
  const view = VIEWS[spec.kind](spec, arrays, frames);
  mount(model, el, spec, view, { still: spec.still });
}

export default { render };
