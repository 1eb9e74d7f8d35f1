/** Accuracy of two witnesses of one bit while one of them gets worse; see mmtutor.data.worlds.redundant, strength 1. */
globalThis.WidgetRobustnessCurve = (() => {
  "use strict";

  /** P(Z < z) for a standard normal Z: 1/2 + φ(z) (z + z³/3 + z⁵/(3·5) + ...), Marsaglia 2004. */
  function normal(z) {
    if (Math.abs(z) > 8) return z > 0 ? 1 : 0;
    let [sum, term, before] = [z, z, 0];
    for (let k = 3; sum !== before; k += 2) {
      before = sum;
      term *= (z * z) / k;
      sum += term;
    }
    return 0.5 + (sum * Math.exp(-(z * z) / 2)) / Math.sqrt(2 * Math.PI);
  }

  /**
   * What each way of deciding scores. Witness m says the bit, +1 or -1, plus noise of deviation `a` or `b`; the product
   * was calibrated while B's noise had deviation `trained`, so it weighs the two by 1/a² and 1/trained².
   */
  function scores(a, trained, b) {
    const [wa, wb] = [1 / a ** 2, 1 / trained ** 2];
    return {
      product: normal((wa + wb) / Math.hypot(wa * a, wb * b)),
      without: normal(1 / a),
      alone: normal(1 / b),
      best: normal(Math.hypot(1 / a, 1 / b)),
    };
  }

  /** The noise in B at which the product is as good as A alone. */
  const crossing = (a, trained) => Math.sqrt(a ** 2 + 2 * trained ** 2);

  const MOST = 60; // tenths of noise; as far as the slider goes
  const LEFT = 34, WIDTH = 256, TOP = 8, HEIGHT = 140;
  const x = (tenths) => LEFT + (WIDTH * tenths) / MOST;
  const y = (score) => TOP + 2 * HEIGHT * (1 - score); // from chance, 0.5, to 1
  const LINES = { // classes in full: slimming the style sheet looks for them
    best: "widget-line widget-line-best", alone: "widget-line widget-line-alone",
    without: "widget-line widget-line-without", product: "widget-line widget-line-product",
  };

  /** Draw the four curves over all noise in B, the noise of training as a line, that of the test as dots. */
  function draw(picture, a, trained, b) {
    const word = { class: "widget-axis" };
    const scale = [0.5, 0.6, 0.7, 0.8, 0.9, 1].flatMap((score) => [
      Widgets.shape("line", { class: "widget-grid", x1: LEFT, x2: LEFT + WIDTH, y1: y(score), y2: y(score) }),
      Widgets.shape("text", { ...word, x: LEFT - 5, y: y(score) + 3.5, "text-anchor": "end" }, score.toFixed(1)),
    ]);
    const below = [0, 1, 2, 3, 4, 5, 6].map((noise) =>
      Widgets.shape("text", { ...word, x: x(10 * noise), y: TOP + HEIGHT + 14, "text-anchor": "middle" }, String(noise)));
    const name = Widgets.shape("text", { ...word, x: LEFT + WIDTH / 2, y: TOP + HEIGHT + 28, "text-anchor": "middle" },
      "noise in B at the test");
    const home = Widgets.shape("line", { class: "widget-home", x1: x(trained), x2: x(trained), y1: TOP, y2: TOP + HEIGHT });
    const here = scores(a / 10, trained / 10, b / 10);
    const curves = Object.entries(LINES).map(([method, line]) => {
      const points = [];
      for (let tenths = 2; tenths <= MOST; tenths += 1) {
        points.push([x(tenths), y(scores(a / 10, trained / 10, tenths / 10)[method])].map((v) => v.toFixed(2)));
      }
      return Widgets.shape("polyline", { class: line, points: points.join(" "), "data-line": method });
    });
    const dots = Object.keys(LINES).map((method) =>
      Widgets.shape("circle", { class: "widget-dot-b", cx: x(b), cy: y(here[method]), r: 2.5, "data-dot": method }));
    picture.replaceChildren(...scale, ...below, name, home, ...curves, ...dots);
  }

  function summary(trained, b, gain) {
    if (Math.abs(gain) < 5e-4) return "Here it makes no difference whether one listens to B.";
    if (gain < 0) return "Here one does better without B: the product still trusts it as much as it did in training.";
    if (b > trained) return "B is worse than in training, and still worth listening to.";
    return "The product is better than A alone.";
  }

  function update(live, { a, trained, b }) {
    for (const [name, value] of Object.entries({ a, trained, b })) Widgets.show(live, name, value, (value / 10).toFixed(1));
    const found = scores(a / 10, trained / 10, b / 10);
    const gain = found.product - found.without;
    const home = scores(a / 10, trained / 10, trained / 10);
    const share = gain / (home.product - home.without);
    for (const [name, value] of Object.entries({ ...found, gain, share })) {
      Widgets.show(live, name, value, value.toFixed(3).replace("-", "−"));
    }
    Widgets.show(live, "crossing", crossing(a / 10, trained / 10), crossing(a / 10, trained / 10).toFixed(2));
    const picture = live.querySelector("svg");
    draw(picture, a, trained, b);
    const [product, without, alone] = ["product", "without", "alone"].map((name) => found[name].toFixed(3));
    picture.setAttribute("aria-label", `Accuracy against the noise in B. At noise ${(b / 10).toFixed(1)}, the product has ` +
      `${product}, A alone ${without} and B alone ${alone}. The product falls below A alone at noise ` +
      `${crossing(a / 10, trained / 10).toFixed(2)}.`);
    return summary(trained, b, gain);
  }

  if (typeof document !== "undefined") Widgets.start("robustness-curve", update);
  return Object.freeze({ normal, scores, crossing });
})();
