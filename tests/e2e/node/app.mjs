// SPDX-License-Identifier: Apache-2.0
// A small web shop of four processes that speak HTTP with each other, instrumented by OpenTelemetry's own HTTP
// instrumentation as an application would be. Serves real requests, exports what they leave behind and prints what was sent.
//   node app.mjs OTLP-HTTP-URL REQUESTS
import { fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { context, propagation, trace } from '@opentelemetry/api';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { defaultResource, detectResources, hostDetector, osDetector, processDetector, resourceFromAttributes, serviceInstanceIdDetector } from '@opentelemetry/resources';

const PARALLEL = 8;
const PRODUCTS = Array.from({ length: 40 }, (_, i) => ({ id: `SKU-${1000 + i}`, price: 99 + 37 * i }));
const pick = list => list[Math.floor(Math.random() * list.length)];

// What each service answers; `call` asks another one, `work` is a span of its own.
const SERVICES = {
  gateway: async (url, { call, work }) => {
    const user = url.searchParams.get('user');
    const cart = await call('cart', 'GET', `/carts/${user}`);
    const items = await Promise.all(cart.items.map(i => call('catalogue', 'GET', `/products/${i.id}?currency=${pick(['EUR', 'USD', 'KRW'])}`)));
    if (url.pathname !== '/checkout') return { items };
    const total = await work('sum', { 'app.items': items.length, 'app.user': user }, () => items.reduce((sum, i) => sum + i.price, 0));
    return call('payment', 'POST', `/charges?amount=${total}`);
  },
  cart: async (url, { work }) => ({
    items: await work('load cart', { 'app.cart': url.pathname.split('/')[2] }, () => Array.from({ length: 1 + Math.floor(Math.random() * 4) }, () => pick(PRODUCTS))),
  }),
  catalogue: async (url, { work }) => {
    const id = url.pathname.split('/')[2];
    return work('find product', { 'app.product': id, 'app.currency': url.searchParams.get('currency') }, () => PRODUCTS.find(p => p.id === id));
  },
  payment: async (url, { call, fail }) => {
    if (Math.random() < 0.02) return fail(502);
    const cart = await call('cart', 'GET', '/carts/audit');
    return { charged: Number(url.searchParams.get('amount')), audited: cart.items.length };
  },
};

async function service(name, endpoint) {
  const exporter = new OTLPTraceExporter({ url: endpoint });
  let sent = 0, failed = 0;
  const counting = {
    export: (spans, done) => exporter.export(spans, result => {
      if (result.code === 0) sent += spans.length; else failed += spans.length;
      done(result);
    }),
    shutdown: () => exporter.shutdown(),
    forceFlush: async () => {},
  };
  const provider = new BasicTracerProvider({
    resource: defaultResource().merge(detectResources({ detectors: [hostDetector, osDetector, processDetector, serviceInstanceIdDetector] }))
      .merge(resourceFromAttributes({ 'service.name': name, 'service.version': '1.4.2' })),
    spanProcessors: [new BatchSpanProcessor(counting, { maxQueueSize: 1 << 20 })],
  });
  trace.setGlobalTracerProvider(provider);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  const instrumentation = new HttpInstrumentation({ ignoreOutgoingRequestHook: request => request.path === '/v1/traces' });
  instrumentation.setTracerProvider(provider);
  const http = createRequire(import.meta.url)('http'); // by require: that is where it is instrumented
  const agent = new http.Agent({ keepAlive: true }), tracer = trace.getTracer('shop', '1.4.2');
  let ports = {};

  const call = (to, method, path) => new Promise((resolve, reject) => {
    http.request({ agent, host: '127.0.0.1', port: ports[to], method, path, headers: { 'user-agent': `${name}/1.4.2` } }, response => {
      let text = '';
      response.on('data', chunk => { text += chunk; }).on('end', () => resolve(JSON.parse(text)));
    }).on('error', reject).end();
  });
  const work = (what, attributes, fn) => tracer.startActiveSpan(what, { attributes }, async span => {
    try { return await fn(); } finally { span.end(); }
  });
  let open = 0, idle = () => {};
  const server = http.createServer(async (request, response) => {
    open++;
    response.on('close', () => { if (!--open) idle(); });
    const fail = status => { response.statusCode = status; return { error: status }; };
    const answer = await SERVICES[name](new URL(request.url, 'http://shop'), { call, work, fail });
    response.setHeader('content-type', 'application/json').end(JSON.stringify(answer));
  });
  process.on('message', async message => {
    if (message.ports) { ports = message.ports; return; }
    if (open) await new Promise(resolve => { idle = resolve; }); // every span has ended then
    await provider.forceFlush();
    process.send({ sent, failed }, () => process.exit(0));
  });
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
}

const once = child => new Promise((resolve, reject) => {
  child.once('message', resolve);
  child.once('exit', code => reject(new Error(`a service ended with ${code}`)));
});

async function shop(endpoint, requests) {
  const names = Object.keys(SERVICES), children = names.map(n => fork(process.argv[1], ['--service', n, endpoint]));
  const ready = await Promise.all(children.map(once));
  const ports = Object.fromEntries(names.map((n, i) => [n, ready[i].port]));
  for (const child of children) child.send({ ports });
  let left = requests;
  await Promise.all(Array.from({ length: PARALLEL }, async () => {
    while (left-- > 0) {
      const path = Math.random() < 0.3 ? 'checkout' : 'cart';
      const answer = await fetch(`http://127.0.0.1:${ports.gateway}/${path}?user=${Math.floor(Math.random() * 5000)}`, { headers: { 'user-agent': 'browser/1.0' } });
      await answer.json();
    }
  }));
  const counts = await Promise.all(children.map(c => { c.send({ stop: true }); return once(c); }));
  console.log(JSON.stringify({ requests, sent: counts.reduce((n, c) => n + c.sent, 0), failed: counts.reduce((n, c) => n + c.failed, 0) }));
}

if (process.argv[2] === '--service') await service(process.argv[3], process.argv[4]);
else await shop(process.argv[2], Number(process.argv[3]));
