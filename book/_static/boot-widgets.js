// Runs after require.js and before the widget manager (embed-amd.js), on pages that hold widgets.
(() => {
  const here = new URL(".", document.currentScript.src).href; // .../_static/
  requirejs.config({ paths: { anywidget: `${here}widgets/anywidget` } });

  // ipywidgets typesets with MathJax 2's queue; the book loads MathJax 3.
  addEventListener("load", () => {
    const { MathJax } = window;
    if (!MathJax || MathJax.Hub) return;
    MathJax.Hub = {
      Queue: ([name, , element]) => name === "Typeset" && MathJax.typesetPromise?.([element]),
    };
  });
})();
