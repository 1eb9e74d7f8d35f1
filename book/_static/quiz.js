// Marks an opened choice as right or not, and counts the questions answered right at the first try. Stores nothing.
// Which choice is right is read off its feedback, which begins with "Right" (mmbook/laws/quiz.py sees to it).
(() => {
  const section = document.getElementById("quiz");
  if (!section) return;
  const questions = [];
  for (const part of section.children) {
    if (part.tagName === "P" && /^\d+\. /.test(part.textContent) && part.querySelector("strong")) questions.push([]);
    else if (part.tagName === "DETAILS" && questions.length) questions.at(-1).push(part);
  }
  const asked = questions.filter((choices) => choices.length);
  if (!asked.length) return;
  const count = document.createElement("p");
  count.className = "quiz-count";
  count.setAttribute("aria-live", "polite");
  asked.at(-1).at(-1).after(count);
  const isRight = (choice) =>
    /^Right\b/.test(choice.textContent.slice(choice.querySelector("summary").textContent.length).trim());
  let answered = 0;
  let right = 0;
  for (const choices of asked) {
    let first = true;
    for (const choice of choices) {
      const good = isRight(choice);
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
