/**
 * The decision rules of mmtutor.fusion.decision for one sample, and the widget that shows them while sliders move.
 *
 * Arguments are arrays in one order of modalities: probs[m][c], rows sum to 1; present[m] (left out: everybody is
 * there). A measure is an array over sets of modalities: bit m of the index says whether m belongs to the set.
 * Absentees, vetoes, total conflict and ties end as they do in the package; tests/book/test_widget_decision_rules.py compares.
 */
globalThis.WidgetDecisionRules = (() => {
  "use strict";

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const column = (rows, c) => rows.map((row) => row[c]);
  const everybody = (probs) => probs.map(() => true);
  const overClasses = (probs, score) => probs[0].map((_, c) => score(c));

  /** Scores ≥ 0 divided by their sum; uniform where the sum is 0. */
  function normalised(scores) {
    const total = sum(scores);
    return scores.map((score) => (total > 0 ? score / total : 1 / scores.length));
  }

  /** Throw a RangeError unless every value lies in [0, top]. */
  function check(values, what, top) {
    if (!values.every((value) => value >= 0 && value <= top && value < Infinity)) {
      throw new RangeError(`${what} ${values} outside 0 to ${top}`);
    }
  }

  // ---- votes ----

  /** The mean opinion of those who are there. */
  function average(probs, present = everybody(probs)) {
    return weightedVote(probs, probs.map(() => 1), present);
  }

  /** The weighted mean opinion of those who are there. Throws where every weight is 0. */
  function weightedVote(probs, weights, present = everybody(probs)) {
    check(weights, "weights", Infinity);
    const most = Math.max(...weights);
    if (most === 0) throw new RangeError("every weight is zero");
    const part = (m, c) => (present[m] ? (weights[m] / most) * probs[m][c] : 0);
    return normalised(overClasses(probs, (c) => sum(probs.map((_, m) => part(m, c)))));
  }

  /** The classes that share the most votes: one unless the vote is tied. */
  function leaders(shares) {
    const most = Math.max(...shares);
    return shares.map((share) => share > most - 1e-4); // sums of thirds differ by rounding
  }

  /** The share of favourites; k equal favourites get 1/k each. Of tied classes the one of highest mean is lifted. */
  function majorityVote(probs, present = everybody(probs)) {
    const ballots = probs.map((p, m) => {
      const best = p.map((x) => present[m] && x === Math.max(...p));
      return best.map((favourite) => (favourite ? 1 / best.filter(Boolean).length : 0));
    });
    const shares = normalised(overClasses(probs, (c) => sum(column(ballots, c))));
    const ahead = leaders(shares);
    if (!present.some(Boolean) || ahead.filter(Boolean).length < 2) return normalised(shares);
    const support = ahead.map((yes, c) => (yes ? sum(probs.map((p, m) => (present[m] ? p[c] : 0))) : -1));
    const most = Math.max(...support) - 16 * Number.EPSILON * probs.length; // equal means differ by rounding, too
    const winner = support.findIndex((value) => value > most);
    return normalised(shares.map((share, c) => (c === winner ? share + 2 * Number.EPSILON : share)));
  }

  // ---- evidence ----

  /** Sums of logarithms of the factors above 0, and how many factors are 0, class by class. */
  function logProduct(factors, present) {
    const there = factors.filter((_, m) => present[m]);
    return {
      log: overClasses(factors, (c) => sum(column(there, c).map((x) => (x > 0 ? Math.log(x) : 0)))),
      vetoes: overClasses(factors, (c) => column(there, c).filter((x) => x === 0).length),
    };
  }

  /** The logarithms, -∞ for each class with more vetoes than the class with the fewest. */
  function survivors(log, vetoes) {
    return log.map((value, c) => (vetoes[c] > Math.min(...vetoes) ? -Infinity : value));
  }

  /** p(c) ∝ Π p_m(c) / prior(c)^(M-1) over the M present. */
  function productRule(probs, present = everybody(probs), prior = probs[0].map(() => 1 / probs[0].length)) {
    const { log, vetoes } = logProduct(probs, present);
    const extra = present.filter(Boolean).length - 1;
    const weighed = log.map((value, c) => value - extra * Math.log(prior[c] > 0 ? prior[c] : 1));
    const left = survivors(weighed, vetoes.map((n, c) => n + (prior[c] === 0 ? probs.length + 1 : 0)));
    return normalised(left.map((value) => Math.exp(value - Math.max(...left))));
  }

  /**
   * The masses that Dempster's rule leaves on single classes and on the frame, up to a common factor, and that factor.
   * A single mass is Π (r p + 1 - r) - Π (1 - r), through expm1: a difference of two numbers near 1 has no digits.
   */
  function masses(probs, reliability, present) {
    check(reliability, "reliability", 1);
    const plausible = probs.map((p, m) => p.map((x) => reliability[m] * x + (1 - reliability[m])));
    const { log, vetoes } = logProduct(plausible, present);
    const trusted = reliability.filter((_, m) => present[m]);
    const opinions = probs.filter((_, m) => present[m]);
    const frame = sum(trusted.map((r) => Math.log(1 - r)));
    const certain = trusted.some((r) => r >= 1);
    const left = survivors(log, vetoes);
    const highest = Math.max(...left);
    const single = left.map((value, c) => {
      const gain = certain ? Infinity : sum(opinions.map((p, i) => Math.log1p((trusted[i] / (1 - trusted[i])) * p[c])));
      return Math.exp(value - highest) * -Math.expm1(-gain);
    });
    const factor = Math.min(...vetoes) > 0 ? 0 : Math.exp(highest); // vetoed everywhere: nothing is kept
    return { single, frame: Math.exp(frame - highest), factor };
  }

  /** Dempster's rule on m({c}) = r p(c), m(frame) = 1 - r, then the frame's mass shared equally. */
  function dempsterShafer(probs, reliability, present = everybody(probs)) {
    const { single, frame } = masses(probs, reliability, present);
    const total = sum(single) + frame;
    return single.map((mass) => (mass + frame / single.length) / total);
  }

  /** The mass that Dempster's rule throws away, from 0 to 1. */
  function conflict(probs, reliability, present = everybody(probs)) {
    const { single, frame, factor } = masses(probs, reliability, present);
    return Math.min(Math.max(1 - (sum(single) + frame) * factor, 0), 1);
  }

  // ---- fuzzy integrals ----

  const logWorth = (lambda, densities) => sum(densities.map((g) => Math.log1p(lambda * g)));

  /** Where `rises` turns from false to true between low and high, to the last digit. */
  function bisect(low, high, rises) {
    for (;;) {
      const middle = low + (high - low) / 2;
      if (middle <= low || middle >= high) return high;
      if (rises(middle)) high = middle;
      else low = middle;
    }
  }

  /** λ ≥ -1 with Π (1 + λ g) = 1 + λ. Throws where no λ lifts the whole to worth 1. */
  function sugenoLambda(densities) {
    check(densities, "densities", 1);
    const g = densities.filter((density) => density > 0);
    if (!g.length || (g.length === 1 && g[0] < 1 - 1e-9)) throw new RangeError("densities admit no λ-measure");
    const surplus = sum(g) - 1;
    if (g.length === 1 || Math.abs(surplus) < 1e-12) return 0;
    if (Math.max(...g) === 1) return -1;
    const excess = (lambda) => logWorth(lambda, g) - Math.log1p(lambda);
    if (surplus < 0) { // λ > 0, over hundreds of orders of magnitude: search for its logarithm
      let high = 2;
      while (excess(Math.exp(high)) < 0) {
        high *= 2;
        if (high > 700) throw new RangeError("densities are too near 0: λ exceeds the largest number");
      }
      return Math.exp(bisect(Math.log(-surplus) - 1, high, (t) => excess(Math.exp(t)) >= 0));
    }
    return bisect(-1, -Math.min(surplus, 1e-3) * 1e-3, (lambda) => excess(lambda) <= 0);
  }

  /** μ(A) = (Π (1 + λ g) - 1) / λ for every set A of modalities. */
  function lambdaMeasure(densities) {
    const lambda = sugenoLambda(densities);
    const whole = 2 ** densities.length - 1;
    return Array.from({ length: whole + 1 }, (_, set) => {
      if (set === 0 || set === whole) return set ? 1 : 0;
      const g = densities.filter((_, m) => (set >> m) & 1);
      const worth = lambda === 0 ? sum(g) : Math.expm1(logWorth(lambda, g)) / lambda;
      return Math.min(Math.max(worth, ...g), 1);
    });
  }

  /** For one class: p from high to low, absentees last as 0, and the worth of the first one, two, ... of them. */
  function coalitions(probs, measure, present, c) {
    const p = probs.map((row, m) => (present[m] ? row[c] : -1)); // below every probability, hence last
    const order = p.map((_, m) => m).sort((a, b) => p[b] - p[a]);
    const total = measure[sum(present.map((yes, m) => (yes ? 2 ** m : 0)))];
    let set = 0;
    const worth = order.map((m) => {
      set += 2 ** m;
      return total > 0 ? Math.min(measure[set] / total, 1) : 0;
    });
    return { ordered: order.map((m) => Math.max(p[m], 0)), worth };
  }

  /** s(c) = Σ_i (p_(i) - p_(i+1)) μ(A_i), normalised. */
  function choquet(probs, measure, present = everybody(probs)) {
    return normalised(overClasses(probs, (c) => {
      const { ordered, worth } = coalitions(probs, measure, present, c);
      return sum(ordered.map((x, i) => (x - (ordered[i + 1] ?? 0)) * worth[i]));
    }));
  }

  /** s(c) = max_i min(p_(i), μ(A_i)), normalised. */
  function sugeno(probs, measure, present = everybody(probs)) {
    return normalised(overClasses(probs, (c) => {
      const { ordered, worth } = coalitions(probs, measure, present, c);
      return Math.max(...ordered.map((x, i) => Math.min(x, worth[i])));
    }));
  }

  // ---- fuzzy rules ----

  /** How far each modality is trusted: fully if sure, not if another is sure instead, by half if nobody is. */
  function trust(probs, present = everybody(probs)) {
    const chance = 1 / probs[0].length;
    const sure = probs.map((p, m) => {
      const certainty = (Math.max(...p) - chance) / Math.max(1 - chance, 1e-12);
      return present[m] ? Math.min(Math.max((certainty - 0.2) / (0.6 - 0.2), 0), 1) : 0;
    });
    return sure.map((full, m) => {
      if (!present[m]) return 0;
      const other = Math.max(0, ...sure.filter((_, n) => n !== m));
      const none = Math.min(1 - full, other);
      const half = Math.min(1 - full, 1 - other);
      return (full + 0.5 * half) / (full + none + half);
    });
  }

  /** The mean opinion, weighed by trust. */
  function fuzzyRules(probs, present = everybody(probs)) {
    const t = trust(probs, present);
    return normalised(overClasses(probs, (c) => sum(probs.map((p, m) => (present[m] ? t[m] * p[c] : 0)))));
  }

  // ---- the widget ----

  const MODALITIES = ["image", "text", "audio"];
  const CLASSES = ["A", "B", "C"];
  /** For each modality: how far it favours A, B and C, its reliability, and whether it is there. */
  const PRESETS = {
    agree: [[70, 20, 10, 80, true], [60, 25, 15, 70, true], [55, 25, 20, 50, true]],
    dissent: [[55, 35, 10, 80, true], [50, 35, 15, 70, true], [4, 92, 4, 25, true]],
    conflict: [[99, 1, 0, 100, true], [0, 1, 99, 100, true], [50, 50, 50, 50, false]], // Zadeh's two doctors
    copies: [[70, 20, 10, 80, true], [70, 20, 10, 80, true], [50, 50, 50, 50, false]],
    absent: [[55, 35, 10, 70, true], [30, 60, 10, 60, true], [10, 80, 10, 80, false]],
  };
  /** Rule → its answer to what the reader set. Choquet and Sugeno share the λ-measure of the reliabilities. */
  const ANSWERS = {
    average: (probs, r, present) => average(probs, present),
    weightedVote,
    majorityVote: (probs, r, present) => majorityVote(probs, present),
    productRule: (probs, r, present) => productRule(probs, present),
    dempsterShafer,
    choquet: (probs, r, present) => choquet(probs, lambdaMeasure(r), present),
    sugeno: (probs, r, present) => sugeno(probs, lambdaMeasure(r), present),
    fuzzyRules: (probs, r, present) => fuzzyRules(probs, present),
  };
  const NO_MEASURE =
    "No answer: these densities admit no λ-measure. It takes two above zero, or one of a hundred percent.";
  const NO_ANSWER = { weightedVote: "No answer: every weight is zero.", choquet: NO_MEASURE, sugeno: NO_MEASURE };

  /** The classes with the highest probability; sums that differ by rounding only count as equal. */
  const winners = (p) => CLASSES.filter((_, c) => p[c] > Math.max(...p) - 1e-9);

  /** Where the majority vote is tied it answers by less than can be seen: the class that comes first is the answer. */
  function answered(rule, p, present) {
    const decided = rule === "majorityVote" && present.some(Boolean);
    return decided ? [CLASSES[p.indexOf(Math.max(...p))]] : winners(p);
  }

  /** What a rule says, in words for its row. */
  function verdict(rule, p, present) {
    const best = answered(rule, p, present);
    if (best.length > 1) return `tie: ${Widgets.listed(best)}`;
    const level = winners(p).filter((c) => c !== best[0]);
    return level.length ? `${best[0]} (votes tied with ${Widgets.listed(level)})` : best[0];
  }

  /** A rule's name inside a sentence: names of persons keep their capital. */
  const inSentence = (name) => (/^(Dempster|Choquet|Sugeno)/.test(name) ? name : name[0].toLowerCase() + name.slice(1));

  /** Who agrees on what, in one sentence. groups: classes answered ("" for none, "AC" for a tie) → names of rules. */
  function summary(groups) {
    const say = (rules, classes, many) => {
      if (!classes) return `${rules} ${many ? "have" : "has"} no answer`;
      if (classes.length > 1) return `${rules} ${many ? "see" : "sees"} a tie of ${Widgets.listed([...classes])}`;
      return `${rules} ${many ? "answer" : "answers"} ${classes}`;
    };
    const sentence = [...groups].map(([classes, names]) => {
      const rules = groups.size === 1 ? "all rules" : Widgets.listed(names.map(inSentence));
      return say(rules, classes, names.length > 1);
    }).join("; ");
    return `${sentence[0].toUpperCase()}${sentence.slice(1)}.`;
  }

  /** A table cell with a probability and a bar of its length. */
  function cell(value) {
    const td = document.createElement("td");
    td.dataset.value = String(value);
    td.textContent = value.toFixed(3);
    const bar = document.createElement("span");
    bar.className = "rules-bar";
    bar.style.width = `${100 * value}%`;
    td.append(bar);
    return td;
  }

  /** Write one rule's row; return the classes it answers with, or nothing. */
  function fill(row, probs, reliability, present) {
    const rule = row.dataset.rule;
    const last = document.createElement("td");
    let p = null;
    try {
      p = ANSWERS[rule](probs, reliability, present);
    } catch (error) {
      if (!(error instanceof RangeError) || !(rule in NO_ANSWER)) throw error;
      last.colSpan = CLASSES.length + 1;
      last.textContent = NO_ANSWER[rule];
    }
    row.replaceChildren(row.firstElementChild, ...(p ?? []).map(cell), last);
    if (!p) return "";
    last.textContent = verdict(rule, p, present);
    const best = answered(rule, p, present);
    best.forEach((c) => row.children[1 + CLASSES.indexOf(c)].classList.add("rules-best"));
    return best.join("");
  }

  const slider = (live, modality, what) => live.querySelector(`[name="${modality}-${what}"]`);

  /** Ask every rule about what the fields say, write the answers, and return the sentence about them. */
  function update(live, fields) {
    const probs = MODALITIES.map((m) => normalised(CLASSES.map((c) => fields[`${m}-${c}`])));
    const reliability = MODALITIES.map((m) => fields[`${m}-reliability`] / 100);
    const present = MODALITIES.map((m) => fields[`${m}-present`]);
    MODALITIES.forEach((modality, m) => {
      CLASSES.forEach((c, k) => {
        const shown = Widgets.show(live, `${modality}-${c}`, probs[m][k], probs[m][k].toFixed(3)).textContent;
        slider(live, modality, c).setAttribute("aria-valuetext", `${fields[`${modality}-${c}`]}, probability ${shown}`);
      });
      Widgets.show(live, `${modality}-reliability`, reliability[m], `${fields[`${modality}-reliability`]} %`);
    });
    const groups = new Map();
    for (const row of live.querySelectorAll("[data-rule]")) {
      const said = fill(row, probs, reliability, present);
      groups.set(said, [...(groups.get(said) ?? []), row.firstElementChild.textContent]);
    }
    const lost = conflict(probs, reliability, present);
    Widgets.show(live, "conflict", lost, lost.toFixed(4));
    return summary(groups);
  }

  /** Set every field as an example has it. */
  function apply(live, preset) {
    MODALITIES.forEach((modality, m) => {
      const [a, b, c, reliability, there] = PRESETS[preset][m];
      [a, b, c].forEach((value, k) => { slider(live, modality, CLASSES[k]).value = value; });
      slider(live, modality, "reliability").value = reliability;
      slider(live, modality, "present").checked = there;
    });
  }

  /** Start with an example, and let the buttons set the others. */
  function prepare(live, refresh) {
    apply(live, "dissent");
    live.addEventListener("click", (event) => {
      const button = event.target.closest("[data-preset]");
      if (!button) return;
      apply(live, button.dataset.preset);
      refresh();
    });
  }

  if (typeof document !== "undefined") Widgets.start("decision-rules", update, prepare);
  return Object.freeze({
    average, weightedVote, majorityVote, productRule, dempsterShafer, conflict, sugenoLambda, lambdaMeasure, choquet,
    sugeno, trust, fuzzyRules,
  });
})();
