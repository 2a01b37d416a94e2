"""The page in a real browser."""

import shutil
import time

import pytest
from command_line import ROOT

pytest.importorskip("gradio", reason="the extra 'serve' is not installed")
selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
    ),
]
EXAMPLES = ROOT / "serve" / "examples"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(params=SIZES)
def browser(request, tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    width, height = SIZES[request.param]
    for argument in (
        *("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"),
        *("disable-quic", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync"),
        f"user-data-dir={tmp_path / 'profile'}",
        f"window-size={width},{height}",
    ):
        options.add_argument(f"--{argument}")
    service = webdriver.ChromeService(executable_path=DRIVER)
    browser = webdriver.Chrome(options, service)
    if request.param == "phone":
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2}
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**metrics, "mobile": True}
        )
    yield browser
    browser.quit()


def find(browser, selector, seconds=20):
    """Returns the first visible element of a CSS selector, once there is one."""
    return WebDriverWait(browser, seconds).until(
        lambda b: next(
            (e for e in b.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()),
            None,
        )
    )


def upload(browser, *paths):
    """Sends files to the input of the tab that is open."""
    shown = "return arguments[0].closest('[role=tabpanel]').offsetParent !== null"
    inputs = browser.find_elements(By.CSS_SELECTOR, "input[type=file]")
    (field,) = (each for each in inputs if browser.execute_script(shown, each))
    field.send_keys("\n".join(map(str, paths)))


def open_tab(browser, name):
    """Opens a tab, which must not hide in a menu."""
    tabs = browser.find_elements(By.CSS_SELECTOR, "button[role=tab]")
    (tab,) = (each for each in tabs if each.text == name)
    tab.click()


def test_one_picture(browser, address):
    browser.get(address)
    assert "ResNet-8 on grey" in find(browser, ".contain p").text
    find(browser, ".waiting")

    upload(browser, EXAMPLES / "sunflower.png")
    find(browser, ".result .classes")
    # The answer is seen without scrolling.
    assert browser.execute_script("return window.scrollY") == 0
    height = browser.execute_script("return window.innerHeight")
    for part in (".verdict", ".pixels", ".classes li:last-child"):
        box = browser.find_element(By.CSS_SELECTOR, f".result {part}").rect
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
    labels = browser.find_elements(By.CSS_SELECTOR, ".classes .label")
    assert all(label.text for label in labels)
    maps = browser.find_elements(By.CSS_SELECTOR, ".picture .map")

    def opacities():
        time.sleep(0.4)  # for transitions
        return [float(m.value_of_css_property("opacity")) for m in maps]

    assert opacities() == [0.5, 0, 0, 0, 0]
    labels[2].click()
    assert opacities() == [0, 0, 0.5, 0, 0]
    first = browser.find_element(By.CSS_SELECTOR, ".classes input")
    first.send_keys(Keys.ARROW_DOWN)  # from the one before, as with any radio button
    assert opacities() == [0, 0.5, 0, 0, 0]
    assert no_overflow(browser)

    before = browser.find_element(By.CSS_SELECTOR, ".pixels").get_attribute("src")
    example = find(browser, '.examples button[value="cup"]')
    example.send_keys(Keys.ENTER)
    WebDriverWait(browser, 20).until(
        lambda b: (
            b.find_element(By.CSS_SELECTOR, ".pixels").get_attribute("src") != before
        )
    )


def test_several_pictures(browser, address, tmp_path):
    (damaged := tmp_path / "damaged.png").write_bytes(b"no image")
    browser.get(address)
    find(browser, ".waiting")
    open_tab(browser, "Several")
    upload(browser, EXAMPLES / "cup.jpg", EXAMPLES / "cat.jpg", damaged)
    find(browser, ".answers table")
    rows = [r.text for r in browser.find_elements(By.CSS_SELECTOR, ".answers tbody tr")]
    assert [row.split()[0] for row in rows] == ["cup.jpg", "cat.jpg", "damaged.png"]
    assert "%" in rows[0] and "not an image" in rows[2]
    link = browser.find_element(By.CSS_SELECTOR, ".answers a[download='answers.csv']")
    assert "cup.jpg" in link.get_attribute("href")
    assert no_overflow(browser)


def test_the_other_tabs(browser, address):
    browser.get(address)
    find(browser, ".waiting")
    open_tab(browser, "What it knows")
    search = find(browser, "input.search-input")
    wait = WebDriverWait(browser, 20)
    wait.until(lambda b: "raccoon" in find(b, "[role=tabpanel]").text)
    search.send_keys("x y")
    wait.until(lambda b: "raccoon" not in find(b, "[role=tabpanel]").text)
    assert "x y" in find(browser, "[role=tabpanel]").text
    open_tab(browser, "Model")
    details = find(browser, "#details")
    assert all(h.text for h in details.find_elements(By.TAG_NAME, "th"))
    lines = """const range = document.createRange();
        range.selectNodeContents(arguments[0]);
        return range.getClientRects().length;"""
    names = details.find_elements(By.CSS_SELECTOR, "td:first-child")
    assert [browser.execute_script(lines, name) for name in names] == [1] * len(names)
    assert no_overflow(browser)


def no_overflow(browser):
    """Whether the page is no wider than the window."""
    overflow = "return document.documentElement.scrollWidth - window.innerWidth"
    return browser.execute_script(overflow) <= 0
