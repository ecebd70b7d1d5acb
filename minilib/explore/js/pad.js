// A two-dimensional slider: drag, touch, or arrow keys.  Nothing but the reader moves it.
import { format, h } from "./dom.js";

/**
 * axes: [{name, low, high}, {name, low, high}] (across, up); onMove(x, y).
 * `cells`: in frames-only mode the dot snaps to the centres of a cells x cells grid.
 */
export function pad({ axes, value, onMove }) {
  const dot = h("span", { class: "mx-dot" });
  const map = h("canvas", { class: "mx-map", "aria-hidden": "true" });
  const surface = h(
    "div",
    { class: "mx-pad", tabindex: 0, role: "slider", "aria-roledescription": "two-dimensional pad" },
    map,
    dot,
  );
  const across = h("span", { class: "mx-axis mx-axis-x" });
  const up = h("span", { class: "mx-axis mx-axis-y" });
  const node = h("div", { class: "mx-padbox" }, up, surface, across);
  const self = { node, surface, map, axes, value: [...value], cells: 0 };

  const clamp = (v, axis) => Math.min(axis.high, Math.max(axis.low, v));
  const snap = (v, axis) => {
    if (!self.cells) return v;
    const width = (axis.high - axis.low) / self.cells;
    const cell = Math.min(self.cells - 1, Math.max(0, Math.floor((v - axis.low) / width)));
    return axis.low + (cell + 0.5) * width;
  };

  self.draw = () => {
    const [x, y] = self.value;
    const [a, b] = self.axes;
    dot.style.left = `${(100 * (clamp(x, a) - a.low)) / (a.high - a.low)}%`;
    dot.style.top = `${(100 * (b.high - clamp(y, b))) / (b.high - b.low)}%`;
    across.textContent = `${a.name} \u2192`;
    up.textContent = `${b.name} \u2192`;
    surface.setAttribute("aria-label", `${a.name} across, ${b.name} up; use the arrow keys`);
    surface.setAttribute("aria-valuemin", a.low);
    surface.setAttribute("aria-valuemax", a.high);
    surface.setAttribute("aria-valuenow", x);
    surface.setAttribute("aria-valuetext", `${a.name} ${format(x)}, ${b.name} ${format(y)}`);
  };
  self.set = (x, y) => {
    self.value = [x, y];
    self.draw();
  };
  self.move = (x, y) => {
    const [a, b] = self.axes;
    self.set(snap(clamp(x, a), a), snap(clamp(y, b), b));
    onMove(...self.value);
  };

  const follow = (event) => {
    const box = surface.getBoundingClientRect();
    const [a, b] = self.axes;
    self.move(
      a.low + ((event.clientX - box.left) / box.width) * (a.high - a.low),
      b.high - ((event.clientY - box.top) / box.height) * (b.high - b.low),
    );
  };
  surface.addEventListener("pointerdown", (event) => {
    surface.setPointerCapture(event.pointerId);
    surface.focus({ preventScroll: true });
    event.preventDefault();
    follow(event);
  });
  surface.addEventListener("pointermove", (event) => {
    if (surface.hasPointerCapture(event.pointerId)) follow(event);
  });
  surface.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would move to the next cell
    const parts = self.cells || (event.shiftKey ? 5 : 20);
    const [a, b] = self.axes;
    self.move(
      self.value[0] + (step[0] * (a.high - a.low)) / parts,
      self.value[1] + (step[1] * (b.high - b.low)) / parts,
    );
  });
  self.draw();
  return self;
}

/** Draw a sheet of frames, faintly, under the dot: a map of the plane. `pictures`: rows from the top. */
export function drawMap(canvas, pictures, columns) {
  const { width, height } = pictures[0];
  canvas.width = width * columns;
  canvas.height = height * (pictures.length / columns);
  const context = canvas.getContext("2d");
  pictures.forEach((picture, i) =>
    context.putImageData(picture, (i % columns) * width, Math.floor(i / columns) * height),
  );
}
