// Where the network's answer is drawn: one image, a grid of images, a row of answers, or points.
import { h, put } from "./dom.js";
import { picture } from "./data.js";
import { createPlot } from "./plot.js";

const SMOOTH_FROM = 48; // pixels a side: smaller pictures keep their crisp squares

/** Points have no picture; their choices, if they have faces, stay crisp. */
export const isSmooth = (spec) => spec.smooth ?? Math.min(...(spec.picture ?? [0])) >= SMOOTH_FROM;

/** Canvases for `names.length` pictures; show(list of ImageData). */
export function gallery(spec, names, { label }) {
  const crisp = isSmooth(spec) ? "" : " mx-crisp";
  const [height, width] = spec.picture;
  const canvases = names.map((name) =>
    h("canvas", { class: `mx-picture${crisp}`, width, height, role: "img", "aria-label": `${label} ${name}` }),
  );
  const figures = canvases.map((canvas, i) =>
    h("figure", {}, canvas, names[i] ? h("figcaption", { text: names[i] }) : null),
  );
  const node = h("div", { class: names.length > 1 ? "mx-gallery mx-many" : "mx-gallery" }, ...figures);
  if (names.length > 1) node.style.setProperty("--mx-count", Math.ceil(Math.sqrt(names.length)));
  return {
    node,
    canvases,
    figures,
    show: (pictures) => pictures.forEach((image, i) => put(canvases[i], image)),
  };
}

/**
 * The display that a spec asks for; draw(tensor or null, frames: list of ImageData or tensor).
 * Tensors: images (B, C, H, W), grids (1, N, C, H, W), points (1, N, 2 or 3).
 */
export function createDisplay(spec, arrays, names) {
  if (spec.output === "points") return pointDisplay(spec, arrays);
  const count = spec.output === "images" ? spec.count : names.length;
  const labels = spec.output === "images" ? Array(count).fill("") : names;
  const shown = gallery(spec, labels, { label: spec.answer });
  return {
    node: shown.node,
    tensor(result) {
      shown.show(Array.from({ length: count }, (_, i) => picture(result, i, spec.range)));
    },
    frames: (pictures) => shown.show(pictures),
  };
}

function pointDisplay(spec, arrays) {
  const plot = createPlot({ ...spec.plot, label: spec.answer });
  const layers = spec.plot.background.map((layer) => ({ ...layer, ...arrays[layer.array] }));
  const draw = ({ data, dims }) => {
    const own = { kind: spec.plot.style, name: spec.answer, colour: spec.plot.colour, data, dims: dims.slice(-2) };
    plot.draw([...layers, own]);
  };
  return { node: plot.node, tensor: draw, frames: draw };
}
