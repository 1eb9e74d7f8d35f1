/** What two noisy bits tell about the answer of a gate, taken apart as mmtutor.information.pid(joint, "imin") does. */
globalThis.WidgetGateInformation = (() => {
  "use strict";

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  /** Gate → its answer to two bits, and how many bits the answer has. */
  const GATES = {
    XOR: { bits: 1, answer: (a, b) => a ^ b },
    AND: { bits: 1, answer: (a, b) => a & b },
    OR: { bits: 1, answer: (a, b) => a | b },
    COPY: { bits: 2, answer: (a, b) => 2 * a + b },
    UNIQUE: { bits: 1, answer: (a) => a },
  };

  /** p[x1][x2][y] for independent bits with P(x1 = 1) = one, P(x2 = 1) = two; each bit of y is flipped with P = flip. */
  function joint(gate, one, two, flip) {
    const { bits, answer } = GATES[gate];
    const flipped = (wrong) => (wrong ? flip : 1 - flip);
    return [1 - one, one].map((first, a) => [1 - two, two].map((second, b) =>
      Array.from({ length: 2 ** bits }, (_, y) => {
        const wrong = y ^ answer(a, b);
        return first * second * flipped(wrong & 1) * (bits === 2 ? flipped(wrong >> 1) : 1);
      })));
  }

  /** For each y, what the rows of p[x][y] tell about it: the sum over x of p(x, y) ln( p(x, y) / p(x) p(y) ). */
  function said(p) {
    const rows = p.map(sum);
    return p[0].map((_, y) => {
      const column = sum(p.map((row) => row[y]));
      return sum(p.map((row, x) => (row[y] > 0 ? row[y] * Math.log(row[y] / rows[x] / column) : 0)));
    });
  }

  /** The four parts in nats; none is below 0 but for rounding. */
  function pid(p) {
    const add = (rows) => rows[0].map((_, y) => sum(rows.map((row) => row[y])));
    const byFirst = said(p.map(add));
    const bySecond = said([0, 1].map((b) => add(p.map((rows) => rows[b]))));
    const [first, second, both] = [byFirst, bySecond, said(p.flat())].map((parts) => Math.max(sum(parts), 0));
    const redundant = sum(byFirst.map((value, y) => Math.min(value, bySecond[y])));
    const parts = {
      redundant, unique1: first - redundant, unique2: second - redundant, synergy: both - first - second + redundant,
    };
    return Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, Math.max(value, 0)]));
  }

  /** The uncertainty about y before anybody looks, in nats. */
  function entropy(p) {
    const y = p[0][0].map((_, k) => sum(p.flat().map((row) => row[k])));
    return -sum(y.map((value) => (value > 0 ? value * Math.log(value) : 0)));
  }

  const WORDS = { redundant: "redundancy", unique1: "unique 1", unique2: "unique 2", synergy: "synergy" };

  function summary(gate, parts) {
    const most = Math.max(...Object.values(parts));
    if (most < 1e-9) return `${gate}: both sources together tell nothing about Y.`;
    const largest = Object.keys(parts).filter((name) => parts[name] > most - 1e-9).map((name) => WORDS[name]);
    if (largest.length > 1) return `${gate}: the largest parts, equal in size, are ${Widgets.listed(largest)}.`;
    const alone = Object.values(parts).filter((value) => value > 1e-9).length === 1;
    return alone ? `${gate}: all information is ${largest[0]}.` : `${gate}: the largest part is ${largest[0]}.`;
  }

  function update(live, { gate, one, two, flip }) {
    for (const [name, value] of Object.entries({ one, two, flip })) Widgets.show(live, name, value, `${value} %`);
    const p = joint(gate, one / 100, two / 100, flip / 100);
    const parts = pid(p);
    const whole = entropy(p);
    const told = sum(Object.values(parts));
    for (const [name, value] of Object.entries({ ...parts, told, whole })) {
      Widgets.show(live, name, value, value.toFixed(3));
      const stretch = live.querySelector(`[data-part="${name}"]`);
      if (!stretch) continue;
      stretch.hidden = value < 1e-9; // else its border would still be seen
      stretch.style.width = `${(100 * value) / whole}%`;
    }
    const shares = Object.entries(parts).map(([name, value]) => `${WORDS[name]} ${value.toFixed(3)}`);
    const label = `Of ${whole.toFixed(3)} nats of uncertainty about Y: ${Widgets.listed(shares)}`;
    live.querySelector(".widget-stack").setAttribute("aria-label", label);
    return summary(gate, parts);
  }

  if (typeof document !== "undefined") Widgets.start("gate-information", update);
  return Object.freeze({ joint, pid, entropy });
})();
