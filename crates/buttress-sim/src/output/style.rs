//! The style of the page. The colours of Okabe and Ito are distinguishable with colour blindness.

pub(super) const CSS: &str = "
:root{color-scheme:light dark;--bg:#f7f7f5;--card:#fff;--ink:#1d2126;--soft:#5c6670;--rule:#e3e5e8;
--grid:#eceef0;--fault:#b9c0c8;--good:#0072b2;--offered:#8a939c;--p50:#009e73;--p99:#d55e00;
--calls:#56b4e9;--retries:#cc79a7;--refused:#b08900;--gauge:#7a6fd0;
--stable:#009e73;--overloaded:#e69f00;--recovering:#56b4e9;--metastable:#d55e00}
@media (prefers-color-scheme:dark){:root{--bg:#15181b;--card:#1d2125;--ink:#e6e9ec;--soft:#9aa5b0;
--rule:#30363c;--grid:#2a3036;--fault:#4a525a;--good:#4aa8dd;--offered:#8a939c;--p99:#f0813a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',
Roboto,'DejaVu Sans',sans-serif}
main{max-width:1400px;margin:0 auto;padding:28px 24px 40px}
h1{font-size:26px;line-height:1.2;margin:0 0 8px}
h2{font-size:17px;margin:0 0 10px;display:flex;gap:10px;align-items:center;flex-wrap:wrap}
p{margin:0 0 10px;max-width:88ch;color:var(--soft)}
.scroll{overflow-x:auto;margin:18px 0}
table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--rule);
border-radius:8px;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:8px 12px;text-align:right;border-top:1px solid var(--rule);white-space:nowrap}
thead th{border-top:0;font-weight:600;color:var(--soft);font-size:12.5px;white-space:normal;
vertical-align:bottom;min-width:70px}
tbody th,thead th:nth-child(2),.words,thead th:last-child{text-align:left}
tbody th{font-weight:600;position:sticky;left:0;background:var(--card)}
tbody th a{color:inherit;text-decoration:none}
tbody th a:hover{text-decoration:underline}
td.words:last-child{color:var(--soft);white-space:normal;min-width:190px}
.bar{display:inline-block;width:60px;height:8px;margin-right:8px;border-radius:4px;
background:linear-gradient(90deg,var(--good) calc(100%*var(--share)),var(--grid) 0)}
.badge{display:inline-block;padding:1px 9px;border-radius:10px;font-size:12.5px;font-weight:600;color:#fff;
background:var(--soft)}
.badge.stable{background:#00805d}.badge.overloaded{background:#a87200}
.badge.recovering{background:#2878a8}.badge.metastable{background:#c04c00}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(560px,100%),1fr));gap:16px;
margin-top:16px}
.cards.wide{grid-template-columns:minmax(0,1fr)}
.card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:16px 18px 10px}
figure{margin:0 0 12px}
figcaption{font-size:13px;margin:0 0 2px;color:var(--soft)}
figcaption b{color:var(--ink);font-weight:600}
.unit{margin-right:6px}
.key{display:inline-block;margin-left:12px;white-space:nowrap}
.swatch{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;
vertical-align:middle;background:currentColor}
.swatch.block{width:11px;height:11px}
svg{display:block;width:100%;height:auto;overflow:visible}
.views{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(470px,100%),1fr));gap:2px 20px}
.heads{font-size:13px;color:var(--soft);border-bottom:1px solid var(--rule);padding:0 0 5px;margin:0 0 10px}
.heads .swatch{margin-left:4px}
.tick{font-size:11px;fill:var(--soft)}
.grid{stroke:var(--grid);stroke-width:1}
.line{fill:none;stroke:currentColor;stroke-width:1.6;stroke-linejoin:round}
.area{fill:currentColor;opacity:.16;stroke:none}
.rows{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 10px;align-items:center}
.rows svg{height:18px;shape-rendering:crispEdges;overflow:hidden}
.row{font-size:12.5px;text-align:right}
.times{position:relative;height:18px;font-size:11px;color:var(--soft)}
.times span{position:absolute;transform:translateX(-50%);white-space:nowrap}
.ramp{display:inline-block;width:90px;height:9px;border-radius:2px;margin:0 6px;
background:linear-gradient(90deg,#c04c00,#e9a15c,#f3e3c3,#8cc5b0,#00805d)}
.marks{fill:none;stroke:var(--ink);stroke-width:1.5;stroke-dasharray:2 2;vector-effect:non-scaling-stroke}
.swatch.marks{background:none;border:1.5px dotted var(--ink)}
.hover{fill:transparent}
.hover:hover{fill:var(--soft);fill-opacity:.14}
.fault{fill:var(--fault);opacity:.7}
.swatch.fault{background:var(--fault)}
.offered{color:var(--offered)}.good{color:var(--good)}.p50{color:var(--p50)}.p99{color:var(--p99)}
.calls{color:var(--calls)}.retries{color:var(--retries)}.refused{color:var(--refused)}
.gauge{color:var(--gauge)}
rect.stable,.swatch.stable{fill:var(--stable);background:var(--stable)}
rect.overloaded,.swatch.overloaded{fill:var(--overloaded);background:var(--overloaded)}
rect.recovering,.swatch.recovering{fill:var(--recovering);background:var(--recovering)}
rect.metastable,.swatch.metastable{fill:var(--metastable);background:var(--metastable)}
rect.closed,.swatch.closed{fill:var(--stable);background:var(--stable);opacity:.55}
rect.half-open,.swatch.half-open{fill:#e3c000;background:#e3c000}
rect.open,.swatch.open{fill:var(--metastable);background:var(--metastable)}
footer{margin-top:22px;font-size:13px}
code{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:12px}
@media (max-width:760px){main{padding:18px 12px 28px}.card{padding:12px 12px 6px}.tick{font-size:15px}
.rows{grid-template-columns:minmax(0,1fr)}.rows>span:empty{display:none}.row{text-align:left}
tbody th{white-space:normal;min-width:96px}.heads{display:none}}
@media print{.card{break-inside:avoid}}
";
