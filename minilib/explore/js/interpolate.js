// Interpolator: two latents, a slider between them, and the strip of steps below.
import { button, choice, h, put, slider } from "./dom.js";
import { normals, picture, row, stack, vector } from "./data.js";
import { gallery, isSmooth } from "./display.js";

/** A point between two latents; t in [0, 1].  Spherical: along the great circle (Shoemake). */
export function between(za, zb, t, spherical) {
  let [wa, wb] = [1 - t, t];
  if (spherical) {
    const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
    const cosine = dot(za, zb) / Math.sqrt(dot(za, za) * dot(zb, zb));
    const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
    if (Math.sin(angle) > 1e-4) {
      wa = Math.sin((1 - t) * angle) / Math.sin(angle);
      wb = Math.sin(t * angle) / Math.sin(angle);
    }
  }
  return Float32Array.from(za, (v, i) => wa * v + wb * zb[i]);
}

export function interpolateView(spec, arrays, frames) {
  const random = normals(spec.seed);
  const names = spec.conditions;
  const given = { za: arrays.za.data, zb: arrays.zb.data };
  const self = { t: 0, spherical: spec.mode === "spherical", condition: 0, ...given, last: null, drawn: [] };

  const large = gallery(spec, [""], { label: spec.answer });
  const ts = Array.from({ length: spec.steps }, (_, i) => i / (spec.steps - 1));
  const strip = gallery(spec, ts.map((t) => t.toFixed(2)), { label: `${spec.answer} at t =` });
  strip.node.className = "mx-strip";
  strip.node.style.setProperty("--mx-count", spec.steps);
  strip.canvases.forEach((canvas, i) => {
    const jump = h("button", { type: "button", class: "mx-step", "aria-label": `go to t = ${ts[i].toFixed(2)}` });
    canvas.replaceWith(jump);
    jump.append(canvas);
    jump.addEventListener("click", () => {
      bar.set(ts[i]);
      move(ts[i]);
    });
  });

  const move = (t) => {
    self.t = t;
    self.request();
  };
  const bar = slider({ label: "From A to B", min: 0, max: 1, value: 0, onInput: move });
  const mode = choice({
    label: "Path",
    options: [{ name: "linear" }, { name: "spherical" }],
    value: self.spherical ? 1 : 0,
    onChange(index) {
      self.spherical = index === 1;
      self.request();
    },
  });
  const chooser =
    names.length > 1
      ? choice({
          label: spec.condition,
          options: names.map((name, i) => ({ name, picture: frames.thumbs?.[i] })),
          smooth: isSmooth(spec),
          onChange(index) {
            self.condition = index;
            self.request();
          },
        })
      : null;
  const draw = (end) => () => {
    self[end] = given[end].map(() => spec.scale * random.normal());
    self.request();
  };
  const fresh = [button("New A", draw("za")), button("New B", draw("zb"))];
  const reset = button("Reset", () => {
    Object.assign(self, given, { t: 0 });
    bar.set(0);
    self.request();
  });

  const showFrames = () => {
    const first = (self.condition * 2 + (self.spherical ? 1 : 0)) * spec.steps;
    const pictures = ts.map((_, i) => frames.at(first + i));
    strip.show(pictures);
    put(large.canvases[0], pictures[Math.round(self.t * (spec.steps - 1))]);
  };
  const run = (network, times) => {
    const zs = times.map((t) => vector(between(self.za, self.zb, t, self.spherical)));
    const feeds = { z: stack(zs) };
    if (arrays.conditions) feeds.c = stack(zs.map(() => row(arrays.conditions, self.condition)));
    return network.run(feeds);
  };
  self.render = async (network) => {
    const here = Math.round(self.t * (spec.steps - 1));
    strip.figures.forEach((figure, i) => figure.classList.toggle("mx-here", i === here));
    if (!network) return showFrames();
    self.last = await run(network, [self.t]);
    large.show([picture(self.last, 0, spec.range)]);
    const path = [self.za, self.zb, self.spherical, self.condition];
    if (path.every((part, i) => part === self.drawn[i])) return; // only t has moved
    const steps = await run(network, ts);
    strip.show(ts.map((_, i) => picture(steps, i, spec.range)));
    self.drawn = path;
  };
  self.onMode = (live) => fresh.forEach((control) => control.enable(live));
  self.state = () => ({
    z: Array.from(between(self.za, self.zb, self.t, self.spherical)),
    condition: self.condition,
    output: self.last && Array.from(self.last.data),
    dims: self.last?.dims,
  });
  self.node = h(
    "div",
    { class: "mx-stack" },
    h(
      "div",
      { class: "mx-body" },
      h("div", { class: "mx-answer" }, large.node),
      h(
        "div",
        { class: "mx-controls" },
        bar.node,
        mode.node,
        chooser?.node,
        h("div", { class: "mx-line" }, ...fresh.map((one) => one.node), reset.node),
      ),
    ),
    strip.node,
  );
  return self;
}
