// SwapExplorer: the structure of one image with the texture of another.
import { button, choice, h, slider } from "./dom.js";
import { picture, row, stack, vector } from "./data.js";
import { latentAt } from "./latent.js";
import { gallery, isSmooth } from "./display.js";

export function swapView(spec, arrays, frames) {
  const { structures, textures, directions } = arrays;
  const count = spec.images.length;
  const self = { structure: 0, texture: Math.min(1, count - 1), blend: 1, last: null };
  self.amounts = spec.names.map(() => 0);

  const changed = () => self.request();
  const chooser = (label, field) =>
    choice({
      label,
      value: self[field],
      smooth: isSmooth(spec),
      options: spec.images.map((name, i) => ({ name, picture: frames.thumbs[i] })),
      onChange(index) {
        self[field] = index;
        changed();
      },
    });
  const choosers = [chooser("Structure of", "structure"), chooser("Texture of", "texture")];
  const blend = slider({
    label: "Texture: from its own to the other's",
    min: 0,
    max: 1,
    value: 1,
    onInput(value) {
      self.blend = value;
      changed();
    },
  });
  const bars = spec.names.map((name, k) =>
    slider({
      label: name,
      min: spec.spans[k][0],
      max: spec.spans[k][1],
      value: 0,
      onInput(value) {
        self.amounts[k] = value;
        changed();
      },
    }),
  );
  const exchange = button("Exchange the two", () => {
    [self.structure, self.texture] = [self.texture, self.structure];
    choosers[0].set(self.structure);
    choosers[1].set(self.texture);
    changed();
  });
  const reset = button("Reset", () => {
    self.blend = 1;
    blend.set(1);
    self.amounts.fill(0);
    bars.forEach((bar) => bar.set(0));
    changed();
  });

  /** (1 - b) own texture + b the other's, then along the directions. */
  const code = () => {
    const own = row(textures, self.structure).data;
    const other = row(textures, self.texture).data;
    const mixed = other.map((value, i) => (1 - self.blend) * own[i] + self.blend * value);
    return directions ? latentAt(mixed, self.amounts, directions) : mixed;
  };
  const shown = gallery(spec, ["structure", "texture", spec.answer], { label: "image:" });
  shown.node.className = "mx-three";
  self.render = async (network) => {
    const sources = [frames.thumbs[self.structure], frames.thumbs[self.texture]];
    if (!network) return shown.show([...sources, frames.at(self.structure * count + self.texture)]);
    const s = row(structures, self.structure);
    self.last = await network.run({ s: stack([s]), t: stack([vector(code())]) });
    shown.show([...sources, picture(self.last, 0, spec.range)]);
  };
  self.onMode = (live) => [blend, ...bars].forEach((control) => control.enable(live));
  self.state = () => ({
    structure: self.structure,
    texture: self.texture,
    code: Array.from(code()),
    output: self.last && Array.from(self.last.data),
    dims: self.last?.dims,
  });
  self.node = h(
    "div",
    { class: "mx-stack" },
    shown.node,
    ...choosers.map((one) => one.node),
    blend.node,
    bars.length ? h("div", { class: "mx-bars" }, ...bars.map((bar) => bar.node)) : null,
    h("div", { class: "mx-line" }, exchange.node, reset.node),
  );
  return self;
}
