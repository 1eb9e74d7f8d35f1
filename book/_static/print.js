// Paper is light: print the light theme, whatever the reader looks at, and give it back afterwards.
(() => {
  const page = document.documentElement;
  let theme = null;
  addEventListener("beforeprint", () => {
    theme ??= page.dataset.theme;
    page.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    if (theme !== null) page.dataset.theme = theme;
    theme = null;
  });
})();
