// RealOrFake: the papers' perceptual test, taken by the reader.  A real and a generated image, one
// after the other, each for a moment; which was generated?  Nothing leaves the page, or is kept.
import { button, h, put } from "./dom.js";
import { normals } from "./data.js";
import { isSmooth } from "./display.js";

/** Wilson's 95% interval of a proportion. */
export function wilson(hits, count, z = 1.96) {
  const rate = hits / count;
  const middle = (rate + (z * z) / (2 * count)) / (1 + (z * z) / count);
  const half = Math.sqrt((rate * (1 - rate)) / count + (z * z) / (4 * count * count));
  const reach = (z * half) / (1 + (z * z) / count);
  return [Math.max(0, middle - reach), Math.min(1, middle + reach)];
}

export function realOrFakeView(spec, arrays, frames) {
  const random = normals((Date.now() ^ (Math.random() * 2 ** 31)) >>> 0);
  const pick = (count) => Math.floor(random.uniform() * count);
  const self = { phase: "ready", rounds: [], at: 0 };
  const [height, width] = spec.picture;
  const canvas = h("canvas", { class: `mx-picture${isSmooth(spec) ? "" : " mx-crisp"}`, width, height, role: "img", "aria-label": "nothing shown" });
  const prompt = h("p", { class: "mx-prompt", role: "status" });
  const progress = h("p", { class: "mx-label" });
  const results = h("div", {});

  const blank = () => {
    canvas.getContext("2d").clearRect(0, 0, width, height);
    canvas.setAttribute("aria-label", "nothing shown");
  };
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  /** Practice rounds, then counted ones; every method equally often, in random order. */
  const plan = () => {
    const methods = spec.methods.map((_, i) => i);
    const deal = (count) => {
      const out = Array.from({ length: count }, (_, i) => methods[i % methods.length]);
      for (let i = count - 1; i > 0; i--) {
        const j = pick(i + 1);
        [out[i], out[j]] = [out[j], out[i]];
      }
      return out;
    };
    const order = [...deal(spec.practice), ...deal(spec.counted)];
    self.rounds = order.map((method) => {
      const real = pick(spec.counts[0]);
      const fake = spec.paired ? real : pick(spec.counts[method + 1]);
      return { method, real, fake, second: random.uniform() < 0.5, fooled: null };
    });
    self.at = 0;
  };
  const offset = (set) => spec.counts.slice(0, set).reduce((a, b) => a + b, 0);

  const show = async () => {
    self.phase = "showing";
    const { method, real, fake, second } = self.rounds[self.at];
    const pair = [frames.at(real), frames.at(offset(method + 1) + fake)];
    if (!second) pair.reverse(); // `second`: the generated one comes second
    refresh("");
    for (const [i, image] of pair.entries()) {
      put(canvas, image);
      canvas.setAttribute("aria-label", i === 0 ? "first image" : "second image");
      await wait(spec.milliseconds);
      blank();
      await wait(spec.milliseconds / 4);
    }
    self.phase = "asking";
    refresh("Which one was generated?");
    answers[0].node.focus();
  };
  const decide = (second) => {
    const round = self.rounds[self.at];
    round.fooled = second !== round.second;
    const feedback = `${round.fooled ? "No" : "Yes"}: the ${round.second ? "second" : "first"} was generated.`;
    const practice = self.at < spec.practice;
    self.at += 1;
    self.phase = self.at === self.rounds.length ? "done" : "ready";
    if (self.phase === "done") table();
    refresh(practice ? feedback : "");
    next.node.focus();
  };

  const table = () => {
    const counted = self.rounds.slice(spec.practice);
    const percent = (value) => `${(100 * value).toFixed(0)}%`;
    const rows = spec.methods.map((name, method) => {
      const mine = counted.filter((round) => round.method === method);
      const hits = mine.filter((round) => round.fooled).length;
      const [low, high] = wilson(hits, mine.length);
      const cells = [`${hits} of ${mine.length}`, percent(hits / mine.length), `${percent(low)} to ${percent(high)}`];
      return h("tr", {}, h("th", { scope: "row", text: name }), ...cells.map((text) => h("td", { text })));
    });
    const heads = ["Method", "Fooled you", "Rate", "95% interval"];
    const head = h("tr", {}, ...heads.map((text) => h("th", { scope: "col", text })));
    results.replaceChildren(h("table", { class: "mx-table" }, h("thead", {}, head), h("tbody", {}, ...rows)));
  };

  const answers = [button("The first", () => decide(false)), button("The second", () => decide(true))];
  const next = button("Show the first pair", () => {
    if (self.phase === "done" || !self.rounds.length) {
      plan();
      results.replaceChildren();
    }
    show();
  });
  const stop = button("Start over", () => {
    self.rounds = [];
    self.phase = "ready";
    results.replaceChildren();
    refresh("");
  });
  const refresh = (text) => {
    prompt.textContent = text || "\u00a0";
    answers.forEach((one) => (one.node.hidden = self.phase !== "asking"));
    next.node.hidden = self.phase === "asking" || self.phase === "showing";
    stop.node.hidden = !self.rounds.length || self.phase === "showing";
    next.node.textContent =
      self.phase === "done" ? "Once more" : self.rounds.length ? "Next pair" : "Show the first pair";
    const round = Math.min(self.at + 1, self.rounds.length);
    const counting = self.at >= spec.practice;
    progress.textContent = !self.rounds.length
      ? `${spec.practice} rounds of practice, then ${spec.counted} that count`
      : self.phase === "done"
        ? "Done"
        : counting
          ? `Round ${round - spec.practice} of ${spec.counted}`
          : `Practice ${round} of ${spec.practice}`;
  };

  self.render = async () => {};
  self.state = () => structuredClone({ phase: self.phase, at: self.at, rounds: self.rounds });
  refresh("");
  self.node = h(
    "div",
    { class: "mx-body" },
    h("div", { class: "mx-stage" }, canvas),
    h(
      "div",
      { class: "mx-controls" },
      progress,
      prompt,
      h("div", { class: "mx-line" }, ...answers.map((one) => one.node), next.node, stop.node),
      results,
    ),
  );
  return self;
}
