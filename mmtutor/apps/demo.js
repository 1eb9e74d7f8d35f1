"use strict";
// Whatever comes from a model or a post is set with textContent: none of it can become a part of the page.

const at = (id) => document.getElementById(id);
const PARTS = ["text", "image"];
const NAMES = { text: "text", image: "picture" };
const WAYS = {
  text: "from the text alone", image: "from the picture alone",
  early: "from text and picture, by early fusion", late: "from text and picture, by late fusion",
};
const DECISIONS = {
  balanced: "The label is the class for which the post speaks most beyond that class’s share, so that rare classes "
    + "count as much as common ones. It need not be the most probable one.",
  likeliest: "The label is the most probable class.",
};
let model = null; // what /model told
let picture = null; // { file, data }: data is its base64
let asked = 0; // requests sent: an answer that was overtaken is dropped
let whole = null; // the answer to the post with nothing left out, and that post

const element = (tag, kind, text) => {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
};
const named = (tag, kind, text) => { // names of classes may run from right to left
  const made = element(tag, kind);
  made.append(element("bdi", "", text));
  return made;
};
const percent = (p) => `${(100 * p).toFixed(1)}\u00a0%`;
const signed = (d) => `${100 * d > -0.05 ? "+" : "\u2212"}${Math.abs(100 * d).toFixed(1)}`;

function complain(message) {
  at("error").textContent = message;
  at("answer").hidden = true;
  at("status").textContent = "";
}

function choose(file) {
  if (model && file.size > model.max_picture) {
    const limit = Math.floor(model.max_picture / 1e6);
    complain(`Picture too large: ${file.name} has ${Math.ceil(file.size / 1e6)} MB, the limit is ${limit} MB.`);
    return;
  }
  const reader = new FileReader();
  reader.onerror = () => complain(`${file.name} cannot be read.`);
  reader.onload = () => {
    picture = { data: reader.result.slice(reader.result.indexOf(",") + 1) };
    changed();
  };
  picture = { data: null }; // asking waits until it is read
  reader.readAsDataURL(file);
  show(file);
}

function show(file) {
  const preview = at("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.removeAttribute("src");
  preview.hidden = true;
  at("remove").hidden = file === null;
  at("file-hint").textContent = "Drop a picture on this page, or choose one:";
  if (file === null) return;
  preview.onload = () => { preview.hidden = false; };
  preview.onerror = () => { at("file-hint").textContent = "This browser cannot show the file; the model may read it."; };
  preview.alt = `The chosen picture, ${file.name}`;
  preview.src = URL.createObjectURL(file);
}

function changed() {
  at("error").textContent = "";
  if (!at("answer").hidden) at("status").textContent = "The post has changed since this answer: ask again.";
}

const leftOut = (part) => at(`no-${part}`).checked;
const post = () => ({
  text: leftOut("text") ? "" : at("text").value,
  picture: leftOut("image") || !picture ? null : picture.data,
});

async function ask() {
  if (!model) return complain("The page is still loading: ask again in a moment.");
  if (picture && picture.data === null) return complain("The picture is still being read: ask again in a moment.");
  const mine = ++asked;
  const sent = post();
  if (!sent.text.trim() && sent.picture === null) {
    const something = at("text").value.trim() || picture;
    return complain(something ? "All of the post is left out: put one part back."
      : "Write a text or choose a picture first.");
  }
  const waiting = setTimeout(() => { if (mine === asked) at("status").textContent = "The model reads the post …"; }, 300);
  let reply;
  try {
    const headers = { "Content-Type": "application/json" };
    const response = await fetch("/predict", { method: "POST", headers, body: JSON.stringify(sent) });
    reply = await response.json();
  } catch {
    reply = { error: "The demo does not answer. Is it still running in the terminal?" };
  }
  clearTimeout(waiting);
  if (mine !== asked) return undefined;
  if (reply.error) return complain(reply.error);
  const full = { text: at("text").value, picture };
  if (!PARTS.some(leftOut)) whole = { ...full, reply };
  const same = whole && PARTS.some(leftOut) && whole.text === full.text && whole.picture === full.picture;
  return tell(reply, sent, same ? whole.reply : null);
}

async function submit() {
  await ask();
  at("answer-part").scrollIntoView({ block: "nearest" }); // on a phone the answer stands below
}

function tell(reply, sent, before) {
  const p = reply.probabilities[reply.label];
  at("error").textContent = "";
  at("status").replaceChildren("The model says ", named("strong", "", reply.label), ` (${percent(p)}), `,
    `${WAYS[reply.answered_by]}.`, before ? ` The whole post: ${before.label}.` : "");
  at("probabilities").replaceChildren(...Object.keys(reply.probabilities).map((name) => classRow(name, reply, before)));
  tellContributions(reply, sent, p);
  at("decision").textContent = DECISIONS[model.decision];
  at("answer").hidden = false;
}

function classRow(name, reply, before) {
  const p = reply.probabilities[name];
  const row = element("li", name === reply.label ? "said" : "");
  row.dataset.name = name;
  const title = named("span", "name", name);
  title.append(element("small", "", `share ${percent(model.shares[name])}`));
  if (name === reply.label) title.append(element("small", "", "✓ the label"));
  const value = element("span", "value", percent(p));
  value.dataset.value = p;
  row.append(title, value, bar(0, p, model.shares[name]));
  if (before) {
    const was = before.probabilities[name];
    row.append(element("span", "note", `${signed(p - was)} points; the whole post had ${percent(was)}`));
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

function tellContributions(reply, sent, p) {
  const share = model.shares[reply.label];
  const most = Math.max(0.05, ...PARTS.map((part) => Math.abs(reply.contributions[part])));
  const terms = [];
  at("contributions-hint").replaceChildren("Points added to the probability of ", element("bdi", "", reply.label),
    ", beyond its share in training. Bars to the right add, bars to the left take away.");
  at("contributions").replaceChildren(...PARTS.map((part) => {
    const given = part === "text" ? sent.text.trim() !== "" : sent.picture !== null;
    const read = model.modalities.includes(part);
    const added = reply.contributions[part];
    const row = element("li", part);
    row.dataset.name = part;
    const why = !given ? (leftOut(part) ? "left out" : "not in this post") : "not read by this model";
    const value = element("span", "value", given && read ? `${signed(added)} points` : why);
    value.dataset.value = added;
    row.append(element("span", "name", part === "text" ? "Text" : "Picture"), value,
      bar(0.5, 0.5 + added / most / 2, 0.5));
    if (given && read) terms.push(`${signed(added).replace(/^./, "$& ")} (${NAMES[part]})`);
    return row;
  }));
  at("sum").textContent = `${(100 * share).toFixed(1)} (share) ${terms.join(" ")} = ${percent(p)}`;
}

function introduce(told) {
  model = told;
  const ways = told.modalities.map((part) => NAMES[part]).join(" and ");
  at("about").replaceChildren("The model “", element("bdi", "", told.name), `” reads ${ways} and chooses among `,
    element("bdi", "", Object.keys(told.shares).join(", ")), ".");
}

function listen() {
  at("post").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  at("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); }
  });
  at("text").addEventListener("input", changed);
  at("file").addEventListener("change", () => { if (at("file").files.length) choose(at("file").files[0]); });
  at("file").addEventListener("keydown", (event) => { // Enter would send the form
    if (event.key === "Enter") { event.preventDefault(); at("file").click(); }
  });
  at("remove").addEventListener("click", () => {
    picture = null;
    at("file").value = "";
    show(null);
    changed();
    at("file").focus(); // the button that had the focus is gone
  });
  for (const part of PARTS) {
    at(`no-${part}`).addEventListener("change", () => {
      at(`${part}-part`).classList.toggle("left-out", leftOut(part));
      if (asked) ask();
    });
  }
  // a file dropped beside the frame would otherwise replace the page
  addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    const files = event.dataTransfer.files;
    if (!files.length) return complain("What was dropped is no file.");
    at("file").files = files; // so that the field names it
    return choose(files[0]);
  });
}

listen();
fetch("/model").then((response) => response.json()).then(introduce)
  .catch(() => complain("The demo does not answer. Is it still running in the terminal?"));
