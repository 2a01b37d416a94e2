"""Requests as curl makes them."""

import base64
import io
import json
import urllib.error
import urllib.request

from PIL import Image

CALL = "/gradio_api/call/predict"


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


def post(address, *arguments):
    """Asks for a prediction."""
    body = json.dumps({"data": arguments}).encode()
    status, text = request(address + CALL, body)
    return status, json.loads(text)


def fetch(address, event):
    """Fetches the answer to what `post` returned."""
    return request(f"{address}{CALL}/{event['event_id']}")[1]


def ask(address, *arguments):
    """Returns the prediction of an image and a fit, or the text of the error."""
    status, event = post(address, *arguments)
    assert status == 200, event
    text = fetch(address, event)
    content = json.loads(text.split("data: ")[-1])
    return content[0] if "event: complete" in text else content["error"]


def data_url(contents):
    encoded = base64.b64encode(contents).decode()
    return {"url": f"data:image/png;base64,{encoded}"}


def png(pixels):
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, "PNG")
    return contents.getvalue()
