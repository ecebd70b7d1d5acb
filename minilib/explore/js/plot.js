// Points, lines and arrows on a canvas: crisp at any size, readable in light and dark.
import { h } from "./dom.js";

const MARGIN = { left: 34, right: 8, top: 8, bottom: 20 };

/** limits: [x0, x1, y0, y1]; depth: true for 3-D points (drag or arrow keys turn them). */
export function createPlot({ limits, equal = true, depth = false, aspect = 1, label = "plot" }) {
  const canvas = h("canvas", { class: "mx-plot", role: "img", "aria-label": label });
  const legend = h("div", { class: "mx-legend" });
  const node = h("div", { class: "mx-plotbox" }, canvas, legend);
  const self = { node, canvas, layers: [], yaw: 0.6, pitch: 0.4 };
  canvas.style.aspectRatio = String(aspect);

  self.draw = (layers = self.layers) => {
    self.layers = layers;
    const width = canvas.clientWidth || 320;
    const height = width / aspect;
    const sharp = globalThis.devicePixelRatio || 1;
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(height * sharp);
    const context = canvas.getContext("2d");
    context.scale(sharp, sharp);
    const style = getComputedStyle(canvas);
    const place = depth
      ? turned(limits, width, height, self)
      : flat(limits, equal, width, height);
    if (!depth) axes(context, place, width, height, style);
    for (const layer of layers) LAYERS[layer.kind](context, layer, place, style);
    refreshLegend(legend, layers);
  };

  new ResizeObserver(() => self.draw()).observe(canvas);
  const theme = new MutationObserver(() => self.draw());
  const seen = { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] };
  theme.observe(document.documentElement, seen);
  theme.observe(document.body, seen);
  if (depth) turnable(canvas, self);
  return self;
}

/** Map data to pixels; with `equal` one unit is as long across as up. */
function flat([x0, x1, y0, y1], equal, width, height) {
  const inner = { w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
  let [sx, sy] = [inner.w / (x1 - x0), inner.h / (y1 - y0)];
  if (equal) sx = sy = Math.min(sx, sy);
  const cx = MARGIN.left + inner.w / 2;
  const cy = MARGIN.top + inner.h / 2;
  const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const at = (data, i) => [cx + (data[2 * i] - mx) * sx, cy - (data[2 * i + 1] - my) * sy];
  const reach = { x0: mx - inner.w / 2 / sx, x1: mx + inner.w / 2 / sx };
  Object.assign(reach, { y0: my - inner.h / 2 / sy, y1: my + inner.h / 2 / sy });
  return { at, reach, width: 2 };
}

/** Orthographic view of 3-D points from (yaw, pitch). */
function turned([x0, x1, y0, y1, z0, z1], width, height, { yaw, pitch }) {
  const size = Math.hypot(x1 - x0, y1 - y0, z1 - z0);
  const scale = (0.95 * Math.min(width, height)) / size;
  const middle = [(x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2];
  const [c, s, d, e] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  const at = (data, i) => {
    const [x, y, z] = [0, 1, 2].map((k) => data[3 * i + k] - middle[k]);
    const across = c * x - s * y;
    const away = s * x + c * y;
    return [width / 2 + across * scale, height / 2 - (d * z + e * away) * scale];
  };
  return { at, width: 3 };
}

function turnable(canvas, self) {
  canvas.tabIndex = 0;
  canvas.classList.add("mx-turnable");
  canvas.setAttribute("aria-label", `${canvas.getAttribute("aria-label")}; arrow keys turn it`);
  const turn = (dx, dy) => {
    self.yaw += dx;
    self.pitch = Math.max(-1.5, Math.min(1.5, self.pitch + dy));
    self.draw();
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) {
      turn(event.movementX / 100, event.movementY / 100);
    }
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!step[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    turn(0.12 * step[event.key][0], 0.12 * step[event.key][1]);
  });
}

/** About four round tick values between low and high. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((k) => k >= rough);
  const out = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) out.push(i * step);
  return out.map((value) => Number(value.toPrecision(6)));
}

function axes(context, { at, reach }, width, height, style) {
  context.strokeStyle = style.getPropertyValue("--mx-line");
  context.fillStyle = style.getPropertyValue("--mx-soft");
  context.lineWidth = 1;
  context.font = "11px system-ui, sans-serif";
  context.beginPath();
  context.textAlign = "center";
  for (const value of ticks(reach.x0, reach.x1)) {
    const [x] = at([value, 0], 0);
    context.moveTo(x, MARGIN.top);
    context.lineTo(x, height - MARGIN.bottom);
    context.fillText(String(value).replace("-", "\u2212"), x, height - 6);
  }
  context.textAlign = "right";
  for (const value of ticks(reach.y0, reach.y1)) {
    const [, y] = at([0, value], 0);
    context.moveTo(MARGIN.left, y);
    context.lineTo(width - MARGIN.right, y);
    context.fillText(String(value).replace("-", "\u2212"), MARGIN.left - 4, y + 4);
  }
  context.stroke();
}

const ink = (layer, style) => layer.colour ?? style.getPropertyValue("--mx-soft");

const LAYERS = {
  points(context, layer, place, style) {
    const count = layer.data.length / place.width;
    context.fillStyle = ink(layer, style);
    context.globalAlpha = layer.alpha ?? 0.85;
    for (let i = 0; i < count; i++) {
      const [x, y] = place.at(layer.data, i);
      context.beginPath();
      context.arc(x, y, layer.size ?? 3, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  },

  /** dims (M, N, d): M lines of N points each; (N, d) is one line. */
  lines(context, layer, place, style) {
    const length = layer.dims[layer.dims.length - 2];
    const count = layer.data.length / place.width / length;
    context.strokeStyle = ink(layer, style);
    context.globalAlpha = layer.alpha ?? 1;
    context.lineWidth = layer.size ?? 1.5;
    context.lineJoin = "round";
    for (let m = 0; m < count; m++) {
      context.beginPath();
      for (let i = 0; i < length; i++) context.lineTo(...place.at(layer.data, m * length + i));
      context.stroke();
    }
    context.globalAlpha = 1;
  },

  /** dims (N, 2, 2): N pairs of (start, end). */
  arrows(context, layer, place, style) {
    context.strokeStyle = context.fillStyle = ink(layer, style);
    context.globalAlpha = layer.alpha ?? 0.7;
    context.lineWidth = layer.size ?? 1.2;
    for (let i = 0; i < layer.dims[0]; i++) {
      arrow(context, place.at(layer.data, 2 * i), place.at(layer.data, 2 * i + 1));
    }
    context.globalAlpha = 1;
  },
};

function arrow(context, [x0, y0], [x1, y1]) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length < 1) return;
  const head = Math.min(7, 0.6 * length);
  const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length];
  const [bx, by] = [x1 - head * ux, y1 - head * uy];
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(bx, by);
  context.stroke();
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(bx - 0.45 * head * uy, by + 0.45 * head * ux);
  context.lineTo(bx + 0.45 * head * uy, by - 0.45 * head * ux);
  context.fill();
}

function refreshLegend(legend, layers) {
  const named = layers.filter((layer) => layer.name);
  const key = JSON.stringify(named.map((layer) => [layer.name, layer.colour, layer.kind]));
  if (legend.dataset.key === key) return;
  legend.dataset.key = key;
  legend.replaceChildren(
    ...named.map((layer) => {
      const fill = layer.colour ?? "var(--mx-soft)"; // without a colour of its own: grey
      const mark = h("span", { class: `mx-mark mx-mark-${layer.kind}`, style: `--mark:${fill}` });
      return h("span", { class: "mx-key" }, mark, layer.name);
    }),
  );
}
