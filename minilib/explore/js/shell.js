// The frame around every explorer: caption, body, small print, and the loop that keeps the picture
// up to date without ever running two updates at once.
import { h } from "./dom.js";
import { openNetwork } from "./runtime.js";

const PATIENCE = 8000; // ms to wait for the runtime before the small print says "frames"

/** Runs `task` when asked; requests that come while it runs become one more run. */
class Loop {
  constructor(task, after) {
    this.task = task;
    this.after = after;
    this.running = null;
    this.again = false;
    this.times = [];
  }

  request() {
    if (this.running) this.again = true;
    else this.running = this.work().finally(() => (this.running = null));
    return this.running;
  }

  async work() {
    do {
      this.again = false;
      const start = performance.now();
      await this.task();
      this.times = [...this.times.slice(-24), performance.now() - start];
      this.after();
    } while (this.again);
  }

  median() {
    const sorted = [...this.times].sort((a, b) => a - b);
    return sorted[sorted.length >> 1];
  }
}

/**
 * view: {node, render(network) -> Promise, state() -> object, onMode(live)}.
 * The root element carries data-state = "loading" | "live" | "frames" | "still" and, for tests and curious
 * readers, a property `explorer` = {state(), idle(), median()}.
 */
export function mount(model, el, spec, view, { still = false } = {}) {
  const mode = h("span", { class: "mx-mode", role: "status" });
  const time = h("span", { class: "mx-time" });
  const root = h(
    "section",
    { class: `mx mx-${spec.kind}`, "aria-label": spec.label, "data-state": "loading" },
    spec.caption ? h("p", { class: "mx-caption", text: spec.caption }) : null,
    view.node,
    h("p", { class: "mx-print" }, mode, time),
  );
  el.append(root);

  let network = null;
  const showTime = () => {
    time.textContent = root.dataset.state === "live" ? ` \u00b7 ${loop.median().toFixed(1)} ms a picture` : "";
  };
  const loop = new Loop(() => view.render(network), showTime);
  view.request = () => loop.request();
  const say = (state, text) => {
    root.dataset.state = state;
    mode.textContent = text;
    view.onMode?.(state === "live");
  };
  root.explorer = {
    state: () => view.state(),
    idle: async () => {
      while (loop.running) await loop.running;
    },
    median: () => loop.median(),
  };

  const frames = (why) => say("frames", `Precomputed frames: ${why}.`);
  const start = async () => {
    await loop.request();
    if (still) return say("still", spec.print);
    if (spec.trouble) return frames(spec.trouble);
    say("loading", "Loading the network\u2026");
    const timer = setTimeout(() => frames("the network has not arrived (yet)"), PATIENCE);
    try {
      network = await openNetwork(model, spec.batch);
      loop.times = [];
      await loop.request(); // the first run warms up,
      await loop.request(); // the second tells the time, without waiting for other explorers to load
      loop.times = [network.milliseconds];
      say("live", "The network runs here, in your browser");
      showTime();
    } catch (error) {
      network = null;
      frames(error.message);
      await loop.request();
    } finally {
      clearTimeout(timer);
    }
  };
  start();
  return root;
}
