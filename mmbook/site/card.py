"""Draw the picture that a shared link shows: `python -m mmbook.site.card`, which writes
`book/_static/card.png`.

The picture is committed; draw it again when the logo or the title changes.
"""

from __future__ import annotations

import html

import yaml

from mmbook import browser, root

PAGE = """<!DOCTYPE html><html lang="en"><body style="align-items: center; background: #fff;
color: #14191e; display: flex; font-family: sans-serif; gap: 60px; height: 630px; margin: 0;
padding: 0 90px; width: 1020px">
<div style="flex: none; height: 260px; width: 260px">{logo}</div>
<div><p style="font-size: 76px; font-weight: 600; margin: 0">mmtutor</p>
<p style="color: #4d5963; font-size: 38px; line-height: 1.3; margin: 16px 0 0">{title}</p>
</div></body></html>"""


def main() -> None:
    """Draw the card with Chromium."""
    from playwright.sync_api import sync_playwright

    title = yaml.safe_load((root() / "_config.yml").read_text(encoding="utf-8"))["title"]
    static = root() / "book" / "_static"
    logo = (static / "logo.svg").read_text(encoding="utf-8")
    logo = logo.replace('width="48" height="48"', 'width="260" height="260"')
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser.chromium(), args=browser.QUIET)
        page = running.new_page(viewport={"width": 1200, "height": 630})
        page.set_content(PAGE.format(logo=logo, title=html.escape(title)))
        page.screenshot(path=static / "card.png")
        running.close()
    print(f"{static / 'card.png'}: {(static / 'card.png').stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
