// Lays the slides out, then starts reveal.js. What does not fit on a slide goes on on a new one of the same title: list
// items, halves of a table or of code and its output, else whole blocks. What cannot be cut is made smaller.
const WIDTH = 1280, HEIGHT = 690, TABLE = 500; // px: of what stands on a slide, of a table at most
const LETTERS = [22, 16, 12]; // px in a table: the largest, the smallest, the smallest where rows cannot be parted

const isFull = slide => slide.scrollHeight > HEIGHT;
const hasSpans = table => table.querySelector("tbody [rowspan]");

function pieces(block, isAlone) {
  if (block.matches("ul, ol:not(.choices)") || (isAlone && block.matches(".code"))) return [...block.children];
  return isAlone && block.matches("table") && !hasSpans(block) ? [...block.tBodies[0].rows] : [];
}

function fitTable(table) {
  const smallest = LETTERS[hasSpans(table) ? 2 : 1];
  let size = LETTERS[0];
  do table.style.fontSize = `${size}px`; while (table.offsetHeight > TABLE && size-- > smallest);
}

function emptied(block) {
  const rest = block.cloneNode(block.matches("table"));
  if (rest.tBodies) rest.tBodies[0].replaceChildren();
  return rest;
}

function goOn(slide) {
  slide.querySelectorAll("table").forEach(fitTable);
  const next = slide.cloneNode(false);
  next.append(slide.firstElementChild.cloneNode(true));
  for (let cut, rest; isFull(slide);) {
    const isAlone = slide.children.length === 2, block = slide.lastElementChild, parts = pieces(block, isAlone);
    if (parts.length > 1) {
      if (cut !== block) next.firstElementChild.after(rest = emptied(cut = block));
      const kept = block.matches("table") ? Math.ceil(parts.length / 2) : parts.length - 1;
      if (block.start) rest.start = block.start + kept;
      (rest.tBodies?.[0] ?? rest).prepend(...parts.slice(kept));
      slide.querySelectorAll("table").forEach(fitTable);
    } else if (!isAlone) next.firstElementChild.after(block);
    else {
      const zoom = HEIGHT / slide.scrollHeight;
      Object.assign(slide.style, { zoom, width: `${WIDTH / zoom}px`, height: `${HEIGHT / zoom}px` });
      break;
    }
  }
  if (next.children.length === 1) return;
  slide.parentElement.after(document.createElement("section"));
  slide.parentElement.nextElementSibling.append(next);
  goOn(next);
}

document.body.classList.add("measured");
document.body.getBoundingClientRect(); // lays out what is shown now, so that its fonts are asked for
document.fonts.ready.then(() => {
  for (const formula of document.querySelectorAll(".slide > .math"))
    formula.style.fontSize = `${Math.min(1, formula.clientWidth / formula.scrollWidth)}em`;
  document.querySelectorAll(".slide").forEach(goOn);
  document.body.classList.remove("measured");
  Reveal.initialize({
    width: WIDTH, height: HEIGHT + 30, margin: 0.02, center: false, hash: true, transition: "none", slideNumber: "c/t",
    scrollActivationWidth: null, // slides on a phone too, not the long page that reveal.js makes of them
    plugins: [RevealNotes],
  });
});
