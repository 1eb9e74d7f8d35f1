// Starts reveal.js. Slides are cut to size when they are made, for the fonts of most machines; where a font is larger, the
// slide that is shown is made a little smaller, so that nothing is cut off.
const STAGE = 720;

function fit(slide) {
  const box = slide && slide.querySelector(":scope > .slide");
  if (!box) return;
  box.style.zoom = 1;
  for (let zoom = 1; box.getBoundingClientRect().height / Reveal.getScale() > STAGE && zoom > 0.6; zoom -= 0.05)
    box.style.zoom = zoom - 0.05;
}

Reveal.on("ready", event => fit(event.currentSlide));
Reveal.on("slidechanged", event => fit(event.currentSlide));
Reveal.initialize({
  width: 1280, height: STAGE, margin: 0.02, center: false, hash: true, transition: "none", slideNumber: "c/t",
  scrollActivationWidth: null, // slides on a phone too: the long page that reveal.js makes of them knows no fit()
  plugins: [RevealNotes],
});
