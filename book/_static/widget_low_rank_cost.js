/** How many parameters three joins have, each with what leads to the outputs; see mmtutor.fusion.feature. */
globalThis.WidgetLowRankCost = (() => {
  "use strict";

  /** A linear layer with a bias on all features side by side. */
  const concat = (modalities, features, outputs) => modalities * features * outputs + outputs;

  /** A linear layer without a bias on all products of [1; x]: that of the ones alone is the bias. */
  const tensor = (modalities, features, outputs) => (features + 1) ** modalities * outputs;

  /** `rank` times `outputs` learnt mixtures of each [1; x]. */
  const lowRank = (modalities, features, outputs, rank) => modalities * (features + 1) * rank * outputs;

  /** The lowest rank at which low rank has at least as many parameters as the tensor. */
  const limit = (modalities, features) => Math.ceil((features + 1) ** (modalities - 1) / modalities);

  const MOST = 10; // bars end at 10 to this power; no slider leads there
  const grouped = (count) => count.toLocaleString("en");

  function update(live, { modalities, features, outputs, rank }) {
    for (const [name, value] of Object.entries({ modalities, features, outputs, rank })) Widgets.show(live, name, value);
    const sizes = [modalities, features, outputs];
    const counts = { concat: concat(...sizes), tensor: tensor(...sizes), lowRank: lowRank(...sizes, rank) };
    for (const [name, count] of Object.entries(counts)) {
      const bar = document.createElement("span");
      bar.className = "widget-bar";
      bar.style.width = `${(100 / MOST) * Math.log10(count)}%`;
      Widgets.show(live, name, count, grouped(count)).append(bar);
    }
    const end = limit(modalities, features);
    Widgets.show(live, "limit", end, grouped(end));
    if (rank < end) return `At rank ${rank}, low rank has fewer parameters than the tensor.`;
    const how = counts.lowRank === counts.tensor ? "as many" : "more";
    return `At rank ${rank}, low rank has ${how} parameters ${how === "more" ? "than" : "as"} the tensor.`;
  }

  if (typeof document !== "undefined") Widgets.start("low-rank-cost", update);
  return Object.freeze({ concat, tensor, lowRank, limit });
})();
