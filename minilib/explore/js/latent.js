// LatentExplorer: a pad over two directions of latent space, sliders over the others, and the
// network's answer.  The latent is z = base + sum_i a_i d_i; `base` has no part in the directions.
import { button, choice, h, menu, slider } from "./dom.js";
import { normals, row, stack, vector } from "./data.js";
import { createDisplay, isSmooth } from "./display.js";
import { drawMap, pad } from "./pad.js";

/** z = base + a . directions, directions: (D, Z). */
export function latentAt(base, a, directions) {
  const z = Float32Array.from(base);
  const width = z.length;
  a.forEach((value, i) => {
    for (let k = 0; k < width; k++) z[k] += value * directions.data[i * width + k];
  });
  return z;
}

/** Split z into coefficients along the directions (dual: (D, Z), their pseudo-inverse) and a base. */
export function split(z, directions, dual) {
  const [count, width] = directions.dims;
  const a = Array.from({ length: count }, (_, i) => {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += z[k] * dual.data[i * width + k];
    return sum;
  });
  const base = latentAt(z, a.map((value) => -value), directions);
  return { a, base };
}

export function latentView(spec, arrays, frames) {
  const { directions, dual, z: start } = arrays;
  const random = normals(spec.seed);
  const names = spec.conditions;
  const whole = spec.output === "row";
  const self = { live: false, condition: 0, plane: [...spec.plane], last: null };
  Object.assign(self, split(start.data, directions, dual), { atStart: true });

  const axis = (i) => ({ name: spec.names[i], low: spec.spans[i][0], high: spec.spans[i][1] });
  const changed = () => {
    self.atStart = false;
    self.request();
  };
  const thePad = pad({
    axes: self.plane.map(axis),
    value: self.plane.map((i) => self.a[i]),
    onMove(x, y) {
      [self.a[self.plane[0]], self.a[self.plane[1]]] = [x, y];
      changed();
    },
  });

  // One slider per direction that is not on the pad; choosing another pad axis swaps the two.
  const others = spec.names.map((_, i) => i).filter((i) => !self.plane.includes(i));
  const sliders = others.map((direction, slot) =>
    slider({
      label: spec.names[direction],
      ...span(direction),
      value: self.a[direction],
      onInput(value) {
        self.a[others[slot]] = value;
        changed();
      },
    }),
  );
  function span(i) {
    return { min: spec.spans[i][0], max: spec.spans[i][1] };
  }
  const swap = (side, direction) => {
    const slot = others.indexOf(direction);
    if (slot >= 0) others[slot] = self.plane[side];
    else self.plane[1 - side] = self.plane[side]; // the other pad axis was chosen: exchange them
    self.plane[side] = direction;
    place();
    changed();
  };
  const menus = ["Across", "Up"].map((label, side) =>
    menu({ label, options: spec.names, value: self.plane[side], onChange: (i) => swap(side, i) }),
  );

  /** Put every control where the state says. */
  function place() {
    thePad.axes = self.plane.map(axis);
    thePad.set(...self.plane.map((i) => self.a[i]));
    menus.forEach((one, side) => one.set(self.plane[side]));
    sliders.forEach((one, slot) => {
      one.rename(spec.names[others[slot]]);
      one.range(...spec.spans[others[slot]]);
      one.set(self.a[others[slot]]);
    });
  }

  const chooser =
    names.length > 1 && !whole
      ? choice({
          label: spec.condition,
          options: names.map((name, i) => ({ name, picture: frames.thumbs?.[i] })),
          smooth: isSmooth(spec),
          onChange(index) {
            self.condition = index;
            map();
            self.request();
          },
        })
      : null;

  const draw = () => {
    const drawn = arrays.z.data.map(() =>
      spec.prior === "uniform" ? 2 * random.uniform() - 1 : spec.scale * random.normal(),
    );
    Object.assign(self, split(drawn, directions, dual));
    self.a = self.a.map((v, i) => Math.min(spec.spans[i][1], Math.max(spec.spans[i][0], v)));
    place();
    changed();
  };
  const sample = spec.prior === "none" ? null : button("New sample", draw);
  const reset = button("Reset", () => {
    Object.assign(self, split(start.data, directions, dual), { atStart: true });
    place();
    self.request();
  });

  const display = createDisplay(spec, arrays, whole ? names : [""]);
  const perCondition = spec.grid * spec.grid + 1; // the grid's cells, then the start

  /** Which precomputed frame is nearest to the state. */
  function cell() {
    if (self.atStart) return perCondition - 1;
    const [column, line] = self.plane.map((i, side) => {
      const { low, high } = axis(i);
      const position = Math.floor(((self.a[i] - low) / (high - low)) * spec.grid);
      const inside = Math.min(spec.grid - 1, Math.max(0, position));
      return side === 0 ? inside : spec.grid - 1 - inside; // rows run from the top
    });
    return line * spec.grid + column;
  }
  const showFrame = () => {
    const index = cell();
    const many = spec.output === "images" ? spec.count : 1;
    const pick = (c) =>
      Array.from({ length: many }, (_, k) => frames.at((c * perCondition + index) * many + k));
    if (whole) display.frames(names.flatMap((_, c) => pick(c)));
    else display.frames(spec.output === "points" ? pick(self.condition)[0] : pick(self.condition));
  };

  /** The pad's background: the grid of frames, while it tells the truth. */
  function map() {
    if (spec.output !== "image") return;
    const first = self.condition * perCondition;
    drawMap(thePad.map, frames.images.slice(first, first + perCondition - 1), spec.grid);
  }
  map();
  const mapHolds = () =>
    spec.output === "image" &&
    self.plane.every((direction, side) => direction === spec.plane[side]) &&
    split(start.data, directions, dual).a.every(
      (v, i) => self.plane.includes(i) || Math.abs(v - self.a[i]) < 1e-6,
    );

  self.feeds = () => {
    const z = latentAt(self.base, self.a, directions);
    const chosen = whole ? names.map((_, i) => i) : [self.condition];
    const feeds = { z: stack(chosen.map(() => vector(z))) };
    if (arrays.conditions) feeds.c = stack(chosen.map((i) => row(arrays.conditions, i)));
    return feeds;
  };
  self.render = async (network) => {
    thePad.map.style.visibility = mapHolds() ? "visible" : "hidden";
    if (!network) return showFrame();
    self.last = await network.run(self.feeds());
    display.tensor(self.last);
  };
  self.onMode = (live) => {
    self.live = live;
    [...sliders, ...menus, sample].forEach((control) => control?.enable(live));
    thePad.cells = live ? 0 : spec.grid;
  };
  self.state = () => ({
    z: Array.from(latentAt(self.base, self.a, directions)),
    condition: self.condition,
    output: self.last && Array.from(self.last.data),
    dims: self.last?.dims,
  });
  const controls = h(
    "div",
    { class: "mx-controls" },
    thePad.node,
    spec.names.length > 2 ? h("div", { class: "mx-line" }, ...menus.map((one) => one.node)) : null,
    ...sliders.map((one) => one.node),
    h("div", { class: "mx-line" }, sample?.node, reset.node),
  );
  self.node = h(
    "div",
    { class: whole || spec.output === "images" ? "mx-body mx-wide" : "mx-body" },
    controls,
    h("div", { class: "mx-answer" }, display.node, chooser?.node),
  );
  return self;
}
