// Marks an opened choice as right or not, and counts the questions answered right at the first try. Stores nothing.
// Which choice is right the page says itself: mmbook/ext/quiz_assets.py gives its fold the attribute data-right.
(() => {
  const section = document.querySelector("section.quiz");
  if (!section) return;
  const questions = [];
  for (const part of section.children) {
    if (part.tagName === "P" && /^\d+[.．、]/.test(part.textContent) && part.querySelector("strong")) questions.push([]);
    else if (part.tagName === "DETAILS" && questions.length) questions.at(-1).push(part);
  }
  const asked = questions.filter((choices) => choices.length);
  if (!asked.length) return;
  const count = document.createElement("p");
  count.className = "quiz-count";
  count.setAttribute("aria-live", "polite");
  asked.at(-1).at(-1).after(count);
  let answered = 0;
  let right = 0;
  for (const choices of asked) {
    let first = true;
    for (const choice of choices) {
      const good = choice.hasAttribute("data-right");
      let marked = false;
      choice.addEventListener("toggle", () => {
        if (marked || !choice.open) return;
        marked = true;
        const mark = document.createElement("span");
        mark.className = "quiz-mark";
        mark.dataset.right = good;
        mark.textContent = good ? " ✓ right" : " ✗ not this";
        choice.querySelector("summary").append(mark);
        if (!first) return;
        first = false;
        answered += 1;
        right += good;
        count.textContent =
          `${right} of ${answered} answered right at the first try` +
          (answered < asked.length ? `; ${asked.length - answered} to go.` : ".");
      });
    }
  }
})();
