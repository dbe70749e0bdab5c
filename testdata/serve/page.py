"""Uses the page of a server as a person would: page.py URL BROWSER IMAGE [FOLDER FOR SCREENSHOTS]. It drops an image, draws a
digit with the mouse and with the keyboard, asks a segmentation, and lets axe-core judge the page, light and dark, on a phone
and a desktop. It needs playwright and axe-playwright-python. Prints a line a check; ends with 1 when one fails."""

import base64
import os
import pathlib
import sys

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

URL, BROWSER, IMAGE = sys.argv[1:4]
SHOTS = pathlib.Path(sys.argv[4]) if len(sys.argv) > 4 else None
SIZES = {"desktop": (1280, 900), "phone": (375, 740)}


def drop(page, path):
    data = base64.b64encode(pathlib.Path(path).read_bytes()).decode()
    page.evaluate("""([data, name]) => {
        const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), t = new DataTransfer();
        t.items.add(new File([bytes], name, { type: "image/png" }));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: t, bubbles: true, cancelable: true }));
    }""", [data, os.path.basename(path)])


def judge(page, what):
    results = Axe().run(page)
    if results.violations_count:
        print(results.generate_report())
        raise SystemExit(f"axe: {what}: {results.violations_count} violations")
    print("ok   axe:", what)


def draw_one(page):
    """A stroke from the top to the bottom is a 1 to every reader."""
    pad = page.locator("#pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 40)
    page.mouse.down()
    for k in range(1, 11):
        page.mouse.move(x, box["y"] + 40 + k * (box["height"] - 80) / 10)
    page.mouse.up()


with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
    for scheme in ("light", "dark"):
        for size, (w, h) in SIZES.items():
            errors = []
            page = browser.new_page(color_scheme=scheme, viewport={"width": w, "height": h})
            page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: errors.append(str(e)))
            foreign = []
            page.on("request", lambda r: foreign.append(r.url) if not r.url.startswith((URL, "data:", "blob:")) else None)
            page.goto(URL + "#digits")
            status = page.locator("#status")
            expect(page.locator("#model")).to_have_value("digits")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"
            drop(page, IMAGE)
            expect(status).to_contain_text("It is ")
            expect(page.locator("#answer li")).to_have_count(5)
            print("ok   drop:", status.text_content())
            page.get_by_role("tab", name="Draw").click()
            draw_one(page)
            expect(status).to_contain_text("It is 1,")
            print("ok   draw:", status.text_content())
            page.get_by_role("button", name="Clear").click()
            page.locator("#pad").focus()
            for key in ["ArrowUp"] * 9 + [" "] + ["ArrowDown"] * 18 + [" ", "Enter"]:
                page.keyboard.press(key)
            expect(status).to_contain_text("It is 1,")
            print("ok   keyboard:", status.text_content())
            judge(page, f"classes, {scheme}, {size}")
            page.get_by_role("tab", name="Go").focus()
            page.keyboard.press("ArrowLeft")
            expect(page.locator("#snippet")).to_contain_text("curl --data-binary")
            page.keyboard.press("ArrowRight")
            expect(page.locator("#snippet")).to_contain_text("http.Post")
            if SHOTS:
                page.screenshot(path=SHOTS / f"digits-{scheme}-{size}.png", full_page=True)
            page.select_option("#model", "nuclei")
            page.get_by_role("tab", name="Image").click()
            page.set_input_files("#file", IMAGE)
            expect(status).to_contain_text("A mask of")
            expect(page.locator("#overlay")).to_be_visible()
            judge(page, f"masks, {scheme}, {size}")
            if SHOTS:
                page.screenshot(path=SHOTS / f"nuclei-{scheme}-{size}.png", full_page=True)
            assert not errors, errors
            assert not foreign, foreign
            page.close()
    browser.close()
print("ok   the page")
