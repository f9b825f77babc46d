"""The look of pages: the frame of the document and its style sheet, for light, dark, phone and paper."""

# the policy makes sure of what is promised: the page asks nobody for anything
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<p class="lead">{lead}</p>
</header>
{blocks}
</main>
</body>
</html>
"""

STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --ink: #1c2126; --quiet: #59636e; --rule: #d9dde1;
  --tint: #e9f2f8; --code: #f1f3f4; --accent: #0062a0; --alarm: #b3261e; --alarm-tint: #fbeeec;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --ink: #e4e8eb; --quiet: #9aa5af; --rule: #343c44;
    --tint: #1b2f3d; --code: #1d2329; --accent: #6bbcf0; --alarm: #ff9d94; --alarm-tint: #33201f;
  }
}
* { box-sizing: border-box; }
html { font: 17px/1.6 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere; }
main { max-width: 76rem; margin: 0 auto; padding: 3.5rem 1.25rem 5rem; }
header, nav, p, h2, h3, pre, dl, figure, .wide, .warning, details { max-width: 44rem; margin-inline: auto; }
h1 { margin: 0 0 1rem; font-size: 2.3rem; line-height: 1.15; letter-spacing: -.02em; text-wrap: balance; }
h2 { margin-block: 3.5rem 1rem; font-size: 1.4rem; line-height: 1.25; letter-spacing: -.01em; }
h3 { margin-block: 1.75rem .5rem; font-size: 1rem; }
.lead { margin: 0; padding-left: 1rem; border-left: 3px solid var(--accent); font-size: 1.2rem; line-height: 1.5; }
figure { margin-block: 1.5rem; }
figure > svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption, caption { color: var(--quiet); font-size: .88rem; line-height: 1.5; text-align: left; }
figcaption { max-width: 44rem; margin: .9rem auto 0; }
caption { padding-bottom: .6rem; }
.wide { margin-block: 1.5rem; overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
thead, tbody { overflow-wrap: normal; }
th, td { padding: .42rem .75rem; border-bottom: 1px solid var(--rule); text-align: left; font-weight: 400; }
thead th { border-bottom: 2px solid var(--rule); color: var(--quiet); font-size: .88rem; vertical-align: bottom; }
.number { text-align: right; white-space: nowrap; }
td strong { font-weight: 700; color: var(--accent); }
.marked { background: var(--tint); print-color-adjust: exact; }
th small { color: var(--accent); font-size: .76rem; }
.number small { float: left; max-width: 9rem; margin-right: .75rem; line-height: 2.1; }
.number small { white-space: normal; text-align: left; }
.strips { max-width: none; }
.tiles { display: grid; gap: 1rem; justify-content: center; margin-bottom: 2rem; }
.tiles h3 { grid-column: 1 / -1; max-width: none; margin: 0 0 -.5rem; }
.tiles h3, .tiles p { width: 0; min-width: 100%; } /* the images make the columns, not the words */
.tiles { grid-template-columns: repeat(var(--columns), minmax(0, max-content)); }
.tiles img { display: block; max-width: 100%; height: auto; border-radius: 3px; image-rendering: pixelated; }
.tiles p { display: flex; flex-wrap: wrap; gap: 0 .5rem; justify-content: space-between; }
.tiles p { margin: .35rem 0 0; font-size: .88rem; }
.tiles b { font-weight: 600; }
.tiles span { color: var(--quiet); font-variant-numeric: tabular-nums; }
pre { margin-block: 1rem; padding: .9rem 1.1rem; border-radius: 6px; background: var(--code); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: .84rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace; }
dl { margin-block: 1rem; }
dl div { display: grid; grid-template-columns: 12rem 1fr; gap: 0 1.25rem; }
dl div { padding: .42rem 0; border-bottom: 1px solid var(--rule); }
dt { color: var(--quiet); }
dd { min-width: 0; margin: 0; font-variant-numeric: tabular-nums; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: .2em; }
section { scroll-margin-top: 1rem; }
nav { margin-block: 1.75rem; }
nav ul { margin: 0; padding: 0; list-style: none; }
nav li { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; padding: .3rem 0; }
nav li { border-bottom: 1px solid var(--rule); }
nav span { display: flex; flex-wrap: wrap; gap: 0 1.1rem; }
nav li:first-child { border-top: 1px solid var(--rule); }
nav b { padding-right: 1.1rem; color: var(--quiet); font-weight: 400; }
.warning { margin-block: 1.75rem; padding: .9rem 1.1rem; border-left: 3px solid var(--alarm); }
.warning { background: var(--alarm-tint); print-color-adjust: exact; }
.warning p { margin: 0; color: var(--alarm); }
.warning ul { margin: .3rem 0 0; padding-left: 1.1rem; font-size: .93rem; }
details { margin-block: 1.5rem; }
summary { color: var(--accent); cursor: pointer; }
details:has(.broad) { max-width: fit-content; }
details:has(.broad) > summary { max-width: 44rem; }
.broad { max-width: 100%; width: fit-content; min-width: min(44rem, 100%); }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 0 2rem; }
.row { align-items: start; }
.row figure { width: 100%; }
.row figcaption { max-width: 563px; } /* of a figure */
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 40rem) {
  html { font-size: 16px; }
  main { padding: 2rem 1rem 3rem; }
  h1 { font-size: 1.8rem; }
  h2 { margin-top: 2.5rem; }
  .lead { font-size: 1.08rem; }
  table { font-size: .88rem; }
  th, td { padding-inline: .3rem; }
  thead th, thead .number { white-space: normal; font-size: .8rem; }
  .number small { float: none; display: block; margin: 0; font-size: .7rem; line-height: 1.2; text-align: right; }
  .tiles { grid-template-columns: repeat(var(--narrow), minmax(0, max-content)); gap: .75rem; }
  dl div { grid-template-columns: 1fr; }
  nav a { padding: .25rem 0; }
  nav li { grid-template-columns: 1fr; }
  /* of a table that is moved sideways, names and caption stay */
  tbody th { position: sticky; left: 0; max-width: 40vw; background: var(--paper); }
  .marked th { background: var(--tint); }
  caption span { display: block; position: sticky; left: 0; max-width: calc(100vw - 2rem); }
}
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --ink: #000; --quiet: #444; --rule: #bbb; --tint: #eef4f8; --code: #f4f4f4; --accent: #0062a0;
    --alarm: #b3261e; --alarm-tint: #fbeeec;
  }
  html { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  h1, h2, h3 { break-after: avoid; }
  figure:not(.strips), .wide, .tiles, tr, pre, dl div { break-inside: avoid; }
}
"""
