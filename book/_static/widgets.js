/** What all widgets share: they read their fields, write their numbers, and take the place of their fallback. */
globalThis.Widgets = (() => {
  "use strict";

  /** Words joined as in a sentence. */
  const listed = (words) => [words.slice(0, -1).join(", "), words.at(-1)].filter(Boolean).join(" and ");

  /** Name → what every field says: the number of a slider, whether a box is ticked, the value of the chosen button. */
  function fields(live) {
    const read = {};
    for (const field of live.querySelectorAll("input")) {
      if (field.type === "range") read[field.name] = Number(field.value);
      else if (field.type === "checkbox") read[field.name] = field.checked;
      else if (field.checked) read[field.dataset.field] = field.value;
    }
    return read;
  }

  /** Show `text` where `name` is shown, keep all digits of `value`, and let a slider of that name say it, too. */
  function show(live, name, value, text = String(value)) {
    const place = live.querySelector(`[data-shows="${name}"]`);
    place.dataset.value = String(value);
    place.textContent = text;
    live.querySelector(`input[type="range"][name="${name}"]`)?.setAttribute("aria-valuetext", text);
    return place;
  }

  /** An element of a picture, with `text` in it where it is given. */
  function shape(tag, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  }

  /**
   * Bring all widgets called `name` to life. update(live, fields) writes what they show and returns one sentence;
   * prepare(live, refresh), where given, sets up what is more than fields.
   */
  function start(name, update, prepare = () => {}) {
    for (const root of document.querySelectorAll(`.widget[data-widget="${name}"]`)) {
      const live = root.querySelector(".widget-live");
      const summary = live.querySelector(".widget-summary");
      const refresh = () => {
        const sentence = update(live, fields(live));
        if (summary.textContent !== sentence) summary.textContent = sentence; // said aloud only when it changes
      };
      live.addEventListener("input", refresh);
      prepare(live, refresh);
      refresh();
      live.hidden = false;
      root.querySelector(".widget-fallback").hidden = true;
    }
  }

  return Object.freeze({ listed, shape, show, start });
})();
