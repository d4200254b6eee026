"""The report of a probe as one page that needs nothing else: for the acceptance file of a terminal."""

from html import escape
from string import Template

from runtime.probe import Report, StepResult

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>govterm probe: $kind</title>
<style>
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 60em; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4em .8em; border-bottom: 1px solid #ccc; }
td.seconds { text-align: right; }
pre { font: 12px/1.4 monospace; margin: 0; white-space: pre-wrap; }
.passed { color: #176a2c; } .failed { color: #a01010; font-weight: bold; } .skipped { color: #666; }
</style>
</head>
<body>
<h1>$kind: <span class="$verdict">$verdict</span></h1>
<p>Identity: $identity<br>Port: $port<br>Probed: $when, govterm $version</p>
<table>
<tr><th>step</th><th>outcome</th><th>seconds</th><th>detail</th></tr>
$rows
</table>
</body>
</html>
""")
_ROW = Template(
    '<tr><td>$name</td><td class="$outcome">$outcome</td><td class="seconds">$seconds</td>'
    "<td><pre>$detail</pre></td></tr>"
)


def render(report: Report, *, port: str, when: str, version: str) -> str:
    """Return the page; every text in it is escaped."""
    return _PAGE.substitute(
        kind=escape(report.kind),
        verdict="passed" if report.passed else "failed",
        identity=escape(report.identity or "none told"),
        port=escape(port),
        when=escape(when),
        version=escape(version),
        rows="\n".join(map(_row, report.steps)),
    )


def _row(step: StepResult) -> str:
    return _ROW.substitute(
        name=escape(step.name),
        outcome=escape(step.outcome),
        seconds=f"{step.seconds:.3f}",
        detail=escape(step.detail),
    )
