"use strict";
// Whatever comes from a model or a row is set with textContent: none of it can become a part of the page.

const at = (id) => document.getElementById(id);
const NAMES = { text: "text", image: "picture", audio: "sound", numbers: "numbers", categories: "categories" };
const DECISIONS = {
  balanced: "The label is the class for which the row speaks most beyond that class’s share, so that rare classes "
    + "count as much as common ones. It need not be the most probable one.",
  likeliest: "The label is the most probable class.",
};
const files = { image: null, audio: null }; // { file, data }: data is its base64, null until it is read
let model = null; // what /model told
let asked = 0; // requests sent: an answer that was overtaken is dropped
let whole = null; // the answer to the row with nothing left out, and that row

const element = (tag, kind, text) => {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
};
const made = (tag, properties, ...children) => {
  const it = Object.assign(document.createElement(tag), properties);
  it.append(...children);
  return it;
};
const bdi = (text) => element("bdi", "", text); // names may run from right to left
const capital = (word) => word[0].toUpperCase() + word.slice(1);
const listed = (words) => (words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words[0]);
const percent = (p) => `${(100 * p).toFixed(1)}\u00a0%`;
const sign = (text) => text.replace("-", "\u2212");
const signed = (d, digits) => { // what rounds to nothing adds nothing
  const text = Math.abs(d).toFixed(digits);
  return (Number(text) === 0 ? "±" : d > 0 ? "+" : "\u2212") + text;
};

function complain(message) {
  at("error").textContent = message;
  at("answer").hidden = true;
  at("status").textContent = "";
}

function changed() {
  at("error").textContent = "";
  if (!at("answer").hidden) at("status").textContent = "The row has changed since this answer: ask again.";
}

// The fields ------------------------------------------------------------------------------------

function part(m, ...content) {
  const box = made("div", { id: `${m}-part`, className: "part" }, ...content);
  if (model.modalities.length === 1) return box;
  const check = made("input", { type: "checkbox", id: `no-${m}` });
  box.append(made("label", { className: "check" }, check, `leave the ${NAMES[m]} out`));
  check.addEventListener("change", () => {
    box.classList.toggle("left-out", check.checked);
    if (asked) ask();
  });
  return box;
}

function textPart() {
  const field = made("textarea", { id: "text", rows: 4, dir: "auto" });
  field.setAttribute("aria-describedby", "text-hint");
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); }
  });
  return part("text", made("label", { className: "title", htmlFor: "text", textContent: "Text" }), field,
    made("p", { className: "hint", id: "text-hint", textContent: "Ctrl + Enter asks." }));
}

function filePart(m) {
  const field = made("input", { type: "file", id: `file-${m}`, accept: `${m}/*` });
  field.setAttribute("aria-describedby", `hint-${m}`);
  field.addEventListener("change", () => { if (field.files.length) choose(m, field.files[0]); });
  field.addEventListener("keydown", (event) => { // Enter would send the form
    if (event.key === "Enter") { event.preventDefault(); field.click(); }
  });
  const preview = m === "image" ? made("img", { alt: "The chosen picture" }) : made("audio", { controls: true });
  Object.assign(preview, { id: `preview-${m}`, hidden: true });
  const remove = made("button", { type: "button", id: `remove-${m}`, className: "quiet", hidden: true,
    textContent: `remove the ${NAMES[m]}` });
  remove.addEventListener("click", () => {
    files[m] = null;
    field.value = "";
    show(m, null);
    changed();
    field.focus(); // the button that had the focus is gone
  });
  const hint = made("p", { className: "hint", id: `hint-${m}`, textContent: fileHint(m) });
  return part(m, made("label", { className: "title", htmlFor: field.id, textContent: capital(NAMES[m]) }),
    made("div", { className: "drop" }, preview, hint, field, remove));
}

const fileHint = (m) => `Drop a ${NAMES[m]} on this page, or choose one:`;

function columnsPart(m, columns, field) {
  const grid = made("div", { className: "grid" });
  columns.forEach((column, i) => {
    const input = Object.assign(field(column), { id: `${m}-${i}` });
    input.dataset.column = column;
    grid.append(made("div", {}, made("label", { htmlFor: input.id }, bdi(column)), input));
  });
  return part(m, made("fieldset", {}, made("legend", { className: "title", textContent: capital(NAMES[m]) }), grid));
}

const numberField = () => made("input", { type: "text", inputMode: "decimal", autocomplete: "off" });
const wordField = (column) => made("select", {}, new Option("unknown", ""),
  ...model.categories[column].map((word) => new Option(word, word)));

const MAKERS = {
  text: textPart,
  image: () => filePart("image"),
  audio: () => filePart("audio"),
  numbers: () => columnsPart("numbers", model.numbers, numberField),
  categories: () => columnsPart("categories", Object.keys(model.categories), wordField),
};

function choose(m, file) {
  if (file.size > 1e6 * model.max_megabytes) {
    complain(`${capital(NAMES[m])} too large: ${file.name} has ${Math.ceil(file.size / 1e6)} MB, the limit is `
      + `${model.max_megabytes} MB.`);
    return;
  }
  const reader = new FileReader();
  const chosen = { data: null }; // asking waits until it is read
  reader.onerror = () => complain(`${file.name} cannot be read.`);
  reader.onload = () => {
    chosen.data = reader.result.slice(reader.result.indexOf(",") + 1);
    changed();
  };
  files[m] = chosen;
  reader.readAsDataURL(file);
  show(m, file);
}

function show(m, file) {
  const preview = at(`preview-${m}`);
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.removeAttribute("src");
  preview.hidden = true;
  at(`remove-${m}`).hidden = file === null;
  at(`hint-${m}`).textContent = fileHint(m);
  if (file === null) return;
  const shown = () => { preview.hidden = false; };
  preview.onload = shown;
  preview.onloadedmetadata = shown;
  preview.onerror = () => {
    const does = m === "image" ? "show" : "play";
    at(`hint-${m}`).textContent = `This browser cannot ${does} the file; the model may read it.`;
  };
  const words = `The chosen ${NAMES[m]}, ${file.name}`;
  if (m === "image") preview.alt = words;
  else preview.setAttribute("aria-label", words);
  preview.src = URL.createObjectURL(file);
}

// A file dropped beside the frame would otherwise replace the page.
function drop(event) {
  event.preventDefault();
  document.body.classList.remove("over");
  if (!model) return undefined;
  const dropped = event.dataTransfer.files;
  const kinds = Object.keys(files).filter((m) => model.modalities.includes(m));
  if (!dropped.length) return complain("What was dropped is no file.");
  const m = kinds.find((kind) => dropped[0].type.startsWith(`${kind}/`)) || kinds[0];
  if (!m) return complain("This model reads no files.");
  at(`file-${m}`).files = dropped; // so that the field names it
  return choose(m, dropped[0]);
}

// Question and answer ---------------------------------------------------------------------------

const leftOut = (m) => at(`no-${m}`) !== null && at(`no-${m}`).checked;
const cells = (m) => Object.fromEntries([...at(`${m}-part`).querySelectorAll("[data-column]")]
  .map((field) => [field.dataset.column, field.value]));
const valueOf = (m) => {
  if (m === "text") return at("text").value;
  return m in files ? files[m] && files[m].data : cells(m);
};
const isGiven = (m) => {
  if (m in files) return files[m] !== null;
  return (m === "text" ? [at("text").value] : Object.values(cells(m))).some((cell) => cell.trim());
};
const rowNow = () => Object.fromEntries(model.modalities.filter(isGiven).map((m) => [m, valueOf(m)]));

async function ask() {
  if (!model) return complain("The page is still loading: ask again in a moment.");
  const row = rowNow();
  const kept = Object.keys(row).filter((m) => !leftOut(m));
  const unread = kept.find((m) => row[m] === null);
  if (unread) return complain(`The ${NAMES[unread]} is still being read: ask again in a moment.`);
  if (!kept.length) {
    return complain(Object.keys(row).length ? "All of it is left out: put one part back."
      : `Give the model something to read first: ${model.modalities.map((m) => NAMES[m]).join(", ")}.`);
  }
  const mine = ++asked;
  const waiting = setTimeout(() => { if (mine === asked) at("status").textContent = "The model reads it …"; }, 300);
  let reply;
  try {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify(Object.fromEntries(kept.map((m) => [m, row[m]])));
    const response = await fetch("/predict", { method: "POST", headers, body });
    reply = await response.json();
  } catch {
    reply = { error: "The demo does not answer. Is it still running in the terminal?" };
  }
  clearTimeout(waiting);
  if (mine !== asked) return undefined;
  if (reply.error) return complain(reply.error);
  const key = JSON.stringify(row);
  const partly = kept.length < Object.keys(row).length;
  if (!partly) whole = { key, reply };
  return tell(reply, kept, partly && whole && whole.key === key ? whole.reply : null);
}

async function submit() {
  await ask();
  at("answer-part").scrollIntoView({ block: "nearest" }); // on a phone the answer stands below
}

function tell(reply, kept, before) {
  const read = reply.answered_by.split(" + ");
  const words = read.map((m) => NAMES[m]);
  const from = `from ${read.length > 1 ? listed(words) : `the ${words[0]} alone`}.`;
  const said = reply.probabilities ? classTold(reply, before) : numberTold(reply, before);
  at("error").textContent = "";
  at("status").replaceChildren(...said.status, `, ${from}`, ...said.whole);
  at("remarks").replaceChildren(...reply.remarks.map((remark) => element("li", "", remark)));
  at("classes").hidden = !reply.probabilities;
  at("contributions-hint").replaceChildren(...said.hint);
  tellContributions(reply, kept, read, said);
  at("decision").textContent = reply.probabilities ? DECISIONS[model.decision] : "";
  at("answer").hidden = false;
}

function classTold(reply, before) {
  const p = reply.probabilities[reply.label];
  at("probabilities").replaceChildren(...model.classes.map((name) => classRow(name, reply, before)));
  return {
    status: ["The model says ", made("strong", {}, bdi(reply.label)), ` (${percent(p)})`],
    whole: before ? [" The whole row: ", bdi(before.label), "."] : [],
    hint: ["Points added to the probability of ", bdi(reply.label),
      ", beyond its share in training. Bars to the right add, bars to the left take away."],
    least: 0.05,
    added: (d) => signed(100 * d, 1),
    unit: " points",
    sum: (terms) => `${(100 * model.shares[reply.label]).toFixed(1)} (share) ${terms} = ${percent(p)}`,
  };
}

function numberTold(reply, before) {
  const [low, high] = reply.interval;
  const size = (high - low) / 2 || Math.abs(reply.label) || 1;
  const digits = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(size))));
  const text = (value) => sign(value.toFixed(digits));
  return {
    status: ["The model says ", bdi(model.target), " is ", element("strong", "", text(reply.label))],
    whole: [` In ${100 * model.likely}\u00a0% of cases the truth lies between ${text(low)} and ${text(high)}.`,
      before ? ` The whole row: ${text(before.label)}.` : ""],
    hint: ["What was added to the average of ", bdi(model.target),
      " in training. Bars to the right add, bars to the left take away."],
    least: size / 100,
    added: (d) => signed(d, digits),
    unit: "",
    sum: (terms) => `${text(model.mean)} (average) ${terms} = ${text(reply.label)}`,
  };
}

function classRow(name, reply, before) {
  const p = reply.probabilities[name];
  const row = element("li", name === reply.label ? "said" : "");
  row.dataset.name = name;
  const share = element("small", "", `share ${percent(model.shares[name])}`);
  const title = made("span", { className: "name" }, bdi(name), share);
  if (name === reply.label) title.append(element("small", "", "✓ the label"));
  const value = element("span", "value", percent(p));
  value.dataset.value = p;
  row.append(title, value, bar(0, p, model.shares[name]));
  if (before) {
    const was = before.probabilities[name];
    row.append(element("span", "note", `${signed(100 * (p - was), 1)} points; the whole row had ${percent(was)}`));
  }
  return row;
}

function bar(from, to, tick) {
  const track = element("span", "bar");
  const fill = element("span", "fill");
  const mark = element("span", "tick");
  track.setAttribute("aria-hidden", "true"); // its numbers stand beside it
  fill.style.left = `${100 * Math.min(from, to)}%`;
  fill.style.width = `${100 * Math.abs(to - from)}%`;
  mark.style.left = `${100 * tick}%`;
  track.append(fill, mark);
  return track;
}

function tellContributions(reply, kept, read, said) {
  const most = Math.max(said.least, ...Object.values(reply.contributions).map(Math.abs));
  const terms = [];
  at("contributions").replaceChildren(...model.modalities.map((m) => {
    const added = reply.contributions[m];
    const row = element("li", m);
    row.dataset.name = m;
    const why = kept.includes(m) ? "not read in this case" : leftOut(m) ? "left out" : "missing";
    const value = element("span", "value", read.includes(m) ? said.added(added) + said.unit : why);
    value.dataset.value = added;
    row.append(element("span", "name", capital(NAMES[m])), value, bar(0.5, 0.5 + added / most / 2, 0.5));
    if (read.includes(m)) terms.push(`${said.added(added).replace(/^./, "$& ")} (${NAMES[m]})`);
    return row;
  }));
  at("sum").textContent = said.sum(terms.join(" "));
}

function introduce(told) {
  model = told;
  const reads = listed(model.modalities.map((m) => NAMES[m]));
  const does = model.target ? [", and tells ", bdi(model.target)]
    : [", and chooses among ", bdi(model.classes.join(", "))];
  at("about").replaceChildren("The model “", bdi(model.name), `” reads ${reads}`, ...does, ".");
  at("fields").replaceChildren(...model.modalities.map((m) => MAKERS[m]()));
  at("form-hint").hidden = false;
}

at("row").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
at("row").addEventListener("input", (event) => { if (event.target.type !== "checkbox") changed(); });
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", drop);
fetch("/model").then((response) => response.json()).then(introduce)
  .catch(() => complain("The demo does not answer. Is it still running in the terminal?"));
