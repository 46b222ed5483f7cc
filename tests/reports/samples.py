"""A report with one of everything, and text that wants out of its cell."""

import base64
import io

from PIL import Image

from assaymark.reports.model import (
    Captioned,
    Cost,
    Estimate,
    Estimates,
    Finding,
    HeatMap,
    HeatRow,
    ImageTrio,
    Interval,
    Limit,
    Method,
    Node,
    Picture,
    Pictures,
    Plot,
    Point,
    Report,
    Run,
    Series,
    Table,
    Validation,
    Waiver,
)

HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "</style><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"><svg onload=document.title='owned'>",
    "' onmouseover='document.title=1' x='",
    "javascript:document.title='owned'",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!-- -->&lt;b&gt;",
    "a|b`c`*d*[x](http://evil.example)\n# e",
    "\x1b[31mred\x00\x08\u2028\u202e",
]


def picture(colour: str = "red") -> Picture:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return Picture(media_type="image/png", data=data, width=8, height=8)


def line(place: int) -> tuple[Point, ...]:
    """A series of a plot, which no other series touches everywhere."""
    heights = [(i / 10, (i / 10) ** (0.4 + 0.2 * place)) for i in range(11)]
    return tuple(
        Point(x=x, y=y, low=max(y - 0.05, 0.0), high=min(y + 0.05, 1.0), n=100) for x, y in heights
    )


def sample(text: str = "plain") -> Report:
    """Every kind of finding and evidence, with `text` in every free-text field."""
    interval = Interval(low=0.3, high=0.6, confidence=0.95, method="Clopper–Pearson")
    trio = ImageTrio(
        title=text,
        original=picture(),
        adversarial=picture("blue"),
        difference=picture("grey"),
        factor=5.0,
        label=text,
        prediction=text,
        confidence=0.9,
        fooled_prediction=text,
        fooled_confidence=0.8,
        linf=0.03,
        l2=0.5,
        attack=text,
    )
    table = Table(
        title=text, columns=("a", text), rows=((text, None), ("n", 0.25), ("k", 3)), note=text
    )
    chart = Estimates(
        title=text,
        estimates=(
            Estimate(label=text, value=0.4, low=0.3, high=0.5, n=10),
            Estimate(label=text, value=None),
        ),
        limit=0.45,
    )
    learned = Pictures(title=text, pictures=(Captioned(caption=text, picture=picture()),))
    # every shade, and a cell that was not measured
    shades = [Estimate(label=text, value=i / 10, low=0.0, high=1.0, n=10) for i in range(11)]
    heat = HeatMap(
        title=text,
        rows_are=text,
        columns_are=text,
        columns=(text, "second"),
        rows=(
            *(HeatRow(label=text, cells=(cell, cell)) for cell in shades),
            HeatRow(label=text, cells=(Estimate(label=text, value=None), shades[0]), total=True),
        ),
        note=text,
    )
    few = tuple(Point(x=0.1 * i, y=0.9 - 0.07 * i * i, label=text) for i in range(4))
    plot = Plot(
        title=text,
        x_label=text,
        y_label=text,
        series=(
            *(Series(label=text, points=line(i)) for i in range(12)),
            Series(label=text, points=(), joined=False),
        ),
        diagonal=True,
        note=text,
    )
    scattered = Plot(
        title=text,
        x_label=text,
        y_label=text,
        series=(Series(label=text, points=few, joined=False),),
    )
    empty = Plot(title=text, x_label=text, y_label=text, series=())
    validation = Validation(
        title=text,
        state="invalid",
        expected="trusted",
        explanation=text,
        codes=(text, "assertion.dataHash.mismatch"),
        tree=Node(label=text, detail=text, children=(Node(label=text),)),
    )
    waiver = Waiver(check=text, reason=text, owner=text, expires="2999-01-01")
    common = {"target": text, "summary": text, "references": (text,)}
    return Report(
        findings=(
            Finding(
                check="one",
                measure="robust_accuracy",
                value=0.45,
                interval=interval,
                n=40,
                limit=Limit(minimum=0.7, on="lower"),
                severity="critical",
                evidence=(chart, table, learned, heat, plot, scattered, empty, trio),
                cost=Cost(seconds=1.5, forward=100, backward=50),
                **common,  # type: ignore[arg-type]
            ),
            Finding(
                check="one",
                measure="clean_accuracy",
                value=0.45,
                interval=interval,
                n=40,
                limit=Limit(minimum=0.5, on="lower"),
                needs_n=1234,
                **common,  # type: ignore[arg-type]
            ),
            Finding(check=text, measure=text, value=3.0, **common),  # type: ignore[arg-type]
            Finding(check=text, measure="x", error=text, limit=Limit(maximum=0.1), **common),  # type: ignore[arg-type]
            Finding(
                check="two",
                measure="trusted_files",
                value=0.0,
                limit=Limit(minimum=1.0),
                evidence=(validation,),
                waiver=waiver,
                **common,  # type: ignore[arg-type]
            ),
            Finding(check="two", measure="accuracy", limit=Limit(minimum=0.5), **common),  # type: ignore[arg-type]
            Finding(
                check="two",
                measure="selection_rate",
                value=1.0,
                n=4,
                limit=Limit(maximum=1.0),
                **common,  # type: ignore[arg-type]
            ),
        ),
        methods=(
            Method(check=text, title=text, steps=(text,), not_tested=(text,), sources=(text,)),
        ),
        warnings=(text,),
        run=Run(
            tool="assaymark 0.1.0",
            command=text,
            policy_name="assaymark.toml",
            policy_sha256="0" * 64,
            policy_text=f'[[check]]\nid = "one"\n# {text}'.replace("\x00", "")
            .replace("\x08", "")
            .replace("\x1b", ""),
            seed=0,
            device="cpu",
            started="2026-01-01 00:00:00 UTC",
            seconds=1.0,
            versions={"torch": text},
            digests={text: "0" * 64},
            platform=text,
        ),
    )
