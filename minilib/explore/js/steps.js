// StepExplorer: a sequence with play, step and scrub.  It stands still until the reader plays it.
import { button, choice, h, slider } from "./dom.js";
import { picture, row, stack, vector } from "./data.js";
import { gallery } from "./display.js";
import { createPlot } from "./plot.js";

export function stepView(spec, arrays, frames) {
  const self = { step: spec.start, variant: 0, last: null };
  const plot = spec.plot ? createPlot({ ...spec.plot, label: spec.label }) : null;
  const shown = plot ?? gallery(spec, [""], { label: spec.label });
  const note = h("p", { class: "mx-note" });
  const end = spec.names.length - 1;
  let timer = null;

  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.node.textContent = "Play";
  };
  const go = (step) => {
    self.step = Math.min(end, Math.max(0, step));
    bar.set(self.step);
    self.request();
    if (self.step === end) stop();
  };
  const back = button("\u2039", () => (stop(), go(self.step - 1)), { "aria-label": "one step back" });
  const on = button("\u203a", () => (stop(), go(self.step + 1)), { "aria-label": "one step on" });
  const play = button("Play", () => {
    if (timer) return stop();
    if (self.step === end) go(0);
    play.node.textContent = "Pause";
    timer = setInterval(() => {
      if (self.node.isConnected) go(self.step + 1);
      else stop();
    }, 1000 / spec.rate);
  });
  const bar = slider({
    label: spec.step,
    min: 0,
    max: end,
    step: 1,
    value: self.step,
    show: (i) => spec.names[i],
    onInput: (step) => (stop(), go(step)),
  });
  const variants =
    spec.variants.length > 1
      ? choice({
          label: spec.variant,
          options: spec.variants.map((name) => ({ name })),
          onChange(index) {
            self.variant = index;
            self.request();
          },
        })
      : null;

  const layersOf = (index) =>
    spec.scenes[index].layers.map((layer) => ({ ...layer, ...arrays[layer.array] }));
  self.render = async (network) => {
    const index = self.variant * (end + 1) + self.step;
    note.textContent = spec.scenes?.[index].text ?? "";
    if (plot) return plot.draw(layersOf(index));
    if (!network) return shown.show([frames.at(index)]);
    const feeds = { z: stack([vector(row(arrays.z, self.step).data)]) };
    if (arrays.conditions) feeds.c = stack([row(arrays.conditions, self.variant)]);
    self.last = await network.run(feeds);
    shown.show([picture(self.last, 0, spec.range)]);
  };
  self.state = () => ({
    step: self.step,
    variant: self.variant,
    z: arrays.z && Array.from(row(arrays.z, self.step).data),
    output: self.last && Array.from(self.last.data),
    dims: self.last?.dims,
    playing: timer !== null,
  });
  self.node = h(
    "div",
    { class: "mx-body" },
    h("div", { class: "mx-answer" }, shown.node, note),
    h(
      "div",
      { class: "mx-controls" },
      variants?.node,
      bar.node,
      h("div", { class: "mx-line" }, back.node, play.node, on.node),
    ),
  );
  return self;
}
