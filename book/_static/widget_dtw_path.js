/** The cheapest path between a short signal and its bent copy, as mmtutor.alignment.dtw finds it. */
globalThis.WidgetDtwPath = (() => {
  "use strict";

  /** Two words with silence around them. Whole numbers: sums are exact, so equally cheap paths are really equal. */
  const A = [0, 0, 15, 50, 90, 70, 30, 5, 0, 0, -20, -60, -40, 10, 55, 80, 60, 35, 10, 0, 0, 0, 0, 0];
  const PAUSE_AT = 9; // the silence between the words

  /** A, `shift` samples late, slowed down to `stretch` percent of its length, `pause` samples longer silent between. */
  function bent(shift, stretch, pause) {
    return A.map((_, s) => {
      const own = (late) => ((s - late) * 100) / stretch;
      const t = own(shift) <= PAUSE_AT ? own(shift) : Math.max(PAUSE_AT, own(shift + pause));
      if (t <= 0) return A[0];
      if (t >= A.length - 1) return A.at(-1);
      const i = Math.floor(t);
      return Math.floor(A[i] + (t - i) * (A[i + 1] - A[i]) + 0.5);
    });
  }

  const distances = (a, b) => a.map((x) => b.map((y) => Math.abs(x - y)));

  /** Path and total for a matrix of costs. Ties: read from the end, step (1, 1) where possible, else (1, 0). */
  function dtw(cost) {
    const [rows, columns] = [cost.length, cost[0].length];
    const total = Array.from({ length: rows + 1 }, () => Array(columns + 1).fill(Infinity));
    total[0][0] = 0;
    cost.forEach((row, i) => row.forEach((value, j) => {
      total[i + 1][j + 1] = value + Math.min(total[i][j + 1], total[i + 1][j], total[i][j]);
    }));
    let [i, j] = [rows, columns];
    const path = [[i - 1, j - 1]];
    while (i > 1 || j > 1) {
      const [corner, above, left] = [total[i - 1][j - 1], total[i - 1][j], total[i][j - 1]];
      if (corner <= above && corner <= left) [i, j] = [i - 1, j - 1];
      else if (above <= left) i -= 1;
      else j -= 1;
      path.unshift([i - 1, j - 1]);
    }
    return { path, total: total[rows][columns] };
  }

  const place = (signal, base) => signal.map((value, k) => [22 + 11.5 * k, base - 0.4 * value]);

  /** Draw A above, B below, and a line for each cell of the path, dashed where it costs something. */
  function draw(picture, a, b, path) {
    const [above, below] = [place(a, 46), place(b, 150)];
    const links = path.map(([i, j]) => Widgets.shape("line", {
      class: a[i] === b[j] ? "widget-link" : "widget-link widget-paid",
      x1: above[i][0], y1: above[i][1], x2: below[j][0], y2: below[j][1], "data-i": i, "data-j": j,
    }));
    const curve = (points, line, dot) => [ // classes in full: slimming the style sheet looks for them
      Widgets.shape("polyline", { class: line, points: points.join(" ") }),
      ...points.map(([cx, cy]) => Widgets.shape("circle", { class: dot, cx, cy, r: 2 })),
    ];
    const curves = [
      ...curve(above, "widget-curve widget-curve-a", "widget-dot-a"),
      ...curve(below, "widget-curve widget-curve-b", "widget-dot-b"),
    ];
    const names = [["A", above], ["B", below]].map(([letter, points]) =>
      Widgets.shape("text", { class: "widget-letter-of-curve", x: 4, y: points[0][1] + 4 }, letter));
    picture.replaceChildren(...links, ...curves, ...names);
  }

  function summary(straight, total) {
    if (straight === 0) return "The signals are equal: every sample is joined with its twin.";
    if (total === 0) return "Bending time removes all of the difference.";
    return `Bending time removes ${Math.floor(100 * (1 - total / straight))} % of the difference.`;
  }

  function update(live, { shift, stretch, pause }) {
    Widgets.show(live, "shift", shift);
    Widgets.show(live, "stretch", stretch, `${stretch} %`);
    Widgets.show(live, "pause", pause);
    const b = bent(shift, stretch, pause);
    const cost = distances(A, b);
    const { path, total } = dtw(cost);
    const straight = A.reduce((sum, _, k) => sum + cost[k][k], 0);
    const meet = Math.max(...A.map((_, i) => path.filter((cell) => cell[0] === i).length));
    for (const [name, value] of Object.entries({ straight, total, links: path.length, meet })) {
      Widgets.show(live, name, value);
    }
    const picture = live.querySelector("svg");
    draw(picture, A, b, path);
    picture.setAttribute("aria-label", `Two curves of ${A.length} samples, A above and B below, joined by ` +
      `${path.length} links, of which up to ${meet} meet in one sample of A.`);
    return summary(straight, total);
  }

  if (typeof document !== "undefined") Widgets.start("dtw-path", update);
  return Object.freeze({ A: Object.freeze(A), bent, distances, dtw });
})();
