// LayoutPainter: paint labels onto a layout and watch the network render it again.
import { button, choice, h, slider } from "./dom.js";
import { normals, picture, row, stack, vector } from "./data.js";
import { gallery, isSmooth } from "./display.js";

export function paintView(spec, arrays, frames) {
  const [height, width] = arrays.layout.dims;
  const original = arrays.layout.data;
  const random = normals(spec.seed);
  const styles = arrays.styles ?? null; // (S, Z): the first is where the explorer starts
  const self = { layout: original.slice(), label: 0, size: spec.brush, style: 0, last: null };
  self.z = styles ? row(styles, 0).data.slice() : null;
  self.live = false;
  let [cursor, stroke, fill] = [[width >> 1, height >> 1], null, false];
  const past = [];

  const canvas = h("canvas", { class: "mx-picture mx-crisp mx-paper", width, height, tabindex: 0, role: "application" });
  const ring = h("span", { class: "mx-brush", "aria-hidden": "true" });
  const paper = h("div", { class: "mx-easel" }, canvas, ring);
  const said = h("span", { class: "mx-hidden", role: "status" });
  const colours = spec.colours.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));

  const draw = () => {
    const image = new ImageData(width, height);
    self.layout.forEach((label, i) => image.data.set([...colours[label], 255], 4 * i));
    canvas.getContext("2d").putImageData(image, 0, 0);
    ring.style.left = `${(100 * (cursor[0] + 0.5)) / width}%`;
    ring.style.top = `${(100 * (cursor[1] + 0.5)) / height}%`;
    ring.style.width = `${(100 * self.size) / width}%`;
  };
  const remember = () => {
    past.push(self.layout.slice());
    if (past.length > 50) past.shift();
  };
  const changed = () => {
    draw();
    self.request();
  };
  const dab = ([x, y]) => {
    const radius = self.size / 2;
    for (let j = Math.max(0, Math.floor(y - radius)); j <= Math.min(height - 1, y + radius); j++) {
      for (let i = Math.max(0, Math.floor(x - radius)); i <= Math.min(width - 1, x + radius); i++) {
        if (Math.hypot(i - x, j - y) <= radius) self.layout[j * width + i] = self.label;
      }
    }
  };
  const pour = ([x, y]) => {
    const from = self.layout[y * width + x];
    const open = from === self.label ? [] : [y * width + x];
    while (open.length) {
      const k = open.pop();
      if (self.layout[k] !== from) continue;
      self.layout[k] = self.label;
      const i = k % width;
      if (i > 0) open.push(k - 1);
      if (i < width - 1) open.push(k + 1);
      if (k >= width) open.push(k - width);
      if (k < width * (height - 1)) open.push(k + width);
    }
  };
  const line = ([x0, y0], [x1, y1]) => {
    const count = Math.max(1, Math.abs(x1 - x0), Math.abs(y1 - y0));
    for (let i = 0; i <= count; i++) {
      dab([Math.round(x0 + ((x1 - x0) * i) / count), Math.round(y0 + ((y1 - y0) * i) / count)]);
    }
  };
  const begin = () => {
    remember();
    if (fill) pour(cursor);
    else dab(cursor);
    changed();
  };

  const follow = (event) => {
    const box = canvas.getBoundingClientRect();
    const inside = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value * size)));
    cursor = [
      inside((event.clientX - box.left) / box.width, width),
      inside((event.clientY - box.top) / box.height, height),
    ];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!self.live) return;
    canvas.setPointerCapture(event.pointerId);
    follow(event);
    stroke = cursor;
    begin();
  });
  canvas.addEventListener("pointermove", (event) => {
    follow(event);
    if (stroke && !fill) {
      line(stroke, cursor);
      stroke = cursor;
      changed();
    } else draw();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => (stroke = null));
  }
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    if (!step) return self.live && begin();
    const stride = event.shiftKey ? 8 : 2;
    const inside = (v, size) => Math.min(size - 1, Math.max(0, v));
    cursor = [inside(cursor[0] + stride * step[0], width), inside(cursor[1] + stride * step[1], height)];
    const here = spec.labels[self.layout[cursor[1] * width + cursor[0]]];
    said.textContent = `column ${cursor[0]}, row ${cursor[1]}: ${here}`;
    draw();
  });

  const palette = choice({
    label: "Paint",
    options: spec.labels.map((name, i) => ({ name, colour: spec.colours[i] })),
    onChange: (index) => (self.label = index),
  });
  const tool = choice({
    label: "With",
    options: [{ name: "brush" }, { name: "fill" }],
    onChange: (index) => (fill = index === 1),
  });
  const size = slider({
    label: "Brush size",
    min: 1,
    max: Math.round(width / 3),
    step: 1,
    value: self.size,
    show: (v) => `${v} px`,
    onInput(value) {
      self.size = value;
      draw();
    },
  });
  const undo = button("Undo", () => {
    if (past.length) self.layout = past.pop();
    changed();
  });
  const reset = button("Reset", () => {
    remember();
    self.layout = original.slice();
    if (styles) setStyle(0);
    chooser?.set(0);
    changed();
  });

  // Style: one of the given ones, sliders on its first coordinates, or a new draw.
  const bars = (self.z ? [...self.z.slice(0, spec.sliders)] : []).map((value, k) =>
    slider({
      label: `latent ${k + 1}`,
      min: -3,
      max: 3,
      value,
      onInput(next) {
        self.z[k] = next;
        self.request();
      },
    }),
  );
  const setStyle = (index) => {
    self.style = index;
    self.z = row(styles, index).data.slice();
    bars.forEach((bar, k) => bar.set(self.z[k]));
    self.request?.();
  };
  const chooser =
    styles && spec.styles.length > 1
      ? choice({
          label: "Style of",
          options: spec.styles.map((name, i) => ({ name, picture: frames.thumbs?.[i] })),
          smooth: isSmooth(spec),
          onChange: setStyle,
        })
      : null;
  const fresh = self.z
    ? button("New style", () => {
        self.z = self.z.map(() => spec.scale * random.normal());
        bars.forEach((bar, k) => bar.set(self.z[k]));
        self.request();
      })
    : null;

  const shown = gallery(spec, [""], { label: spec.answer });
  self.render = async (network) => {
    if (!network) return shown.show([frames.at(self.style)]);
    const feeds = { x: encode(self.layout, spec, [height, width]) };
    if (self.z) feeds.z = stack([vector(self.z)]);
    self.last = await network.run(feeds);
    shown.show([picture(self.last, 0, spec.range)]);
  };
  self.onMode = (live) => {
    self.live = live;
    [palette, tool, size, undo, fresh, ...bars].forEach((control) => control?.enable(live));
    const how = "arrow keys move the brush, space paints";
    canvas.setAttribute("aria-label", live ? `layout to paint on; ${how}` : "layout");
    ring.hidden = !live;
  };
  self.state = () => ({
    z: self.z && Array.from(self.z),
    layout: Array.from(self.layout),
    output: self.last && Array.from(self.last.data),
    dims: self.last?.dims,
  });
  draw();
  self.node = h(
    "div",
    { class: "mx-stack" },
    h(
      "div",
      { class: "mx-pair" },
      h("figure", {}, paper, h("figcaption", { text: "layout" })),
      h("figure", {}, shown.node, h("figcaption", { text: spec.answer })),
    ),
    palette.node,
    h("div", { class: "mx-line mx-tools" }, tool.node, size.node, undo.node, reset.node),
    chooser?.node,
    bars.length ? h("div", { class: "mx-bars" }, ...bars.map((bar) => bar.node)) : null,
    fresh ? h("div", { class: "mx-line" }, fresh.node) : null,
    said,
  );
  return self;
}

/** A layout as the network wants it: one-hot (1, L, H, W), or labels (1, H, W). */
function encode(layout, spec, [height, width]) {
  if (spec.encoding === "index") {
    return { data: BigInt64Array.from(layout, BigInt), dims: [1, height, width], type: "int64" };
  }
  const area = height * width;
  const data = new Float32Array(spec.labels.length * area);
  layout.forEach((label, i) => (data[label * area + i] = 1));
  return { data, dims: [1, spec.labels.length, height, width], type: "float32" };
}
