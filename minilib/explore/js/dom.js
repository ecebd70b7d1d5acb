// Small builders for the page elements that the explorers share.  Native inputs do the keyboard,
// touch and screen-reader work wherever there is one; only the 2-D pad (pad.js) is our own.

/** Make an element: h("p", {class: "x", onclick: f, text: "..."}, child, ...). */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A number for people: two decimals, a real minus sign, no "-0.00". */
export function format(value) {
  const text = (Math.abs(value) < 0.005 ? 0 : value).toFixed(2);
  return text.replace("-", "\u2212");
}

/** A labelled native slider. */
export function slider({ label, min, max, step, value, onInput, show = format }) {
  const output = h("output", { class: "mx-value" });
  const input = h("input", { type: "range", min, max, step: step ?? "any" });
  input.value = value;
  const refresh = () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => {
    refresh();
    onInput(Number(input.value));
  });
  // With step="any" browsers move by 1/100 of the span on an arrow key; a twentieth is kinder.
  if (step === undefined) input.addEventListener("keydown", (event) => nudge(event, input));
  refresh();
  const head = h("span", { class: "mx-label", text: label });
  return {
    node: h("label", { class: "mx-slider" }, head, input, output),
    input,
    rename: (text) => (head.textContent = text),
    set(next) {
      input.value = next;
      refresh();
    },
    range(low, high) {
      input.min = low;
      input.max = high;
    },
    enable: (on) => (input.disabled = !on),
  };
}

function nudge(event, input) {
  const direction = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!direction) return;
  event.preventDefault();
  const step = (Number(input.max) - Number(input.min)) / (event.shiftKey ? 5 : 20);
  input.value = Number(input.value) + direction * step;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

/** A group of radio buttons; each option is {name, picture: ImageData?, colour: css?}. */
export function choice({ label, options, value = 0, onChange, smooth = false }) {
  const group = `mx-${Math.random().toString(36).slice(2)}`;
  const inputs = [];
  const items = options.map((option, index) => {
    const input = h("input", { type: "radio", name: group, value: index });
    input.checked = index === value;
    input.addEventListener("change", () => onChange(index));
    inputs.push(input);
    const face = option.picture ? thumbnail(option.picture, smooth) : null;
    const swatch = option.colour
      ? h("span", { class: "mx-swatch", style: `background:${option.colour}` })
      : null;
    const text = h("span", { class: "mx-option-name", text: option.name });
    return h("label", { class: "mx-option", title: option.name }, input, face, swatch, text);
  });
  const kind = options.some((option) => option.picture) ? "mx-thumbs" : "mx-chips";
  const node = h(
    "fieldset",
    { class: "mx-choice" },
    h("legend", { class: "mx-label", text: label }),
    h("div", { class: kind }, ...items),
  );
  return {
    node,
    set: (index) => (inputs[index].checked = true),
    enable: (on) => inputs.forEach((input) => (input.disabled = !on)),
  };
}

/** A labelled drop-down list of names. */
export function menu({ label, options, value, onChange }) {
  const input = h("select", {}, ...options.map((name, i) => h("option", { value: i, text: name })));
  input.value = value;
  input.addEventListener("change", () => onChange(Number(input.value)));
  return {
    node: h("label", { class: "mx-menu" }, h("span", { class: "mx-label", text: label }), input),
    set: (index) => (input.value = index),
    enable: (on) => (input.disabled = !on),
  };
}

export function button(text, onClick, attributes = {}) {
  const node = h("button", { type: "button", class: "mx-button", text, ...attributes });
  node.addEventListener("click", onClick);
  return { node, enable: (on) => (node.disabled = !on) };
}

/** An ImageData in a canvas of its own size; CSS scales it. */
export function thumbnail(picture, smooth) {
  const canvas = h("canvas", { class: smooth ? "mx-thumb" : "mx-thumb mx-crisp" });
  canvas.setAttribute("aria-hidden", "true");
  put(canvas, picture);
  return canvas;
}

export function put(canvas, picture) {
  if (canvas.width !== picture.width) canvas.width = picture.width;
  if (canvas.height !== picture.height) canvas.height = picture.height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
