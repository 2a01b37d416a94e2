"""The answers to several pictures, as a table of the page and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from prediction import Prediction, data_url, group, percent, shown

from jax_resnet.runtime.text import printable

_TOP = 5


@dataclass(frozen=True)
class Answer:
    """The answer to one of several pictures: a prediction, or why there is none."""

    name: str  # of the file
    prediction: Prediction | None = None
    problem: str = ""


def as_html(answers: Sequence[Answer]) -> str:
    """Returns a row for each picture, and a link that downloads them as CSV."""
    content = quote(as_csv(answers), safe="")
    rows = "".join(map(_row, answers))
    return f"""<div class="answers">
<p role="status">{len(answers)} {"picture" if len(answers) == 1 else "pictures"}.
<a download="answers.csv" href="data:text/csv;charset=utf-8,{content}">Download as
CSV</a></p>
<table>
<thead><tr><th scope="col">picture</th><th scope="col">answer</th>
<th scope="col" class="number">confidence</th></tr></thead>
<tbody>{rows}</tbody>
</table>
</div>"""


def as_csv(answers: Iterable[Answer]) -> str:
    """Returns a line for each picture, with the five most probable classes."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    parts = "class", "group", "confidence"
    columns = [f"{part}_{n}" for n in range(1, _TOP + 1) for part in parts]
    writer.writerow(["file", *columns, "problem"])
    for answer in answers:
        classes = answer.prediction.classes if answer.prediction else []
        cells = [
            cell
            for each in classes
            for cell in (
                each["label"],
                each["superclass"] or "",
                f"{each['confidence']:.4f}",
            )
        ]
        missing = [""] * (len(columns) - len(cells))
        row = [answer.name, *cells, *missing, answer.problem]
        writer.writerow(map(printable, row))
    return lines.getvalue()


def _row(answer: Answer) -> str:
    name = shown(answer.name)
    if (prediction := answer.prediction) is None:
        return f'<tr><td>{name}</td><td colspan="2">{shown(answer.problem)}</td></tr>'
    first = prediction.classes[0]
    return f"""<tr>
<td><img alt="" src="{data_url(prediction.image)}"> <span>{name}</span></td>
<td>{prediction.verdict} {group(first)}</td>
<td class="number">{percent(first["confidence"])}</td></tr>"""
