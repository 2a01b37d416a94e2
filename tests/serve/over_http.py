"""Requests as curl makes them."""

import base64
import io
import json
import urllib.error
import urllib.request

from PIL import Image

CALL = "/gradio_api/call/predict"
CHOOSE = "/gradio_api/call/choose"  # of the examples
SEVERAL = "/gradio_api/call/show_1"


def request(url, body=None):
    """Returns the status and text of an answer; a body makes it a POST request."""
    headers = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, headers), timeout=30
        ) as response:
            return response.status, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def post(address, *arguments, call=CALL):
    """Calls an endpoint, by default that of predictions."""
    body = json.dumps({"data": arguments}).encode()
    status, text = request(address + call, body)
    return status, json.loads(text)


def fetch(address, event, call=CALL):
    """Fetches the answer to what `post` returned."""
    return request(f"{address}{call}/{event['event_id']}")[1]


def ask(address, *arguments, call=CALL):
    """Returns the answer, by default the prediction, or the text of the error."""
    status, event = post(address, *arguments, call=call)
    assert status == 200, event
    text = fetch(address, event, call)
    content = json.loads(text.split("data: ")[-1])
    return content[0] if "event: complete" in text else content["error"]


def data_url(contents):
    encoded = base64.b64encode(contents).decode()
    return {"url": f"data:image/png;base64,{encoded}"}


def png(pixels):
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, "PNG")
    return contents.getvalue()
