"""The look of a report: a page of text and figures, on paper, a phone or a dark screen."""

PAGE_CSS = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);overflow-wrap:anywhere;
font:17px/1.55 Charter,"Bitstream Charter","Iowan Old Style",Georgia,"Times New Roman",serif}
main{max-width:46rem;margin:0 auto;padding:3rem 1.25rem 5rem}
header{border-bottom:1px solid var(--rule);padding-bottom:1.1rem;margin-bottom:1.6rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;font-weight:600;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:3rem 0 .5rem;font-weight:600}
h3{font-size:1rem;margin:1.8rem 0 .4rem;font-weight:600}
p{margin:.6rem 0}.lead,.note,figcaption{color:var(--soft)}
.note,figcaption{font-size:.88rem;line-height:1.45}
.found{padding:0;margin:0;list-style:none}.found li{margin:.55rem 0;padding-left:1rem;border-left:2px solid var(--rule)}
.found li:first-child{border-left-color:var(--c0)}
figure{margin:1.2rem 0 1.6rem}figcaption{margin-top:.4rem}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;overflow-wrap:normal;width:100%;font-size:.86rem;line-height:1.35;
font-variant-numeric:tabular-nums lining-nums}
th,td{padding:.32rem .7rem .32rem 0;text-align:right;vertical-align:top;white-space:nowrap;
border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:7rem}
thead th{font-weight:400;overflow-wrap:normal;color:var(--soft);
border-bottom:1px solid var(--ink);white-space:normal;vertical-align:bottom}
th:last-child,td:last-child{padding-right:0}
tbody th{font-weight:400}
.life{border-top:1px solid var(--rule);padding:1rem 0 .4rem}
.who{font-size:.8rem;color:var(--soft);margin:.9rem 0 .15rem;letter-spacing:.02em}
.said{white-space:pre-wrap;margin:0;padding:.55rem .8rem;background:var(--panel);font-size:.92rem;unicode-bidi:isolate;
max-height:24rem;overflow-y:auto}
.verdict{font-size:.88rem;margin:.3rem 0}
ins{background:color-mix(in srgb,var(--c2) 22%,transparent);text-decoration:none;border-bottom:1px solid var(--c2)}
del{background:color-mix(in srgb,var(--c1) 18%,transparent);text-decoration:line-through;
text-decoration-color:var(--c1)}
@media(max-width:560px){body{font-size:16px}main{padding:1.6rem 1rem 3rem}h1{font-size:1.5rem}h2{margin-top:2.2rem}}
@media print{body{font-size:10.5pt}main{max-width:none;padding:0}.scroll,.said{overflow:visible;max-height:none}
h2,h3{break-after:avoid}figure,tr{break-inside:avoid}.said{border-left:1px solid var(--rule)}}
"""
