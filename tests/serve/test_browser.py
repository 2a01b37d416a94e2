"""The page in a real browser."""

import shutil
import time

import pytest
from command_line import ROOT

pytest.importorskip("gradio", reason="the extra 'serve' is not installed")
selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
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


def test_a_visit(browser, address):
    browser.get(address)
    assert "ResNet-8 on grey" in find(browser, "h1").text
    find(browser, ".waiting")

    upload = browser.find_element(By.CSS_SELECTOR, "input[type=file]")
    upload.send_keys(str(EXAMPLES / "sunflower.png"))
    find(browser, ".result .classes")
    labels = browser.find_elements(By.CSS_SELECTOR, ".classes .label")
    assert all(label.text for label in labels)
    maps = browser.find_elements(By.CSS_SELECTOR, ".picture .map")

    def opacities():
        time.sleep(0.4)  # for transitions
        return [float(m.value_of_css_property("opacity")) for m in maps]

    assert opacities() == [0.5, 0, 0, 0, 0]
    labels[2].click()
    assert opacities() == [0, 0, 0.5, 0, 0]
    overflow = "return document.documentElement.scrollWidth - window.innerWidth"
    assert browser.execute_script(overflow) <= 0

    browser.get(address)
    find(browser, ".gallery button, .gallery-item, .gallery img").click()
    find(browser, ".result .classes")
