// The first page: search, results, one trace. Every value that came from outside becomes a text node.
const root = document.getElementById('jaeger-ui-root');

const h = (tag, props, ...children) => {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {}))
    if (key === 'style') for (const [k, v] of Object.entries(value)) el.style.setProperty(k, v);
    else if (key.startsWith('on')) el.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) el.setAttribute(key, value === true ? '' : value);
  el.append(...children.flat(9).filter(c => c !== undefined && c !== null && c !== false));
  return el;
};

const colour = name => {
  let hash = 2166136261;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619);
  return `oklch(0.66 0.13 ${(hash >>> 0) % 360})`;
};
const clip = (text, max = 2000) => text.length > max ? text.slice(0, max) + ` … (${text.length} characters)` : text;
const digits = n => n.toFixed(n < 10 ? 2 : n < 100 ? 1 : 0).replace(/\.0+$|(\.\d*?)0+$/, '$1');
const duration = us => us < 1000 ? `${digits(us)}µs` : us < 1e6 ? `${digits(us / 1e3)}ms`
  : us < 6e7 ? `${digits(us / 1e6)}s` : `${Math.floor(us / 6e7)}m ${digits(us % 6e7 / 1e6)}s`;
const plural = (n, word) => `${n.toLocaleString('en')} ${word}${n === 1 ? '' : 's'}`;
const ago = us => {
  const s = Math.round((Date.now() - us / 1000) / 1000);
  return s < 60 ? `${Math.max(s, 0)} s ago` : s < 3600 ? `${Math.floor(s / 60)} min ago`
    : s < 86400 ? `${Math.floor(s / 3600)} h ago` : `${Math.floor(s / 86400)} d ago`;
};
const clock = us => new Date(us / 1000).toLocaleString('sv') + '.' + String(Math.floor(us % 1e6)).padStart(6, '0');

const get = async url => {
  const answer = await fetch(url);
  const text = await answer.text();
  if (!answer.ok) {
    let said = text;
    try { const e = JSON.parse(text); said = e.errors?.[0]?.msg ?? e.error?.message ?? text; } catch { /* plain text */ }
    throw Object.assign(new Error(said.trim()), { status: answer.status });
  }
  return JSON.parse(text);
};

const show = (title, ...content) => {
  document.title = title ? `${title} · lymer` : 'lymer';
  const jump = h('form', { role: 'search', onsubmit: e => {
    e.preventDefault();
    const id = e.target.id_.value.trim();
    if (id) go(`trace/${encodeURIComponent(id)}`);
  } }, h('input', { name: 'id_', placeholder: 'Trace ID', 'aria-label': 'Go to trace ID', spellcheck: 'false' }));
  root.replaceChildren(
    h('header', {}, h('a', { class: 'logo', href: 'search' }, h('img', { src: 'favicon.ico', alt: '' }), 'lymer'), jump),
    h('main', {}, ...content));
};
// The address of the mount point: what <base> says, whatever prefix a proxy added.
// Made absolute, because a relative one would move with every pushState.
const base = new URL(document.baseURI);
document.querySelector('base').href = base.href;
const go = path => { history.pushState(null, '', new URL(path, base)); route(); };
const here = () => location.pathname.slice(base.pathname.length);

// --- the empty store -------------------------------------------------------------------------------------------

const first = () => {
  const host = location.hostname.includes(':') ? `[${location.hostname}]` : location.hostname;
  const moved = Number(location.port || 16686) - 16686;
  const port = p => p + (moved > 0 && moved < 40000 ? moved : 0);
  const http = `http://${host}:${port(4318)}`;
  const span = `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"hello"}}]},`
    + `"scopeSpans":[{"spans":[{"traceId":"'$(openssl rand -hex 16)'","spanId":"'$(openssl rand -hex 8)'","name":"first span",`
    + `"kind":2,"startTimeUnixNano":"'$(date +%s%N)'","endTimeUnixNano":"'$(($(date +%s%N)+5000000))'"}]}]}]}`;
  return h('section', { class: 'empty' },
    h('h1', {}, h('span', { class: 'pulse' }), 'Waiting for the first span'),
    h('p', { class: 'soft' }, 'This page looks every two seconds and shows the trace as soon as it is here.'),
    h('h2', {}, 'Any OpenTelemetry SDK'),
    h('pre', {}, `export OTEL_SERVICE_NAME=my-service\nexport OTEL_EXPORTER_OTLP_ENDPOINT=${http}`),
    h('h2', {}, 'Node.js'),
    h('pre', {}, 'npm install @opentelemetry/api @opentelemetry/auto-instrumentations-node\n'
      + `OTEL_EXPORTER_OTLP_ENDPOINT=${http} node --require @opentelemetry/auto-instrumentations-node/register app.js`),
    h('h2', {}, 'Python'),
    h('pre', {}, 'pip install opentelemetry-distro opentelemetry-exporter-otlp && opentelemetry-bootstrap -a install\n'
      + `OTEL_EXPORTER_OTLP_ENDPOINT=http://${host}:${port(4317)} opentelemetry-instrument python app.py`),
    h('h2', {}, 'A first span by hand'),
    h('pre', {}, `curl ${http}/v1/traces -H 'content-type: application/json' -d '${span}'`),
    h('h2', {}, 'A lot of them'),
    h('pre', {}, `lymer load --endpoint grpc://${host}:${port(4317)} --traces 100`));
};

// --- search ----------------------------------------------------------------------------------------------------

const lookbacks = { '5m': 'Last 5 minutes', '15m': 'Last 15 minutes', '1h': 'Last hour', '6h': 'Last 6 hours',
  '24h': 'Last 24 hours', '2d': 'Last 2 days', '7d': 'Last 7 days', '4w': 'Last 4 weeks' };
const unit = { m: 60, h: 3600, d: 86400, w: 604800 };
const seconds = text => { const m = /^(\d+(?:\.\d+)?)([mhdw])$/.exec(text); return m ? m[1] * unit[m[2]] : 3600; };

// logfmt as Jaeger's form has it: key=value key="with spaces"; a JSON object is taken as it is.
const parseTags = text => {
  if (text.trim().startsWith('{')) return JSON.parse(text);
  const tags = {};
  for (const m of text.matchAll(/([^\s=]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))/g)) tags[m[1]] = m[2]?.replace(/\\(.)/g, '$1') ?? m[3];
  return tags;
};
const formatTags = tags => Object.entries(tags).map(([k, v]) => /[\s"=]/.test(v) || v === '' ? `${k}=${JSON.stringify(v)}` : `${k}=${v}`).join(' ');

const readForm = () => {
  const p = new URLSearchParams(location.search);
  const all = v => v === null || v === 'all' || v === '-' || v.startsWith('__all_') ? '' : v;
  const tags = {};
  for (const t of p.getAll('tag')) { const i = t.indexOf(':'); if (i > 0) tags[t.slice(0, i)] = t.slice(i + 1); }
  for (const t of p.getAll('tags')) try { Object.assign(tags, JSON.parse(t)); } catch { /* not JSON: ignored, as in Jaeger */ }
  return { service: all(p.get('service')), operation: all(p.get('operation')), tags,
    minDuration: p.get('minDuration') ?? '', maxDuration: p.get('maxDuration') ?? '', limit: p.get('limit') || '20',
    lookback: p.get('lookback') || (p.get('start') ? 'custom' : '1h'), start: p.get('start'), end: p.get('end'),
    asked: [...p.keys()].length > 0 };
};

let visit = 0; // a page left behind must not draw over the new one
const search = async () => {
  const mine = ++visit, f = readForm();
  let services;
  try { services = (await get('api/services')).data ?? []; } catch (e) { return show('', failed(e)); }
  if (mine !== visit) return;
  if (!services.length) {
    show('', first());
    setTimeout(() => mine === visit && search(), 2000);
    return;
  }
  const out = h('section', { 'aria-live': 'polite' });
  const option = (value, text, chosen) => h('option', { value, selected: value === chosen }, text);
  const operation = h('select', { name: 'operation' }, option('', 'All', f.operation));
  const operations = async service => {
    const list = service ? (await get(`api/services/${encodeURIComponent(service)}/operations`)).data ?? [] : [];
    operation.replaceChildren(option('', 'All', ''), ...list.sort().map(o => option(o, o, f.operation)));
  };
  const service = h('select', { name: 'service', onchange: e => operations(e.target.value) },
    option('', 'All services', f.service), ...services.map(s => option(s, s, f.service)));
  const times = f.lookback in lookbacks ? lookbacks : { ...lookbacks, [f.lookback]: f.lookback === 'custom' ? 'From the link' : f.lookback };
  const field = (name, text, hint) => h('label', {}, text, h('input', { name, value: f[name], placeholder: hint, spellcheck: 'false' }));
  const form = h('form', { onsubmit: e => {
    e.preventDefault();
    const v = new FormData(form), p = new URLSearchParams();
    for (const k of ['service', 'operation', 'lookback', 'minDuration', 'maxDuration', 'limit']) if (v.get(k)) p.set(k, v.get(k));
    let tags;
    try { tags = parseTags(v.get('tags')); } catch { out.replaceChildren(failed(new Error('Tags: not a JSON object'))); return; }
    if (Object.keys(tags).length) p.set('tags', JSON.stringify(tags));
    if (v.get('lookback') === 'custom') { p.set('start', f.start); if (f.end) p.set('end', f.end); }
    go(`search?${p}`);
  } },
    h('label', {}, 'Service', service), h('label', {}, 'Operation', operation),
    h('label', {}, 'Tags', h('input', { name: 'tags', value: formatTags(f.tags), placeholder: 'http.status_code=500 error=true', spellcheck: 'false' })),
    h('label', {}, 'Time', h('select', { name: 'lookback' }, ...Object.entries(times).map(([v, t]) => option(v, t, f.lookback)))),
    h('div', { class: 'two' }, field('minDuration', 'At least', '100ms'), field('maxDuration', 'At most', '1.5s')),
    field('limit', 'Limit'), h('button', { class: 'main' }, 'Find traces'));
  show(f.service, h('div', { class: 'search' }, form, out));
  operations(f.service).catch(() => {});
  await results(f, out, mine);
};

const results = async (f, out, mine) => {
  const now = Date.now() * 1000, custom = f.lookback === 'custom';
  const end = custom && f.end ? Number(f.end) : now, start = custom ? Number(f.start) : end - seconds(f.lookback) * 1e6;
  const time = us => new Date(us / 1000).toISOString();
  const q = new URLSearchParams({ 'query.startTimeMin': time(start), 'query.startTimeMax': time(end + 1000), 'query.searchDepth': f.limit });
  if (f.service) q.set('query.serviceName', f.service);
  if (f.operation) q.set('query.operationName', f.operation);
  if (f.minDuration) q.set('query.durationMin', f.minDuration);
  if (f.maxDuration) q.set('query.durationMax', f.maxDuration);
  if (Object.keys(f.tags).length) q.set('query.attributes', JSON.stringify(f.tags));
  let list;
  try { list = (await get(`api/v3/trace-summaries?${q}`)).summaries ?? []; } catch (e) {
    if (e.status !== 404) return mine === visit && out.replaceChildren(failed(e));
    list = [];
  }
  if (mine !== visit) return;
  const rows = list.map(t => ({ ...t, start: t.minStartTimeUnixNano / 1000, us: (Number(BigInt(t.maxEndTimeUnixNano ?? 0) - BigInt(t.minStartTimeUnixNano ?? 0))) / 1000 }));
  const longest = Math.max(...rows.map(t => t.us), 1);
  out.replaceChildren(
    h('div', { class: 'head' }, h('h1', {}, plural(rows.length, 'trace')), h('span', { class: 'soft' }, rows.length >= f.limit ? 'the newest; raise the limit for more' : 'newest first')),
    ...rows.map(t => h('a', { class: 'row', href: `trace/${t.traceId}` },
      h('div', {}, h('b', {}, t.rootServiceName ? `${t.rootServiceName}: ${t.rootOperationName ?? ''}` : 'Trace without a root span'), ' ',
        h('span', { class: 'soft mono' }, t.traceId.slice(0, 7))),
      h('b', { class: 'num' }, duration(t.us)),
      h('div', { class: 'chips' }, h('span', { class: 'soft' }, plural(t.spanCount ?? 0, 'span')),
        t.errorSpanCount ? h('span', { class: 'bad' }, plural(t.errorSpanCount, 'error')) : null,
        (t.services ?? []).map(s => h('span', { class: 'chip', style: { '--c': colour(s.name) } }, `${s.name} ${s.spanCount ?? 0}`))),
      h('span', { class: 'soft num', title: clock(t.start) }, ago(t.start)),
      h('i', { class: 'bar', style: { width: `${100 * t.us / longest}%` } }))),
    rows.length ? '' : h('p', { class: 'soft' }, 'No trace matches. Widen the time, or loosen a filter.'));
};

const failed = e => h('p', { class: 'bad', role: 'alert' }, e.message || 'The server cannot be reached.');

// --- one trace -------------------------------------------------------------------------------------------------

const tree = trace => {
  const spans = new Map(trace.spans.map(s => [s.spanID, { ...s, children: [] }])), roots = [];
  for (const s of spans.values()) {
    const up = s.references.find(r => r.refType === 'CHILD_OF' && r.traceID === s.traceID) ?? s.references.find(r => r.traceID === s.traceID);
    const parent = up && up.spanID !== s.spanID && spans.get(up.spanID);
    (parent ? parent.children : roots).push(s);
  }
  const flat = [], stack = [], seen = new Set();
  const push = (list, depth) => { for (const s of list.sort((a, b) => b.startTime - a.startTime)) stack.push([s, depth]); };
  const drain = () => { while (stack.length) { const [s, depth] = stack.pop(); if (seen.has(s)) continue; seen.add(s); s.depth = depth; s.at = flat.length; flat.push(s); push(s.children, depth + 1); } };
  push(roots, 0); drain();
  for (const s of spans.values()) if (!seen.has(s)) { stack.push([s, 0]); drain(); } // parents in a circle
  const last = flat.map(() => 0); // index behind each subtree
  for (let i = flat.length - 1; i >= 0; i--) last[i] = flat[i].children.reduce((m, c) => c.at > i ? Math.max(m, last[c.at]) : m, i + 1);
  return { flat, last };
};

const isError = s => s.tags.some(t => t.key === 'error' && (t.value === true || t.value === 'true'));
const table = tags => h('table', {}, tags.map(t => h('tr', {}, h('td', {}, clip(t.key, 200)), h('td', { class: 'mono' }, clip(String(t.value))))));

const detail = (s, process, start, close) => h('aside', { class: 'detail', 'aria-label': 'Span' },
  h('button', { class: 'x', 'aria-label': 'Close', onclick: close }, '×'),
  h('h2', {}, clip(s.operationName, 300)),
  h('div', { class: 'facts' }, h('span', { class: 'chip', style: { '--c': colour(process.serviceName) } }, process.serviceName),
    h('b', { class: 'num' }, duration(s.duration)), h('span', { class: 'soft num' }, `+${duration(s.startTime - start)}`)),
  h('div', { class: 'soft mono' }, s.spanID),
  (s.warnings ?? []).map(w => h('p', { class: 'bad' }, w)),
  s.tags.length ? [h('h3', {}, 'Attributes'), table(s.tags)] : null,
  s.logs.length ? [h('h3', {}, 'Events'), s.logs.map(l => [h('div', { class: 'soft num' }, `+${duration(l.timestamp - start)}`), table(l.fields)])] : null,
  s.references.length > 1 || s.references.some(r => r.refType !== 'CHILD_OF')
    ? [h('h3', {}, 'Links'), s.references.filter(r => r.refType !== 'CHILD_OF').map(r => h('div', {}, h('a', { class: 'mono', href: `trace/${r.traceID}?uiFind=${r.spanID}` }, `${r.traceID} / ${r.spanID}`)))] : null,
  h('h3', {}, 'Resource'), table([{ key: 'service.name', value: process.serviceName }, ...process.tags]));

const ROW = 28;
const trace = async id => {
  const mine = ++visit;
  let t;
  try { t = (await get(`api/traces/${encodeURIComponent(id)}`)).data[0]; } catch (e) {
    return mine === visit && show('Trace', h('h1', {}, e.status === 404 ? 'This trace is not here' : 'This trace cannot be shown'), failed(e),
      h('p', { class: 'soft' }, e.status === 404 ? 'It may have expired, or its spans have not arrived yet.' : ''));
  }
  if (mine !== visit) return;
  const { flat, last } = tree(t), folded = new Set();
  let start = Infinity, end = 0, errors = 0;
  for (const s of flat) { start = Math.min(start, s.startTime); end = Math.max(end, s.startTime + s.duration); errors += isError(s); }
  const total = Math.max(end - start, 1), head = flat[0];
  const counts = new Map();
  for (const s of flat) { const n = t.processes[s.processID].serviceName; counts.set(n, (counts.get(n) ?? 0) + 1); }

  let shown = [], picked = null;
  const rows = h('div', { class: 'rows', role: 'tree', tabindex: '0', 'aria-label': 'Spans' }), space = h('div', {}), page = h('div', { class: 'trace closed' });
  const lay = () => {
    shown = [];
    for (let i = 0; i < flat.length; i = folded.has(flat[i]) ? last[i] : i + 1) shown.push(flat[i]);
    space.style.height = `${shown.length * ROW}px`;
    draw();
  };
  const pick = s => {
    picked = s;
    page.querySelector('.detail')?.remove();
    page.classList.toggle('closed', !s);
    if (s) page.append(detail(s, t.processes[s.processID], start, () => pick(null)));
    const p = new URL(location); s ? p.searchParams.set('uiFind', s.spanID) : p.searchParams.delete('uiFind');
    history.replaceState(null, '', p);
    draw();
  };
  const fold = s => { folded.has(s) ? folded.delete(s) : folded.add(s); lay(); };
  const line = (s, i) => {
    const service = t.processes[s.processID].serviceName, left = 100 * (s.startTime - start) / total, width = 100 * s.duration / total;
    return h('div', { class: 'span', role: 'treeitem', 'aria-level': s.depth + 1, 'aria-selected': String(s === picked), 'data-span': s.spanID,
      title: `${service}: ${clip(s.operationName, 200)} ${duration(s.duration)}`,
      style: { top: `${i * ROW}px`, '--c': colour(service), '--d': s.depth }, onclick: () => pick(s === picked ? null : s) },
      h('div', { class: 'label' }, s.children.length ? h('button', { class: 'fold', 'aria-label': 'Fold', onclick: e => { e.stopPropagation(); fold(s); } }, folded.has(s) ? '▶' : '▼') : h('span', { class: 'fold' }),
        isError(s) ? h('span', { class: 'bad', title: 'error' }, '!') : null, h('b', {}, service), h('span', { class: 'soft' }, clip(s.operationName, 200))),
      h('div', { class: 'lane' }, h('i', { style: { left: `${left}%`, width: `${width}%` } }),
        h('em', { class: left + width >= 80 && left <= 20 ? 'in' : null, style: left + width < 80 ? { left: `${left + width}%` } : left > 20 ? { right: `${100 - left}%` } : { left: `${left}%` } }, duration(s.duration))));
  };
  const draw = () => {
    const from = Math.max(0, Math.floor(rows.scrollTop / ROW) - 10), to = Math.min(shown.length, from + Math.ceil(rows.clientHeight / ROW) + 20);
    space.replaceChildren(...shown.slice(from, to).map((s, i) => line(s, from + i)));
  };
  const move = step => {
    const i = Math.min(Math.max((picked ? shown.indexOf(picked) : -1) + step, 0), shown.length - 1);
    pick(shown[i]); reveal(i);
  };
  const reveal = i => { if (i * ROW < rows.scrollTop || (i + 1) * ROW > rows.scrollTop + rows.clientHeight) rows.scrollTop = i * ROW - rows.clientHeight / 2; };
  rows.addEventListener('scroll', () => requestAnimationFrame(draw));
  rows.addEventListener('keydown', e => {
    const act = { ArrowDown: () => move(1), ArrowUp: () => move(-1), ArrowLeft: () => picked && !folded.has(picked) && fold(picked),
      ArrowRight: () => picked && folded.has(picked) && fold(picked), Escape: () => pick(null) }[e.key];
    if (act) { e.preventDefault(); act(); }
  });
  rows.append(space);
  page.append(h('section', { class: 'fall' },
    h('div', { class: 'axis' }, h('div', {}, 'Service and operation'), h('div', {}, [0, .25, .5, .75, 1].map(x => h('span', { class: 'num' }, duration(total * x))))), rows));
  const title = `${t.processes[head.processID].serviceName}: ${head.operationName}`;
  show(title, h('h1', {}, title, ' ', h('span', { class: 'soft mono' }, t.traceID)),
    h('div', { class: 'facts' }, h('span', {}, clock(start)), h('b', { class: 'num' }, duration(total)), h('span', {}, plural(flat.length, 'span')),
      errors ? h('span', { class: 'bad' }, plural(errors, 'error')) : null,
      h('span', { class: 'chips' }, [...counts].map(([n, c]) => h('span', { class: 'chip', style: { '--c': colour(n) } }, `${n} ${c}`))),
      h('a', { href: `api/traces/${t.traceID}?prettyPrint=true` }, 'JSON')),
    (t.warnings ?? []).map(w => h('p', { class: 'bad' }, w)), page);
  const fit = () => { rows.style.maxHeight = `${Math.max(240, innerHeight - rows.getBoundingClientRect().top - 24)}px`; draw(); };
  onresize = () => mine === visit && fit();
  lay(); fit();
  const wanted = new URLSearchParams(location.search).get('uiFind');
  const at = wanted ? shown.findIndex(s => s.spanID === wanted) : -1;
  if (at >= 0) { pick(shown[at]); reveal(at); }
};

// --- routes ----------------------------------------------------------------------------------------------------

const route = () => {
  const path = here();
  const m = /^trace\/([^/]+)\/?$/.exec(path);
  return m ? trace(decodeURIComponent(m[1])) : search();
};
document.addEventListener('click', e => {
  const a = e.target.closest('a');
  if (!a || e.defaultPrevented || e.button || e.metaKey || e.ctrlKey || e.shiftKey || a.origin !== location.origin) return;
  const path = a.pathname.slice(base.pathname.length);
  if (path === 'search' || path.startsWith('trace/')) { e.preventDefault(); go(path + a.search); }
});
addEventListener('popstate', route);
route();
